"""VO-DP's semantic-geometric fuser and spatial compression (arXiv 2510.15530, sec. III): maps of a `vggt_dino` → a few tokens. Trained.

    fuser         every geometric cell asks the semantic ones: one multi-head cross-attention with normalised, rotated queries and keys, added
                  to the geometric cell; then a feed-forward
    compression   three residual convolutions of stride 2, an average over what is left (`grid`×`grid` cells of it), a linear map
    keypoints     in the compression's place (`pool: keypoints`): where each of so many learnt maps looks, a mean place by a softmax over cells
                  (Levine et al., arXiv 1504.00702; Diffusion Policy, arXiv 2303.04137, sees so), and a linear map of all those places. What the
                  paper's convolutions find in tens of thousands of steps it finds in hundreds (docs/vo-dp.md)

With one map alone (`use`) there is nothing to ask, and the rest is the same. The published configuration is
`dim: 1024, heads: 8, grid: 1, out: 1024` (512 a view with several cameras).

Maps in `[B, V, dim, h, w]`; tokens out `[B, V·grid², out]`, with keypoints `[B, V, out]`.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from perception.percept import Batch, FrontEnd, Percept
from perception.vggt.layers import Mlp, grid_positions, rotary
from perception.vggt_dino import GEOMETRIC, SEMANTIC
from robot_io import UserError
from robot_io.registry import ComponentConfig

MAX_VIEWS = 4


class Fuser(FrontEnd):
    """See the module's text."""

    frozen, after_cache = False, True

    class Config(ComponentConfig):
        kind: Literal["fuser"] = "fuser"
        use: Literal["both", "semantic", "geometric"] = "both"
        dim: int = Field(64, ge=4, description="channels of the maps: vggt_dino's dim")
        heads: int = Field(4, ge=1, description="each of a width that is a multiple of 4")
        pool: Literal["average", "keypoints"] = "average"
        blocks: int = Field(3, ge=0, description="average: halvings of the map")
        grid: int = Field(1, ge=1, description="average: tokens of a view, grid × grid")
        keypoints: int = Field(16, ge=1, description="keypoints: maps of a view")
        out: int = Field(128, ge=1, description="width of a token")

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.dim % (4 * config.heads):
            raise UserError("fuser.heads", f"{config.heads} heads of dim {config.dim}", "heads of a width that is a multiple of 4",
                            "choose other heads or another dim")
        self.config, self.token_dim = config, config.out
        self.ask = CrossAttention(config.dim, config.heads) if config.use == "both" else None
        self.feed = FeedForward(config.dim)
        self.compress = nn.Sequential(*(Halving(config.dim) for _ in range(config.blocks))) if config.pool == "average" else None
        self.look = Keypoints(config.dim, config.keypoints) if config.pool == "keypoints" else None
        tokens, width = (config.grid**2, config.dim) if self.look is None else (1, 2 * config.keypoints)
        self.project = nn.Linear(width, config.out)
        self.place = nn.Parameter(torch.randn(MAX_VIEWS, tokens, config.out) * 0.02)

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        """Adds tokens `[B, V·grid², out]`, with keypoints `[B, V, out]`. Raises `UserError`: a map that is not there or of another width."""
        wanted = {"both": (GEOMETRIC, SEMANTIC), "semantic": (SEMANTIC,), "geometric": (GEOMETRIC,)}[self.config.use]
        asking, *asked = (self._map(percept, name) for name in wanted)
        views, (height, width) = asking.shape[1], asking.shape[-2:]
        cells = rearrange(asking, "b v d h w -> (b v) (h w) d")
        if self.ask is not None:
            cells = cells + self.ask(cells, self._like(asked[0], asking), grid_positions(height, width, cells.device))
        cells = rearrange(self.feed(cells), "n (h w) d -> n d h w", h=height)
        left = self._averages(cells) if self.look is None else self.look(cells)[:, None]
        tokens = rearrange(self.project(left), "(b v) n d -> b v n d", v=views) + self.place[:views]
        tokens = tokens.flatten(1, 2)
        return percept.add_tokens(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))

    def _averages(self, cells: Float[Tensor, "n d h w"]) -> Float[Tensor, "n t d"]:
        return F.adaptive_avg_pool2d(self.compress(cells), self.config.grid).flatten(2).mT

    def _map(self, percept: Percept, name: str) -> Float[Tensor, "b v d h w"]:
        found = percept.maps.get(name)
        if found is None:
            there = ", ".join(percept.maps) or "none"
            raise UserError("fuser", f"there is no {name} map (there: {there})", f"one, for use: {self.config.use}",
                            "put {kind: vggt_dino} before it, with both of its networks on, or set use")
        if found.shape[2] != self.config.dim or found.shape[1] > MAX_VIEWS:
            raise UserError("fuser", f"the {name} map has {found.shape[2]} channels and {found.shape[1]} views",
                            f"{self.config.dim} channels and at most {MAX_VIEWS} views", "set the same dim for vggt_dino and fuser")
        return found

    @staticmethod
    def _like(asked: Float[Tensor, "b v d h w"], asking: Float[Tensor, "b v d h2 w2"]) -> Float[Tensor, "n l d"]:
        """The cells asked, on the grid of those that ask: two networks may cut their pictures differently."""
        maps = rearrange(asked, "b v d h w -> (b v) d h w")
        if maps.shape[-2:] != asking.shape[-2:]:
            maps = F.interpolate(maps, asking.shape[-2:], mode="bilinear", align_corners=False)
        return rearrange(maps, "n d h w -> n (h w) d")


class CrossAttention(nn.Module):
    """Queries from x, keys and values from y; LayerNorm on each head's queries and keys, 2D rotary positions, no output projection.

    It begins with every cell asking those around its own place, not all alike: queries and keys start nearly equal whatever they are of, so that
    their positions decide. (Else what y says where is the first thing to be learnt, and took longer than the pick itself.)
    """

    PEAK = 16.0
    """The logit with which a new one looks at a cell's own place."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, width = heads, dim // heads
        self.q, self.k, self.v = (nn.Linear(dim, dim) for _ in range(3))
        self.q_norm, self.k_norm = (nn.LayerNorm(width) for _ in range(2))
        with torch.no_grad():
            alike = torch.randn(dim)
            for part, norm in ((self.q, self.q_norm), (self.k, self.k_norm)):
                part.weight.mul_(0.1)
                part.bias.copy_(alike)
                norm.weight.fill_(self.PEAK**0.5 / width**0.25)

    def forward(self, x: Float[Tensor, "n l d"], y: Float[Tensor, "n l d"], positions: Tensor) -> Float[Tensor, "n l d"]:
        q, k, v = (rearrange(t, "n l (h e) -> n h l e", h=self.heads) for t in (self.q(x), self.k(y), self.v(y)))
        where = positions[None].expand(len(x), -1, -1)
        attended = F.scaled_dot_product_attention(rotary(self.q_norm(q), where), rotary(self.k_norm(k), where), v)
        return rearrange(attended, "n h l e -> n l (h e)")


class FeedForward(nn.Module):
    """Pre-norm feed-forward of ratio 1, added; then the last norm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm, self.last, self.mlp = nn.LayerNorm(dim), nn.LayerNorm(dim), Mlp(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x + self.mlp(self.norm(x)))


class Keypoints(nn.Module):
    """Where each of `count` maps looks: where the picture differs most from the rest of itself, from the first step on. A softmax that begins flat
    says the middle, whatever is there, and for most maps what all cells share would decide."""

    SHARPNESS, SCALE = 3.0, 4.0

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.maps = nn.Linear(dim, count)

    def forward(self, cells: Float[Tensor, "n d h w"]) -> Float[Tensor, "n p"]:
        """Column and row of each, -4 to 4 from edge to edge, side by side."""
        rows, columns = (torch.linspace(-self.SCALE, self.SCALE, size, device=cells.device, dtype=cells.dtype) for size in cells.shape[-2:])
        places = torch.stack([columns.expand(len(rows), -1), rows[:, None].expand(-1, len(columns))], -1).flatten(0, 1)
        weight = (self.SHARPNESS * standard(self.maps(standard(cells.flatten(2).mT)))).softmax(1)
        return (weight.mT @ places).flatten(1)


def standard(x: Float[Tensor, "n l c"]) -> Float[Tensor, "n l c"]:
    """Of mean 0 and deviation 1 over the cells of a picture, channel by channel."""
    deviation, mean = torch.std_mean(x, 1, keepdim=True)
    return (x - mean) / (deviation + 1e-4)


class Halving(nn.Module):
    """A residual block of two convolutions that halves a map, with a LayerNorm over channels after each."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.down, self.keep = nn.Conv2d(dim, dim, 3, 2, 1), nn.Conv2d(dim, dim, 3, padding=1)
        self.short = nn.Conv2d(dim, dim, 1, 2)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))

    def forward(self, x: Float[Tensor, "n d h w"]) -> Float[Tensor, "n d h2 w2"]:
        down, keep, short = (lambda maps, norm=norm: norm(maps.movedim(1, -1)).movedim(-1, 1) for norm in self.norms)
        return F.relu(keep(self.keep(F.relu(down(self.down(x))))) + short(self.short(x)))
