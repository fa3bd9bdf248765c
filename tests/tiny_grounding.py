"""Tiny checkpoints of every published grounding system: the real classes and processors, saved as a download would bring them.

`save(kind, folder)` writes one. Weights are random with a fixed seed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

BERT_WORDS = ["red", "green", "blue", "yellow", "cube", "cylinder", "ball", "bowl", "robot", "object", "the", "on", "left"]
SWIN = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4}
DINO_PY = {"settings": {"nheads": 4, "dim_feedforward": 32, "enc_layers": 1, "dec_layers": 2, "num_queries": 6}, "swin": SWIN}
SAM_ENCODER = {"encoder_embed_dim": 16, "encoder_depth": 1, "encoder_num_heads": 1, "encoder_global_attn_indexes": []}


def bert() -> tuple[Any, Any]:
    """Configuration and tokenizer, with BERT's own ids for what separates phrases."""
    from transformers import BertConfig, BertTokenizer

    words = [f"[unused{i}]" for i in range(1040)]
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}
    for i, word in (special | {200 + i: word for i, word in enumerate(BERT_WORDS)}).items():
        words[i] = word
    config = BertConfig(vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
                        max_position_embeddings=64)
    return config, BertTokenizer(vocab={word: i for i, word in enumerate(words)})


def clip_tokenizer(length: int) -> Any:
    """A CLIP tokenizer of single letters."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]  # as there, 0 is a letter
    return CLIPTokenizer({token: i for i, token in enumerate(tokens)}, [], model_max_length=length)


def grounding_dino(folder: Path, mm: bool = False) -> None:
    import transformers

    text, words = bert()
    sizes = {"backbone_config": transformers.SwinConfig(**SWIN, out_indices=[2, 3, 4]), "text_config": text, "num_queries": 6,
             "encoder_layers": 1, "encoder_ffn_dim": 32, "encoder_attention_heads": 4, "decoder_layers": 2, "decoder_ffn_dim": 32,
             "decoder_attention_heads": 4, "d_model": 256}
    kind = "MMGroundingDino" if mm else "GroundingDino"
    getattr(transformers, f"{kind}ForObjectDetection")(getattr(transformers, f"{kind}Config")(**sizes)).save_pretrained(folder)
    pictures = transformers.GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 128})
    transformers.GroundingDinoProcessor(pictures, words).save_pretrained(folder)


def mm_grounding_dino(folder: Path) -> None:
    grounding_dino(folder, mm=True)


def groundingdino_py(folder: Path) -> None:
    from perception.grounding.groundingdino_py import GroundingDinoPy, build

    text, words = bert()
    for part in (text, words):
        part.save_pretrained(folder / "bert-base-uncased")
    model = build(GroundingDinoPy.Config(**DINO_PY), text, words)
    weights = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"model": weights | {"module.bert.embeddings.position_ids": torch.arange(64)[None]}}, folder / "groundingdino_swint_ogc.pth")


def owlv2(folder: Path) -> None:
    import transformers

    words = clip_tokenizer(16)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Owlv2Config(
        text_config={**size, "vocab_size": len(words), "max_position_embeddings": 16, "eos_token_id": words.eos_token_id,
                     "bos_token_id": words.bos_token_id, "pad_token_id": words.pad_token_id},
        vision_config={**size, "image_size": 64, "patch_size": 16}, projection_dim=16)
    transformers.Owlv2ForObjectDetection(config).save_pretrained(folder)
    transformers.Owlv2Processor(transformers.Owlv2ImageProcessor(size={"height": 64, "width": 64}), words).save_pretrained(folder)


def sam3(folder: Path) -> None:
    import transformers

    words = clip_tokenizer(32)
    layer = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32}
    vit = {"model_type": "sam3_vit_model", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
           "image_size": 56, "patch_size": 14, "window_size": 2, "global_attn_indexes": [0], "pretrain_image_size": 28}
    config = transformers.Sam3Config(
        vision_config={"backbone_config": vit, "fpn_hidden_size": 32, "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]},
        text_config={"model_type": "clip_text_model", "vocab_size": len(words), "hidden_size": 16, "intermediate_size": 16, "projection_dim": 16,
                     "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32, "eos_token_id": words.eos_token_id,
                     "bos_token_id": words.bos_token_id, "pad_token_id": words.pad_token_id},
        geometry_encoder_config={**layer, "num_layers": 1}, detr_encoder_config={**layer, "num_layers": 1},
        detr_decoder_config={**layer, "num_layers": 1, "num_queries": 5}, mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2})
    transformers.Sam3Model(config).save_pretrained(folder)
    pictures = transformers.Sam3ImageProcessor(size={"height": 56, "width": 56})
    transformers.Sam3Processor(pictures, words).save_pretrained(folder)


def segment_anything(folder: Path) -> None:
    from segment_anything.build_sam import _build_sam

    torch.save(_build_sam(**SAM_ENCODER).state_dict(), folder / "sam_vit_b_01ec64.pth")


def sam(folder: Path) -> None:
    import transformers

    config = transformers.SamConfig(
        vision_config={"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64, "patch_size": 16,
                       "window_size": 2, "global_attn_indexes": [0], "mlp_dim": 16, "num_pos_feats": 8},
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "iou_head_hidden_dim": 16})
    transformers.SamModel(config).save_pretrained(folder)
    pictures = transformers.SamImageProcessor(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}, mask_size={"longest_edge": 16},
                                              mask_pad_size={"height": 16, "width": 16})
    transformers.SamProcessor(pictures).save_pretrained(folder)


def _sam2_sizes(width: int) -> dict[str, Any]:
    hiera = {"model_type": "sam2_hiera_det_model", "hidden_size": 8, "num_attention_heads": 1, "image_size": [64, 64],
             "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 1, 2, 2],
             "window_size_per_stage": [4, 4, 4, 4], "global_attention_blocks": [3], "window_positional_embedding_background_size": [2, 2]}
    return {
        "vision_config": {"backbone_config": hiera, "backbone_channel_list": [64, 32, 16, 8], "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
                          "fpn_hidden_size": width},
        "prompt_encoder_config": {"hidden_size": width, "image_size": 64, "patch_size": 16, "mask_input_channels": 4},
        "mask_decoder_config": {"hidden_size": width, "mlp_dim": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "iou_head_hidden_dim": 16},
    }


def sam2(folder: Path) -> None:
    import transformers

    transformers.Sam2Model(transformers.Sam2Config(**_sam2_sizes(32))).save_pretrained(folder)
    _sam2_pictures(transformers.Sam2Processor).save_pretrained(folder)


def sam2_video(folder: Path) -> None:
    import transformers

    config = transformers.Sam2VideoConfig(
        **_sam2_sizes(128), image_size=64, memory_attention_hidden_size=128, memory_attention_num_layers=1, memory_attention_num_attention_heads=1,
        memory_attention_feed_forward_hidden_size=16, memory_attention_rope_feat_sizes=[4, 4], memory_encoder_hidden_size=128,
        memory_encoder_output_channels=64, mask_downsampler_embed_dim=128, memory_fuser_num_layers=1, memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=32)
    model = transformers.Sam2VideoModel(config)
    model.mask_decoder.pred_obj_score_head.proj_out.bias.data += 10  # sure that the thing is there
    model.save_pretrained(folder)
    _sam2_pictures(transformers.Sam2VideoProcessor, transformers.Sam2VideoVideoProcessor(size={"height": 64, "width": 64})).save_pretrained(folder)


def _sam2_pictures(kind: Any, *more: Any) -> Any:
    import transformers

    pictures = transformers.Sam2ImageProcessor(size={"height": 64, "width": 64}, mask_size={"height": 16, "width": 16})
    return kind(pictures, *more, target_size=64)


def similarity(folder: Path) -> None:
    import transformers

    words = clip_tokenizer(32)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={**size, "vocab_size": len(words), "max_position_embeddings": 32, "eos_token_id": words.eos_token_id,
                     "bos_token_id": words.bos_token_id, "pad_token_id": words.pad_token_id},
        vision_config={**size, "image_size": 32, "patch_size": 16}, projection_dim=16)
    transformers.CLIPModel(config).save_pretrained(folder)
    pictures = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    transformers.CLIPProcessor(pictures, words).save_pretrained(folder)


def local(folder: Path) -> None:
    from tiny_vlms import save_checkpoint

    save_checkpoint("qwen3_vl", folder)


MAKERS: dict[str, Callable[[Path], None]] = {
    maker.__name__: maker for maker in (grounding_dino, mm_grounding_dino, groundingdino_py, owlv2, sam3, segment_anything, sam, sam2,
                                        sam2_video, similarity, local)
}


def save(kind: str, folder: Path) -> Path:
    """Write the checkpoint of `kind` into `folder`, and say what its `weights` option then is."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        MAKERS[kind](folder)
    return folder / "sam_vit_b_01ec64.pth" if kind == "segment_anything" else folder
