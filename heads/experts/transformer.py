"""What both transformer experts are made of: a token for every step of the chunk, and blocks that read keys and values.

Steps enter as in π0 (arXiv 2410.24164, app. B): the noisy action and the sinusoidal embedding of the time, fused by an MLP. The
attention among steps has no causal order, so positions are learnt; π0 has rotary ones.

Shapes: B samples, T = horizon, A action dimensions, L positions of the context, W = width, H heads of size E (G of them for
keys and values; H is a multiple of G).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from heads.denoisers.denoiser import waves
from heads.head import Output
from robot_io import UserError
from robot_io.registry import ComponentConfig

KeysValues = tuple[Float[Tensor, "b g l e"], Float[Tensor, "b g l e"]]


class TransformerConfig(ComponentConfig):
    """Sizes of a transformer expert.

    Attributes:
        width: W, of the tokens.
        depth: number of blocks.
        attention_heads: H.
        kv_heads: G, heads of keys and values; null for as many as there are of queries.
        head_dim: E.
        dropout: on what attention and the MLP of a block give.
    """

    width: int = Field(default=128, ge=2, multiple_of=2)
    depth: int = Field(default=3, ge=1)
    attention_heads: int = Field(default=4, ge=1)
    kv_heads: int | None = Field(default=None, ge=1)
    head_dim: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)

    @property
    def shared_heads(self) -> int:
        """G."""
        return self.kv_heads or self.attention_heads

    def require_sizes(self) -> None:
        if self.attention_heads % self.shared_heads:
            raise UserError("head.expert.attention_heads", f"{self.attention_heads}", f"a multiple of kv_heads = {self.kv_heads}",
                            "change either")


class Steps(nn.Module):
    """Noisy chunk and time → a token for every step."""

    def __init__(self, width: int, output: Output) -> None:
        super().__init__()
        self.width = width
        self.embed = nn.Linear(output.action_dim, width)
        self.fuse = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.position = nn.Parameter(0.02 * torch.randn(output.horizon, width))

    def forward(self, noisy: Float[Tensor, "b t a"], time: Float[Tensor, " b"]) -> Float[Tensor, "b t w"]:
        embedded = self.embed(noisy)
        when = waves(time, self.width).to(embedded.dtype).unsqueeze(1).expand_as(embedded)
        return self.fuse(torch.cat([embedded, when], -1)) + self.position


class Block(nn.Module):
    """Attention to keys and values that are given, to the steps themselves (`own`), or to both at once; then an MLP."""

    def __init__(self, config: TransformerConfig, own: bool) -> None:
        super().__init__()
        width, each = config.width, config.head_dim
        self.heads, self.own = config.attention_heads, own
        self.grouped = config.attention_heads != config.shared_heads
        self.norm_attend, self.norm_think = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.o = nn.Linear(width, config.attention_heads * each), nn.Linear(config.attention_heads * each, width)
        self.kv = KeysAndValues(width, config) if own else None
        self.think = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Float[Tensor, "b t w"], given: KeysValues | None,
                mask: Bool[Tensor, "b l"] | None) -> Float[Tensor, "b t w"]:
        inner = self.norm_attend(tokens)
        query = rearrange(self.q(inner), "b t (h e) -> b h t e", h=self.heads)
        sources = [given] if given is not None else []
        if self.kv is not None:
            sources.append(self.kv(inner))
        keys, values = (torch.cat(tensors, 2) for tensors in zip(*sources, strict=True))
        masked = given is not None and mask is not None
        allowed = F.pad(mask, (0, keys.shape[2] - mask.shape[1]), value=True)[:, None, None] if masked else None
        attended = F.scaled_dot_product_attention(query, keys, values, allowed, enable_gqa=self.grouped)
        tokens = tokens + self.dropout(self.o(rearrange(attended, "b h t e -> b t (h e)")))
        return tokens + self.dropout(self.think(self.norm_think(tokens)))


class KeysAndValues(nn.Module):
    """Keys and values of a sequence."""

    def __init__(self, dim: int, config: TransformerConfig) -> None:
        super().__init__()
        self.shared = config.shared_heads
        self.k, self.v = (nn.Linear(dim, config.shared_heads * config.head_dim) for _ in range(2))

    def forward(self, sequence: Float[Tensor, "b l d"]) -> KeysValues:
        keys, values = (rearrange(part(sequence), "b l (g e) -> b g l e", g=self.shared) for part in (self.k, self.v))
        return keys, values


class Velocity(nn.Module):
    """Tokens → velocity; zero at the start."""

    def __init__(self, width: int, output: Output) -> None:
        super().__init__()
        self.norm, self.predict = nn.LayerNorm(width), nn.Linear(width, output.action_dim)
        nn.init.zeros_(self.predict.weight)
        nn.init.zeros_(self.predict.bias)

    def forward(self, tokens: Float[Tensor, "b t w"]) -> Float[Tensor, "b t a"]:
        return self.predict(self.norm(tokens))
