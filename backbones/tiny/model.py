"""`tiny`: a small vision-language transformer with learnable action queries.

The words, the state, any extra tokens and K learnable action queries form one short sequence. Every layer lets it attend
to itself and then to the picture cells of all views, so language decides early what is looked at, and the long sequence (the
pictures) is never attended from. The last hidden states of the queries are the readout, as in VLM4VLA (arXiv 2601.03309, sec. 3).

    picture cells   [B, V·N, D]   from `Eye`, cacheable: they depend on neither words nor state
                                  none at all if the percept has no pictures
    sequence        [B, L, D]     words, text of the percept, extra tokens, state, K queries
    layers          per layer (keys, values) [B, heads, L, D / heads] of the sequence, for joint-attention experts

About 1.9 M parameters at the default size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from backbones.context import Backbone, Context, Inputs
from backbones.tiny import text
from backbones.tiny.vision import Eye
from perception.percept import Percept
from robot_io import UserError
from robot_io.registry import ComponentConfig

WEIGHTS = Path(__file__).parent / "weights"
MAX_VIEWS = 4

KeysValues = tuple[Float[Tensor, "b h l d"], Float[Tensor, "b h l d"]]


class Attention(nn.Module):
    """Multi-head attention from `x` to `memory`, through torch's fused kernel."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))

    def forward(
        self, x: Float[Tensor, "b l d"], memory: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"] | None = None
    ) -> Float[Tensor, "b l d"]:
        return self.attend(x, *self.keys_values(memory), mask)

    def keys_values(self, memory: Float[Tensor, "b m d"]) -> KeysValues:
        keys, values = (rearrange(t, "b l (h d) -> b h l d", h=self.heads) for t in (self.k(memory), self.v(memory)))
        return keys, values

    def attend(self, x: Float[Tensor, "b l d"], keys: Tensor, values: Tensor, mask: Bool[Tensor, "b *l m"] | None) -> Tensor:
        """`mask` is the same for all positions (`[B, M]`) or has a row for each (`[B, L, M]`)."""
        query = rearrange(self.q(x), "b l (h d) -> b h l d", h=self.heads)
        mask = mask if mask is None else mask[:, None, None] if mask.ndim == 2 else mask[:, None]
        attended = F.scaled_dot_product_attention(query, keys, values, mask)
        return self.o(rearrange(attended, "b h l d -> b l (h d)"))


class Look(Attention):
    """Attention to a memory much longer than `x`, every cell of which may be seen.

    Keys and values of the whole memory are what that costs, going forward and back. Where they are plain linear maps of it they need
    not be made: q·(Kc + k) is (Kᵀq)·c but for what all cells share, and Σ a(Vc + v) is V(Σ a c) + v, as the weights a add up to one.
    """

    def forward(
        self, x: Float[Tensor, "b l d"], memory: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"] | None = None
    ) -> Float[Tensor, "b l d"]:
        plain = type(self.k) is type(self.v) is nn.Linear  # not if adapted or quantised
        if mask is not None or not plain or self.heads * x.shape[1] > memory.shape[2]:
            return super().forward(x, memory, mask)
        length, scale = x.shape[1], (memory.shape[2] // self.heads) ** -0.5
        into, out_of = (rearrange(w, "(h e) d -> h e d", h=self.heads) for w in (self.k.weight, self.v.weight))
        query = torch.einsum("blhe,hed->bhld", rearrange(self.q(x) * scale, "b l (h e) -> b l h e", h=self.heads), into)
        weights = torch.bmm(rearrange(query, "b h l d -> b (h l) d"), memory.transpose(1, 2)).softmax(-1)
        seen = rearrange(torch.bmm(weights.to(memory.dtype), memory), "b (h l) d -> b h l d", l=length)
        return self.o(rearrange(torch.einsum("bhld,hed->blhe", seen, out_of), "b l h e -> b l (h e)") + self.v.bias)


class Layer(nn.Module):
    """Pre-norm: self-attention, attention to the picture cells, feed-forward."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_self, self.norm_look, self.norm_think = (nn.LayerNorm(dim) for _ in range(3))
        self.attend, self.look = Attention(dim, heads), Look(dim, heads)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, cells: Tensor | None) -> tuple[Tensor, KeysValues]:
        """The sequence after this layer, and the keys and values that its self-attention read."""
        inner = self.norm_self(x)
        keys, values = self.attend.keys_values(inner)
        x = x + self.dropout(self.attend.attend(inner, keys, values, mask))
        if cells is not None:
            x = x + self.dropout(self.look(self.norm_look(x), cells))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm_think(x))))), (keys, values)


class Tiny(Backbone):
    """Words + views + state → K readouts. See the module's head."""

    vision = "eye"
    # Not `look.k` and `look.v`: they read the pictures, a hundred times longer than the rest, and tripled the cost of a step.
    lora_targets = r"layers\.\d+\.(attend\.[qkvo]|look\.[qo]|up|down)"
    new_modules = ("state_projection", "token_projection")
    needs_pictures = False

    class Config(ComponentConfig):
        kind: Literal["tiny"] = "tiny"
        weights: str | None = Field(
            "tabletop", description="shipped weights by name, a .safetensors file, or null for none"
        )
        dim: int = Field(128, ge=16)
        layers: int = Field(3, ge=1)
        heads: int = Field(4, ge=1)
        queries: int = Field(4, ge=1, description="K learnable action queries")
        eye_width: int = Field(24, ge=8, multiple_of=8)
        eye_blocks: int = Field(3, ge=0)
        dropout: float = Field(0.0, ge=0, lt=1)

    def __init__(self, config: Config, inputs: Inputs) -> None:
        super().__init__()
        if inputs.views > MAX_VIEWS:
            raise UserError(
                "backbone tiny",
                f"{inputs.views} camera views",
                f"at most {MAX_VIEWS}",
                "choose fewer cameras: data.cameras=[…]",
            )
        self.config, self.dim, self.queries = config, config.dim, config.queries
        self.checkpointing = False
        self.eye = Eye(config.dim, config.eye_width, config.eye_blocks)
        self.view = nn.Parameter(torch.randn(MAX_VIEWS, config.dim) * 0.02)
        self.words = nn.Embedding(text.VOCABULARY, config.dim)
        self.word_position = nn.Parameter(torch.randn(text.MAX_TOKENS, config.dim) * 0.02)
        self.query = nn.Parameter(torch.randn(config.queries, config.dim) * 0.02)
        self.layers = nn.ModuleList(Layer(config.dim, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        self.state_projection = nn.Linear(inputs.state_dim, config.dim) if inputs.state_dim else None
        self.token_projection = nn.Linear(inputs.token_dim, config.dim) if inputs.token_dim else None

    def load_pretrained(self) -> None:
        """Start from `config.weights`; the projections of state and tokens, which belong to one robot, stay new.

        Raises:
            UserError: no such file, or weights of another size.
        """
        if self.config.weights is None:
            return
        shipped = WEIGHTS / f"{self.config.weights}.safetensors"
        path = shipped if shipped.exists() else Path(self.config.weights)
        if not path.is_file():
            names = ", ".join(sorted(file.stem for file in WEIGHTS.glob("*.safetensors"))) or "none"
            raise UserError(
                "backbone tiny weights",
                f"'{self.config.weights}' is neither shipped nor a file",
                f"one of {names}",
                "name shipped weights, give a path, or set backbone.weights=null to start from scratch",
            )
        missing, unexpected = self.load_state_dict(self._fitting(load_file(path), path), strict=False)
        missing = [name for name in missing if not name.startswith(self.new_modules)]
        if missing or unexpected:
            raise UserError(
                f"backbone tiny weights {path}",
                f"missing {missing[:3]}, unexpected {list(unexpected)[:3]}",
                "the parameters of this configuration",
                "use the sizes the weights were trained at, or weights=null",
            )

    def _fitting(self, weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
        own = self.state_dict()
        for name, value in weights.items():
            if name in own and own[name].shape != value.shape:
                raise UserError(
                    f"backbone tiny weights {path}",
                    f"'{name}' is {tuple(value.shape)}",
                    f"{tuple(own[name].shape)}",
                    "use the sizes the weights were trained at, or backbone.weights=null",
                )
        return weights

    def enable_checkpointing(self) -> None:
        self.checkpointing = True

    def see(self, percept: Percept) -> Percept:
        views = percept.images.shape[1]
        cells = self.eye(rearrange(percept.images, "b v c h w -> (b v) c h w"))
        return percept.replace(features=rearrange(cells, "(b v) n d -> b v n d", v=views))

    def forward(self, percept: Percept, instructions: list[str], state: Float[Tensor, "b s"]) -> Context:
        cells = self.cells(percept)
        sequence, mask = self.sequence(percept, instructions, state)
        read = []
        for layer in self.layers:
            if self.checkpointing and torch.is_grad_enabled():
                sequence, keys_values = checkpoint(layer, sequence, mask, cells, use_reentrant=False)
            else:
                sequence, keys_values = layer(sequence, mask, cells)
            read.append(keys_values)
        hidden = self.norm(sequence)
        return Context(hidden=hidden, mask=mask, readout=hidden[:, -self.queries :], layers=tuple(read))

    def cells(self, percept: Percept) -> Float[Tensor, "b n d"] | None:
        """The picture cells of all views; None without pictures."""
        if percept.features is None and percept.images is None:
            return None
        features = self.see(percept).features if percept.features is None else percept.features
        return rearrange(features + self.view[: features.shape[1], None], "b v n d -> b (v n) d")

    def sequence(self, percept: Percept, instructions: list[str], state: Float[Tensor, "b s"]) -> tuple[Tensor, Tensor]:
        """`[B, L, D]` and its mask: words, extra tokens, state, and last the K queries."""
        prompts = (
            [f"{i} {t}" for i, t in zip(instructions, percept.text, strict=True)] if percept.text else instructions
        )
        ids, word_mask = text.encode(prompts, self.query.device)
        parts, masks = [self.words(ids) + self.word_position[: ids.shape[1]]], [word_mask]
        if self.token_projection is not None:
            parts.append(self.token_projection(percept.tokens))
            masks.append(percept.token_mask)
        if self.state_projection is not None:
            parts.append(self.state_projection(state)[:, None])
        parts.append(self.query.expand(len(prompts), -1, -1))
        tail = sum(part.shape[1] for part in parts) - sum(mask.shape[1] for mask in masks)
        masks.append(torch.ones(len(prompts), tail, dtype=torch.bool, device=ids.device))
        return torch.cat(parts, 1), torch.cat(masks, 1)
