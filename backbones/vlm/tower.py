"""What a vision tower said, as one tensor that can be cached, and back again.

Towers answer with an output object whose fields differ by family; `Family.sees` names those that are read after it: one
tensor, or several (Qwen3-VL's deep-stacked features, taken from some of its layers), or the hidden states of a layer.

Shapes: B samples, V views, N positions, D the width of all fields together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def flatten(output: Any, fields: tuple[str, ...], batch: int, views: int) -> Float[Tensor, "b v n d"]:
    """The named fields side by side."""
    return torch.cat(
        [part.reshape(batch, views, -1, part.shape[-1]) for name in fields for part in _parts(output, name)], -1
    )


def restore(layout: Any, fields: tuple[str, ...], features: Float[Tensor, "b v n d"]) -> Any:
    """An output object that says `features`.

    Args:
        layout: the tower's output for any one sample of as many views.
    """
    batch, start, values = len(features), 0, {}
    for name in fields:
        said = []
        for part in _parts(layout, name):
            piece = features[..., start : start + part.shape[-1]]
            said.append(piece.reshape(batch * part.shape[0], *part.shape[1:]))
            start += part.shape[-1]
        values[name] = said[0] if isinstance(layout[name], Tensor) else _among_unused(layout[name], said)
    return type(layout)(**values)


def _parts(output: Any, name: str) -> list[Tensor]:
    """The tensors of a field; layers that nobody reads are None."""
    value = output[name]
    return [value] if isinstance(value, Tensor) else [part for part in value if part is not None]


def _among_unused(like: Sequence[Tensor | None], said: list[Tensor]) -> Sequence[Tensor | None]:
    rest = iter(said)
    return type(like)(None if part is None else next(rest) for part in like)
