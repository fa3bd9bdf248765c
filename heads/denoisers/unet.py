"""Diffusion Policy's conditional 1-D U-Net (Chi et al., arXiv 2303.04137, sec. III-A): convolutions along the time of a chunk.

Every residual block is scaled and shifted, channel by channel (FiLM, Perez et al., arXiv 1709.07871), by the embedded noise
level and the condition. The defaults are VO-DP's (arXiv 2510.15530): channels 256, 512, 1024, kernel 5, 8 groups, step
embedding 128; with `condition: null` it is the published network, layer for layer.

Shapes: B samples, T = horizon, A action dimensions, K readouts of width D, C channels, G = size of the condition.
Condition: all readouts as one vector, `[B, G]`.
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, cat, nn

from backbones.context import Context
from heads.denoisers.denoiser import Denoiser, waves
from heads.head import Output
from robot_io import UserError
from robot_io.registry import ComponentConfig


class UNet(Denoiser):
    """Denoises a chunk given the readouts and a noise level. The horizon must halve at every level but the last."""

    class Config(ComponentConfig):
        """The published network's sizes.

        Attributes:
            down_dims: channels C of each level; the time axis halves from one to the next.
            kernel: of the convolutions, along time.
            groups: of the group normalisation; divides all of `down_dims`.
            step_embedding: size of the embedded noise level.
            condition: G, what the readouts are first projected to; null takes them as they are (Diffusion Policy, VO-DP),
                for which they should be few and narrow: every block has a layer from all of them.
        """

        kind: Literal["unet"] = "unet"
        down_dims: tuple[int, ...] = Field(default=(256, 512, 1024), min_length=1)
        kernel: int = Field(default=5, ge=1)
        groups: int = Field(default=8, ge=1)
        step_embedding: int = Field(default=128, ge=4, multiple_of=2)
        condition: int | None = Field(default=512, ge=1)

    def __init__(self, config: Config, output: Output) -> None:
        super().__init__()
        _require_sizes(config, output.horizon)
        self.config = config
        readouts = output.queries * output.context_dim
        self.read = nn.Flatten() if config.condition is None else nn.Sequential(
            nn.LayerNorm(output.context_dim), nn.Flatten(), nn.Linear(readouts, config.condition))
        self.condition_shape = (config.condition or readouts,)
        step, dims = config.step_embedding, config.down_dims
        self.level = nn.Sequential(nn.Linear(step, 4 * step), nn.Mish(), nn.Linear(4 * step, step))

        def block(fed: int, channels: int) -> Block:
            return Block(fed, channels, step + self.condition_shape[0], config.kernel, config.groups)

        levels = list(zip((output.action_dim, *dims[:-1]), dims, strict=True))
        self.down = nn.ModuleList(nn.ModuleList([block(fed, made), block(made, made)]) for fed, made in levels)
        self.shrink = nn.ModuleList(nn.Conv1d(dim, dim, 3, stride=2, padding=1) for dim in dims[:-1])
        self.middle = nn.ModuleList(block(dims[-1], dims[-1]) for _ in range(2))
        self.up = nn.ModuleList(nn.ModuleList([block(2 * made, fed), block(fed, fed)]) for fed, made in levels[:0:-1])
        self.grow = nn.ModuleList(nn.ConvTranspose1d(dim, dim, 4, stride=2, padding=1) for dim in dims[-2::-1])
        self.predict = nn.Sequential(convolution(dims[0], dims[0], config.kernel, config.groups),
                                     nn.Conv1d(dims[0], output.action_dim, 1))

    def condition(self, context: Context) -> Float[Tensor, "b g"]:
        """The readouts as one vector."""
        return self.read(context.readout)

    def forward(self, noisy: Float[Tensor, "b t a"], level: Float[Tensor, " b"],
                condition: Float[Tensor, "b g"]) -> Float[Tensor, "b t a"]:
        film = cat([self.level(waves(level, self.config.step_embedding).to(noisy.dtype)), condition], dim=1)
        hidden, skipped = noisy.transpose(1, 2), []
        for depth, (first, second) in enumerate(self.down):
            hidden = second(first(hidden, film), film)
            skipped.append(hidden)
            if depth < len(self.shrink):
                hidden = self.shrink[depth](hidden)
        for block in self.middle:
            hidden = block(hidden, film)
        for (first, second), grow in zip(self.up, self.grow, strict=True):
            hidden = grow(second(first(cat([hidden, skipped.pop()], dim=1), film), film))
        return self.predict(hidden).transpose(1, 2)


class Block(nn.Module):
    """Two convolutions with a shortcut; what the first one makes is multiplied and shifted by the condition."""

    def __init__(self, fed: int, channels: int, condition: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.first = convolution(fed, channels, kernel, groups)
        self.second = convolution(channels, channels, kernel, groups)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(condition, 2 * channels))
        self.shortcut = nn.Identity() if fed == channels else nn.Conv1d(fed, channels, 1)

    def forward(self, hidden: Float[Tensor, "b c t"], film: Float[Tensor, "b f"]) -> Float[Tensor, "b c2 t"]:
        scale, shift = self.film(film).unsqueeze(-1).chunk(2, dim=1)
        return self.second(scale * self.first(hidden) + shift) + self.shortcut(hidden)


def convolution(fed: int, channels: int, kernel: int, groups: int) -> nn.Sequential:
    """Along time, keeping its length; group-normalised."""
    return nn.Sequential(nn.Conv1d(fed, channels, kernel, padding=kernel // 2), nn.GroupNorm(groups, channels), nn.Mish())


def _require_sizes(config: UNet.Config, horizon: int) -> None:
    """Refuse what would fail, or change the length of the chunk, somewhere inside."""
    halvings = len(config.down_dims) - 1
    if horizon % 2**halvings:
        raise UserError("horizon", f"{horizon} steps, which a U-Net of {halvings + 1} levels halves {halvings} times",
                        f"a multiple of {2**halvings}", "change horizon, or shorten head.denoiser.down_dims")
    if config.kernel % 2 == 0:
        raise UserError("head.denoiser.kernel", f"{config.kernel}", "an odd number, which keeps the length of the chunk",
                        f"set it to {config.kernel + 1}")
    if any(dim < 1 or dim % config.groups for dim in config.down_dims):
        raise UserError("head.denoiser.down_dims", f"{list(config.down_dims)}", f"multiples of groups = {config.groups}",
                        "change either")
