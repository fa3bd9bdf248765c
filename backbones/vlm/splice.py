"""Three ways into a transformers model's own forward, so that none of it is written again.

`spliced` puts soft tokens in place of words behind the embedding layer; `recorded` listens to the vision tower; `replayed`
answers in its place with what it said before. Each lasts for one `with` block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@contextmanager
def spliced(embedding: nn.Module, slots: Int[Tensor, "b l"], soft: Float[Tensor, "b e d"]) -> Iterator[None]:
    """Where `slots[b, l]` is not negative, position l of sample b holds `soft[b, slots[b, l]]` instead of a word."""
    index = slots.clamp(min=0)[..., None].expand(-1, -1, soft.shape[-1])

    def replace(_module: nn.Module, _arguments: tuple, embedded: Tensor) -> Tensor:
        return torch.where((slots >= 0)[..., None], soft.to(embedded.dtype).gather(1, index), embedded)

    handle = embedding.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def recorded(module: nn.Module) -> Iterator[list[Any]]:
    """Every output of `module` within the block, in order, as it was said: callers write into the object they got."""
    said: list[Any] = []

    def listen(_module: nn.Module, _arguments: tuple, output: Any) -> None:
        said.append(copy(output))

    handle = module.register_forward_hook(listen)
    try:
        yield said
    finally:
        handle.remove()


@contextmanager
def replayed(module: nn.Module, output: Any) -> Iterator[None]:
    """`module` does no work within the block and returns `output`."""
    module.forward = lambda *_arguments, **_options: output
    try:
        yield
    finally:
        del module.forward
