"""The contract of a denoiser, the network of the diffusion head: noisy chunk, noise level and context in, chunk out.

Two methods, so that what depends on the context alone is computed once for all levels and draws. Shapes: B samples (or
draws, or repeats of them), T = horizon, A action dimensions, C… whatever one sample's condition is.
"""

from __future__ import annotations

from diffusers.models.embeddings import get_timestep_embedding
from jaxtyping import Float
from torch import Tensor, nn

from backbones.context import Context

FINENESS = 1000.0
"""Levels in [0, 1] times this are fed to the sinusoidal embedding, whose wavelengths were chosen for 1000 steps."""


class Denoiser(nn.Module):
    """`condition_shape` is the shape C… of one sample's condition, so that a head can learn one that stands for none."""

    condition_shape: tuple[int, ...]

    def condition(self, context: Context) -> Float[Tensor, "b ..."]:
        """All that the network needs of the context."""
        raise NotImplementedError

    def forward(self, noisy: Float[Tensor, "b t a"], level: Float[Tensor, " b"],
                condition: Float[Tensor, "b ..."]) -> Float[Tensor, "b t a"]:
        """`level` is 0 for a clean chunk and 1 for pure noise."""
        raise NotImplementedError


def waves(level: Float[Tensor, " b"], dim: int) -> Float[Tensor, "b dim"]:
    """The sinusoidal embedding of a level (Vaswani et al., arXiv 1706.03762, sec. 3.5), in float32. `dim` is even."""
    return get_timestep_embedding(FINENESS * level, dim)
