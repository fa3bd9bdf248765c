"""How Grounding DINO and its kin are asked: all phrases in one caption, "red cube . bowl .", and an answer per token.

A query's score for a phrase is the mean probability over the phrase's tokens, as in Grounding DINO's own COCO evaluation
(arXiv 2303.05499, appendix). The maximum would let "cube" answer for "red cube".

Shapes: P phrases, T tokens, Q queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from perception.stages import Detections, Picture


def caption_of(phrases: Sequence[str]) -> str:
    return " ".join(f"{_clean(phrase)} ." for phrase in phrases)


def tokens_of(tokenizer: Any, phrases: Sequence[str]) -> Float[Tensor, "p t"]:
    """Which tokens of `caption_of(phrases)` spell each phrase: rows that add up to 1."""
    encoded = tokenizer(caption_of(phrases), return_offsets_mapping=True)
    weights, start = torch.zeros(len(phrases), len(encoded["input_ids"])), 0
    for row, phrase in zip(weights, phrases, strict=True):
        stop = start + len(_clean(phrase))
        for token, (low, high) in enumerate(encoded["offset_mapping"]):
            row[token] = float(start <= low < high <= stop)
        start = stop + len(" . ")
    return weights / weights.sum(1, keepdim=True).clamp(min=1)


def phrase_scores(logits: Float[Tensor, "q l"], tokens: Float[Tensor, "p t"]) -> Float[Tensor, "q p"]:
    """Token logits (L at least T, what is beyond is padding) → scores in [0, 1]."""
    width = min(logits.shape[1], tokens.shape[1])
    return logits[:, :width].float().sigmoid() @ tokens[:, :width].to(logits.device).T


def in_parts(pictures: Sequence[Picture], phrases: Sequence[Sequence[str]], size: int, detect: Any) -> list[Detections]:
    """`detect(pictures, phrases)` on at most `size` pictures at a time; pictures without phrases are left out."""
    from perception.grounding.candidates import nothing

    found = [nothing() for _ in pictures]
    asked = [i for i, names in enumerate(phrases) if names]
    for start in range(0, len(asked), size):
        part = asked[start:start + size]
        for i, detections in zip(part, detect([pictures[i] for i in part], [phrases[i] for i in part]), strict=True):
            found[i] = detections
    return found


def _clean(phrase: str) -> str:
    """Lower case, and without the full stop that separates phrases."""
    return " ".join(phrase.lower().replace(".", " ").split())
