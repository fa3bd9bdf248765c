"""Tiny checkpoints of every family that `kind: vlm` reads: the real transformers classes and processors, under 100 k parameters.

`save_checkpoint(name, folder)` writes what a download would bring: config.json, model.safetensors with the language-model head,
tokenizer and processor. The tokenizer is a byte-level one without merges; everything else is what the family publishes, smaller.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 8, "max_position_embeddings": 2048}
SIGLIP = {"model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
          "num_attention_heads": 2, "image_size": 28, "patch_size": 14, "vision_use_head": False}
IDEFICS_VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32,
                  "patch_size": 8}
CHAT = ("{% for m in messages %}<|{{ m['role'] }}|>{% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE"
        "{% else %}{{ c['text'] }}{% endif %}{% endfor %}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}")


def tokenizer(named: dict[str, str] | None = None, also: tuple[str, ...] = ()) -> transformers.TokenizersBackend:
    """Bytes, the usual special tokens, and the `named` ones of a family (`{"image_token": "<image>"}`)."""
    named = named or {}
    special = dict.fromkeys(["<s>", "<pad>", "</s>", "<unk>", *named.values(), *also])
    vocabulary = {token: i for i, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return transformers.TokenizersBackend(
        tokenizer_object=made, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        extra_special_tokens=named or list(also))


def _llava_ids(words: Any) -> dict[str, Any]:
    return {"pad_token_id": words.pad_token_id, "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}


def paligemma(text_type: str = "gemma") -> tuple[dict[str, Any], Any]:
    words = tokenizer({"image_token": "<image>"})
    processor = transformers.PaliGemmaProcessor(
        transformers.SiglipImageProcessor(size={"height": 28, "width": 28}, image_seq_length=4), words)
    text = {"model_type": text_type, **TEXT, **_llava_ids(words), "vocab_size": len(words)}
    if text_type == "gemma2":
        text["sliding_window"] = 16
    return {"model_type": "paligemma", "image_token_index": words.image_token_id, "projection_dim": 32,
            "text_config": text, "vision_config": SIGLIP}, processor


def paligemma2() -> tuple[dict[str, Any], Any]:
    return paligemma("gemma2")


def idefics3() -> tuple[dict[str, Any], Any]:
    words = tokenizer({"image_token": "<image>", "fake_image_token": "<fake_token_around_image>",
                       "global_image_token": "<global-img>", "end_of_utterance_token": "<end_of_utterance>"})
    processor = transformers.Idefics3Processor(
        transformers.Idefics3ImageProcessor(max_image_size={"longest_edge": 32}, size={"longest_edge": 64}), words,
        image_seq_len=4, chat_template=CHAT.replace("IMAGE", "<image>"))
    return {"model_type": "idefics3", "scale_factor": 2, "image_token_id": words.image_token_id,
            "pad_token_id": words.pad_token_id,
            "text_config": {"model_type": "llama", **TEXT, **_llava_ids(words), "vocab_size": len(words)},
            "vision_config": IDEFICS_VISION}, processor


def smolvlm() -> tuple[dict[str, Any], Any]:
    config, processor = idefics3()
    size = {"max_image_size": {"longest_edge": 32}, "size": {"longest_edge": 64}}
    smol = transformers.SmolVLMProcessor(
        transformers.SmolVLMImageProcessor(**size), processor.tokenizer, transformers.SmolVLMVideoProcessor(**size),
        image_seq_len=4, chat_template=processor.chat_template)
    return {**config, "model_type": "smolvlm"}, smol


def qwen(version: str) -> tuple[dict[str, Any], Any]:
    words = tokenizer({"image_token": "<|image_pad|>", "video_token": "<|video_pad|>",
                       "vision_start_token": "<|vision_start|>", "vision_end_token": "<|vision_end|>"})
    three = version == "qwen3_vl"
    kind = transformers.Qwen3VLProcessor if three else transformers.Qwen2_5_VLProcessor
    video = transformers.Qwen3VLVideoProcessor if three else transformers.Qwen2VLVideoProcessor
    patch = {"patch_size": 16 if three else 14, "merge_size": 2}
    processor = kind(transformers.Qwen2VLImageProcessor(**patch), words, video(**patch),
                     chat_template=CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"))
    text = {**TEXT, "vocab_size": len(words), **_llava_ids(words),
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4}}
    vision = {"depth": 3, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 32, **patch}
    del vision["merge_size"]
    if three:
        vision |= {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16}
    else:
        del text["head_dim"]
        vision |= {"fullatt_block_indexes": [1], "window_size": 56}
    ids = {f"{name}_token_id": getattr(words, f"{name}_token_id") for name in ("image", "video", "vision_start", "vision_end")}
    return {"model_type": version, "text_config": text, "vision_config": vision, **ids}, processor


def qwen2_5_vl() -> tuple[dict[str, Any], Any]:
    return qwen("qwen2_5_vl")


def qwen3_vl() -> tuple[dict[str, Any], Any]:
    return qwen("qwen3_vl")


def internvl() -> tuple[dict[str, Any], Any]:
    words = tokenizer({"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
                       "video_token": "<video>"})
    processor = transformers.InternVLProcessor(
        transformers.GotOcr2ImageProcessor(size={"height": 56, "width": 56}), words, transformers.InternVLVideoProcessor(),
        image_seq_length=4, chat_template=CHAT.replace("IMAGE", "<IMG_CONTEXT>"))
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
              "image_size": [56, 56]}
    return {"model_type": "internvl", "image_token_id": words.context_image_token_id, "image_seq_length": 4,
            "text_config": {"model_type": "qwen3", **TEXT, **_llava_ids(words), "vocab_size": len(words)},
            "vision_config": vision}, processor


def llava_onevision() -> tuple[dict[str, Any], Any]:
    words = tokenizer({"image_token": "<image>", "video_token": "<video>"})
    pinpoints = [[28, 28], [28, 56], [56, 28]]
    processor = transformers.LlavaOnevisionProcessor(
        transformers.LlavaOnevisionImageProcessor(size={"height": 28, "width": 28}, image_grid_pinpoints=pinpoints), words,
        transformers.LlavaOnevisionVideoProcessor(), num_image_tokens=4, vision_feature_select_strategy="full",
        chat_template=CHAT.replace("IMAGE", "<image>"))
    text = {"model_type": "qwen2", **TEXT, **_llava_ids(words), "vocab_size": len(words)}
    del text["head_dim"]
    return {"model_type": "llava_onevision", "image_token_index": words.image_token_id, "image_grid_pinpoints": pinpoints,
            "video_token_index": words.video_token_id, "text_config": text, "vision_config": SIGLIP}, processor


def florence2() -> tuple[dict[str, Any], Any]:
    words = tokenizer({"image_token": "<image>"})
    processor = transformers.Florence2Processor(
        transformers.CLIPImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False, image_seq_length=5), words)
    text = {"model_type": "bart", "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
            "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 256,
            **_llava_ids(words), "decoder_start_token_id": words.eos_token_id, "vocab_size": len(words)}
    vision = {"depths": [1, 1, 1, 1], "embed_dim": [8, 8, 16, 16], "num_heads": [2] * 4, "num_groups": [2] * 4,
              "projection_dim": 32, "window_size": 4, "max_position_embeddings": 8, "max_temporal_embeddings": 4}
    return {"model_type": "florence2", "image_token_id": words.image_token_id, "text_config": text,
            "vision_config": vision}, processor


def kosmos2() -> tuple[dict[str, Any], Any]:
    words = tokenizer()
    processor = transformers.Kosmos2Processor(
        transformers.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}), words, 4)
    text = {"vocab_size": len(words), "embed_dim": 32, "layers": 2, "ffn_dim": 48, "attention_heads": 4,
            "max_position_embeddings": 2048, **_llava_ids(words)}
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
              "patch_size": 14}
    return {"model_type": "kosmos-2", "text_config": text, "vision_config": vision, "latent_query_num": 64}, processor


def gemma3() -> tuple[dict[str, Any], Any]:
    words = tokenizer({"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"})
    processor = transformers.Gemma3Processor(
        transformers.Gemma3ImageProcessor(size={"height": 56, "width": 56}), words, image_seq_length=4,
        chat_template="<s>" + CHAT.replace("IMAGE", "<start_of_image>"))
    text = {**TEXT, **_llava_ids(words), "vocab_size": len(words), "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention"]}
    return {"model_type": "gemma3", "mm_tokens_per_image": 4, "image_token_index": words.image_token_id,
            "boi_token_index": words.boi_token_id, "eoi_token_index": words.eoi_token_id, "text_config": text,
            "vision_config": {**SIGLIP, "image_size": 56}}, processor


def fastvlm() -> tuple[dict[str, Any], Any]:
    words = tokenizer({"image_token": "<image>"})
    processor = transformers.LlavaProcessor(
        transformers.CLIPImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False), words, patch_size=32,
        vision_feature_select_strategy="full", chat_template=CHAT.replace("IMAGE", "<image>"), num_additional_image_tokens=0)
    vision = {"model_type": "timm_wrapper", "architecture": "test_efficientnet", "hidden_size": 256, "do_pooling": False}
    return {"model_type": "fast_vlm", "image_token_index": words.image_token_id, "image_seq_length": 4, "vision_config": vision,
            "text_config": {"model_type": "llama", **TEXT, **_llava_ids(words), "vocab_size": len(words)}}, processor


MAKERS = {maker.__name__: maker for maker in (paligemma, paligemma2, idefics3, smolvlm, qwen2_5_vl, qwen3_vl, internvl,
                                              llava_onevision, florence2, kosmos2, fastvlm, gemma3)}


def save_checkpoint(name: str, folder: Path, seed: int = 0) -> torch.nn.Module:
    """Write the checkpoint and return the transformers model it holds, head and all, for comparison."""
    config, processor = MAKERS[name]()
    values = dict(config)
    settings = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForImageTextToText.from_config(settings)
        for name, parameter in model.named_parameters():
            if not re.search(r"norm|\bbn\d", name.lower()):  # published weights are no small noise: make every part matter
                torch.nn.init.normal_(parameter, std=0.2)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return model
