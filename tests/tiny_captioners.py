"""Tiny checkpoints of every published captioner: the real classes and processors, saved as a download would bring them."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from tiny_grounding import bert
from tiny_vlms import save_checkpoint, tokenizer

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
VISION = {**SMALL, "image_size": 32, "patch_size": 16}
PICTURES = {"height": 32, "width": 32}


def blip(folder: Path) -> None:
    _, words = bert()
    text = {**SMALL, "encoder_hidden_size": 16, "max_position_embeddings": 64, "vocab_size": len(words), "bos_token_id": 101,
            "sep_token_id": 102, "eos_token_id": 102, "pad_token_id": 0}
    config = transformers.BlipConfig(text_config=text, vision_config=VISION, projection_dim=16, image_text_hidden_size=16)
    transformers.BlipForConditionalGeneration(config).save_pretrained(folder)
    transformers.BlipProcessor(transformers.BlipImageProcessor(size=PICTURES), words).save_pretrained(folder)


def blip2(folder: Path) -> None:
    words = tokenizer(also=("<image>",))
    former = {**SMALL, "encoder_hidden_size": 16, "vocab_size": 30, "cross_attention_frequency": 1}
    text = {"model_type": "opt", "hidden_size": 16, "ffn_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": len(words),
            "max_position_embeddings": 128, "word_embed_proj_dim": 16, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    config = transformers.Blip2Config(vision_config=VISION, qformer_config=former, text_config=text, num_query_tokens=3,
                                      image_token_index=words.convert_tokens_to_ids("<image>"))
    transformers.Blip2ForConditionalGeneration(config).save_pretrained(folder)
    transformers.Blip2Processor(transformers.BlipImageProcessor(size=PICTURES), words, num_query_tokens=3).save_pretrained(folder)


MAKERS = {"blip": blip, "blip2": blip2, "florence2": lambda folder: save_checkpoint("florence2", folder),
          "smolvlm": lambda folder: save_checkpoint("smolvlm", folder), "qwen_vl": lambda folder: save_checkpoint("qwen2_5_vl", folder)}


def save(kind: str, folder: Path) -> Path:
    """A checkpoint of the captioner `kind`; random, with a fixed seed."""
    folder.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        MAKERS[kind](folder)
    return folder
