"""Words of `tiny`: a byte-level BPE of 512 entries, trained by `backbones.tiny.pretrain` and shipped as `weights/tokenizer.json`.

Byte level: any instruction in any language has an encoding, known or not.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from jaxtyping import Bool, Int64
from tokenizers import Tokenizer
from torch import Tensor

from robot_io import UserError

TOKENIZER = Path(__file__).parent / "weights" / "tokenizer.json"
VOCABULARY = 512
PAD = 0
MAX_TOKENS = 64


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(TOKENIZER))


def encode(texts: list[str], device: torch.device | str = "cpu") -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
    """Token ids padded on the right with `PAD`, and the mask of real tokens (True)."""
    encoded = [tokenizer().encode(text.lower().strip()).ids for text in texts]
    longest = max(map(len, encoded))
    if longest > MAX_TOKENS:
        text = max(texts, key=len)
        raise UserError("instruction", f"'{text[:60]}…' has {longest} tokens", f"at most {MAX_TOKENS}", "shorten it")
    ids = torch.full((len(texts), max(longest, 1)), PAD, dtype=torch.long)
    for row, tokens in zip(ids, encoded, strict=True):
        row[: len(tokens)] = torch.tensor(tokens, dtype=torch.long)
    mask = torch.arange(ids.shape[1])[None] < torch.tensor([max(len(tokens), 1) for tokens in encoded])[:, None]
    return ids.to(device), mask.to(device)
