"""OpenVLA's prompt and its token ids: Llama 2's vocabulary of 32000, the last 256 of which are action tokens.

    <s>  [256 patches per view]  In: What action should the robot take to {instruction}?\\nOut:  ␣   then the action tokens, </s>
     1                                                                                        29871                           2

The id 29871 (a lone space) ends the prompt because the sentencepiece tokenizer put it between the colon and the first action
token of every training example (openvla, `predict_action`). Ids are read from the published `tokenizer.json`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from tokenizers import Tokenizer
from torch import Tensor

from robot_io import UserError

VOCABULARY = 32000
"""Ids of words and actions. The published embeddings have 64 rows more: a padding token, and rounding up."""

BEGIN, STOP, SPACE, PADDING = 1, 2, 29871, 32000


def encode(instructions: list[str], tokenizer: Path) -> tuple[Int[Tensor, "b l"], Bool[Tensor, "b l"]]:
    """The ids of the prompts without the leading `<s>`, padded on the left, and where they are real.

    Raises:
        UserError: the tokenizer knows other words than Llama 2's.
    """
    rows = [_ids(instruction, tokenizer) for instruction in instructions]
    longest = max(map(len, rows))
    ids = torch.tensor([[PADDING] * (longest - len(row)) + row for row in rows])
    return ids, ids != PADDING


def sentence(instruction: str) -> str:
    return f"In: What action should the robot take to {instruction.lower()}?\nOut:"


def _ids(instruction: str, tokenizer: Path) -> list[int]:
    ids = _tokenizer(tokenizer).encode(sentence(instruction)).ids
    ids = ids[1:] if ids[:1] == [BEGIN] else ids
    if not ids or max(ids) >= VOCABULARY:
        raise UserError(f"tokenizer {tokenizer}", f"gives the ids {ids[-3:]} …", f"ids below {VOCABULARY}: Llama 2's vocabulary",
                        "take tokenizer.json from the repository of the weights")
    return ids if ids[-1] == SPACE else [*ids, SPACE]


@cache
def _tokenizer(path: Path) -> Tokenizer:
    return Tokenizer.from_file(str(path))
