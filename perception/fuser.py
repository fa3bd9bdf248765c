"""VO-DP's semantic-geometric fuser and spatial compression (arXiv 2510.15530, sec. III): maps of a `vggt_dino` → a few tokens. Trained.

    fuser         every geometric cell asks the semantic ones: one multi-head cross-attention with normalised, rotated queries and keys, added
                  to the geometric cell; then a feed-forward
    compression   three residual convolutions of stride 2, an average over what is left (`grid`×`grid` cells of it), a linear map

With one map alone (`use`) there is nothing to ask, and the rest is the same. The published configuration is
`dim: 1024, heads: 8, grid: 1, out: 1024` (512 a view with several cameras).

Maps in `[B, V, dim, h, w]`; tokens out `[B, V·grid², out]`.
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
        blocks: int = Field(3, ge=0, description="halvings of the map")
        grid: int = Field(1, ge=1, description="tokens of a view: grid × grid")
        out: int = Field(128, ge=1, description="width of a token")

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.dim % (4 * config.heads):
            raise UserError("fuser.heads", f"{config.heads} heads of dim {config.dim}", "heads of a width that is a multiple of 4",
                            "choose other heads or another dim")
        self.config, self.token_dim = config, config.out
        self.ask = CrossAttention(config.dim, config.heads) if config.use == "both" else None
        self.feed = FeedForward(config.dim)
        self.compress = nn.Sequential(*(Halving(config.dim) for _ in range(config.blocks)))
        self.project = nn.Linear(config.dim, config.out)
        self.place = nn.Parameter(torch.randn(MAX_VIEWS, config.grid**2, config.out) * 0.02)

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        """Adds tokens `[B, V·grid², out]`. Raises `UserError`: a map that is not there or of another width."""
        wanted = {"both": (GEOMETRIC, SEMANTIC), "semantic": (SEMANTIC,), "geometric": (GEOMETRIC,)}[self.config.use]
        asking, *asked = (self._map(percept, name) for name in wanted)
        views, (height, width) = asking.shape[1], asking.shape[-2:]
        cells = rearrange(asking, "b v d h w -> (b v) (h w) d")
        if self.ask is not None:
            cells = cells + self.ask(cells, self._like(asked[0], asking), grid_positions(height, width, cells.device))
        cells = rearrange(self.feed(cells), "n (h w) d -> n d h w", h=height)
        left = F.adaptive_avg_pool2d(self.compress(cells), self.config.grid)
        tokens = rearrange(self.project(left.flatten(2).mT), "(b v) n d -> b v n d", v=views) + self.place[:views]
        tokens = tokens.flatten(1, 2)
        return percept.add_tokens(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))

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
    """Queries from x, keys and values from y; LayerNorm on each head's queries and keys, 2D rotary positions, no output projection."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(dim, dim) for _ in range(3))
        self.q_norm, self.k_norm = (nn.LayerNorm(dim // heads) for _ in range(2))

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
