"""What heads that denoise have in common: the noise a draw begins with, a prefix for every draw, and when guidance can be.

Shapes: B samples, n draws of each, T = horizon, A action dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from heads.head import Output, Prefix
from robot_io import UserError


def own_noise(generators: Sequence[torch.Generator], batch: int, n: int, output: Output) -> Float[Tensor, "b n t a"]:
    """Noise for n draws of each sample: from one generator for all of them, or from one for each."""
    share = (batch // len(generators), n, output.horizon, output.action_dim)
    return torch.cat([torch.randn(share, generator=generator, device=generator.device) for generator in generators])


def initial_noise(shape: tuple[int, ...], given: Tensor | None, like: Tensor) -> Float[Tensor, "b n t a"]:
    """`given`, or new noise, of this shape and of the type and device of `like`.

    Raises:
        UserError: it has another shape.
    """
    if given is None:
        return torch.randn(shape, device=like.device, dtype=like.dtype)
    if given.shape != shape:
        raise UserError("noise", f"shape {tuple(given.shape)}", f"{shape}: samples, draws, horizon, action dimensions",
                        "give one chunk of noise for every draw")
    return given.to(like)


def for_every_draw(prefix: Prefix, shape: tuple[int, ...], like: Tensor) -> tuple[Float[Tensor, "bn t a"], Float[Tensor, "bn t 1"]]:
    """The actions of a prefix, once for every draw of a sample of `shape` `(B, n, T, A)`, and how far each step is frozen.

    Raises:
        UserError: the prefix has another shape.
    """
    batch, n, horizon, action_dim = shape
    if prefix.actions.shape != (batch, horizon, action_dim) or prefix.frozen.shape not in ((horizon,), (batch, horizon)):
        raise UserError("prefix", f"actions {tuple(prefix.actions.shape)}, frozen {tuple(prefix.frozen.shape)}",
                        f"{(batch, horizon, action_dim)} and {(horizon,)}", "pad the actions to the horizon; freeze no padding")
    frozen = prefix.frozen.expand(batch, horizon).to(like)
    return prefix.actions.to(like).repeat_interleave(n, 0), frozen.repeat_interleave(n, 0).unsqueeze(-1)


def require_guidable(guidance_scale: float, condition_dropout: float) -> None:
    """Refuse classifier-free guidance of a head that never learns without its context.

    Raises:
        UserError: guidance is asked for, and the context never hidden.
    """
    if guidance_scale != 1.0 and condition_dropout == 0.0:
        raise UserError("head.guidance_scale", f"{guidance_scale}, but condition_dropout is 0",
                        "a head that was trained without its context, too, now and then",
                        "set head.condition_dropout=0.1 and train, or head.guidance_scale=1")
