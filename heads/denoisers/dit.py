"""A diffusion transformer over the steps of the chunk: adaLN-zero blocks that read the context by cross-attention.

One token for every step. Each block is self-attention, cross-attention to the readouts, and an MLP, each normalised, scaled,
shifted and gated by the noise level and the mean readout; the gates start at zero, so that a new block is the identity (DiT,
Peebles and Xie, arXiv 2212.09748, sec. 3.2). Cross-attention to what the policy sees is RDT's (arXiv 2410.07864).

Shapes: B samples, T = horizon, A action dimensions, K readouts, W = width. Condition: the readouts, projected, `[B, K, W]`.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from backbones.context import Context
from heads.denoisers.denoiser import Denoiser, waves
from heads.head import Output
from robot_io import UserError
from robot_io.registry import ComponentConfig


class DiT(Denoiser):
    """Denoises a chunk given the readouts and a noise level."""

    class Config(ComponentConfig):
        """`width` W of the `depth` blocks, their `attention_heads`, `dropout` on attention and inside the MLPs."""

        kind: Literal["dit"] = "dit"
        width: int = Field(default=256, ge=2, multiple_of=2)
        depth: int = Field(default=4, ge=1)
        attention_heads: int = Field(default=4, ge=1)
        dropout: float = Field(default=0.1, ge=0.0, lt=1.0)

    def __init__(self, config: Config, output: Output) -> None:
        super().__init__()
        if config.width % config.attention_heads:
            raise UserError("head.denoiser.width", f"{config.width}",
                            f"a multiple of attention_heads = {config.attention_heads}", "change either")
        self.config, width = config, config.width
        self.condition_shape = (output.queries, width)
        self.read = nn.Sequential(nn.LayerNorm(output.context_dim), nn.Linear(output.context_dim, width))
        self.level = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.embed = nn.Linear(output.action_dim, width)
        self.position = nn.Parameter(0.02 * torch.randn(output.horizon, width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.last = Modulation(width, 2)
        self.predict = nn.Linear(width, output.action_dim)
        nn.init.zeros_(self.predict.weight)
        nn.init.zeros_(self.predict.bias)

    def condition(self, context: Context) -> Float[Tensor, "b k w"]:
        """The readouts at the width of the blocks."""
        return self.read(context.readout)

    def forward(self, noisy: Float[Tensor, "b t a"], level: Float[Tensor, " b"],
                condition: Float[Tensor, "b k w"]) -> Float[Tensor, "b t a"]:
        control = self.level(waves(level, self.config.width).to(noisy.dtype)) + condition.mean(1)
        hidden = self.embed(noisy) + self.position
        for block in self.blocks:
            hidden = block(hidden, condition, control)
        scale, shift = self.last(control)
        return self.predict(normalise(hidden) * (1 + scale) + shift)


class Block(nn.Module):
    """Self-attention, cross-attention, MLP: each a gated residual."""

    def __init__(self, config: DiT.Config) -> None:
        super().__init__()
        width, sizes = config.width, (config.width, config.attention_heads, config.dropout)
        self.modulation = Modulation(width, 9)
        self.attend = nn.MultiheadAttention(*sizes, batch_first=True)
        self.look = nn.MultiheadAttention(*sizes, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Dropout(config.dropout),
                                 nn.Linear(4 * width, width))

    def forward(self, hidden: Float[Tensor, "b t w"], seen: Float[Tensor, "b k w"],
                control: Float[Tensor, "b w"]) -> Float[Tensor, "b t w"]:
        parts = self.modulation(control)
        scale, shift, gate = parts[:3]
        query = normalise(hidden) * (1 + scale) + shift
        hidden = hidden + gate * self.attend(query, query, query, need_weights=False)[0]
        scale, shift, gate = parts[3:6]
        query = normalise(hidden) * (1 + scale) + shift
        hidden = hidden + gate * self.look(query, seen, seen, need_weights=False)[0]
        scale, shift, gate = parts[6:]
        return hidden + gate * self.mlp(normalise(hidden) * (1 + scale) + shift)


class Modulation(nn.Module):
    """`count` vectors for each sample out of what controls it, zero at the start: scales, shifts and gates."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.count, self.linear = count, nn.Linear(width, count * width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, control: Float[Tensor, "b w"]) -> tuple[Float[Tensor, "b 1 w"], ...]:
        return self.linear(nn.functional.silu(control)).unsqueeze(1).chunk(self.count, dim=-1)


def normalise(hidden: Float[Tensor, "b t w"]) -> Float[Tensor, "b t w"]:
    """To mean 0 and variance 1; the scale and shift after it are the modulation's."""
    return nn.functional.layer_norm(hidden, hidden.shape[-1:], eps=1e-6)
