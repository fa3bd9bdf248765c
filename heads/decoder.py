"""Decoders: from the context to one feature vector for each step of the chunk, all steps in one pass.

Shapes: B samples, T = horizon, K readouts or L context positions of width D, F features. In: a `Context`; out: `[B,T,F]`.

- `FlatDecoder` reads all readouts as one vector with a residual MLP, as OpenVLA-OFT's continuous head does with its action
  positions (arXiv 2502.19645, app. A). The default: with few demonstrations it generalises better, and is twice as fast.
- `QueryDecoder` has an empty, learned query for every step; attention among them is bidirectional, as in OFT's parallel
  decoding (sec. 4), and they read the context by cross-attention. It can read the whole sequence.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from backbones.context import Context
from heads.head import Output
from robot_io import UserError
from robot_io.registry import ComponentConfig


class FlatDecoder(nn.Module):
    """A residual MLP over all readouts at once."""

    class Config(ComponentConfig):
        """`width` of the `depth` residual blocks, `features` F of each step, `dropout` inside the blocks."""

        kind: Literal["flat"] = "flat"
        width: int = Field(default=384, ge=1)
        depth: int = Field(default=3, ge=1)
        features: int = Field(default=64, ge=1)
        dropout: float = Field(default=0.1, ge=0.0, lt=1.0)

    def __init__(self, config: Config, output: Output) -> None:
        super().__init__()
        width, self.features = config.width, config.features
        self.read = nn.Sequential(
            nn.LayerNorm(output.context_dim), nn.Flatten(), nn.Linear(output.queries * output.context_dim, width),
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(config.dropout))
            for _ in range(config.depth)
        )
        self.spread = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, output.horizon * config.features))

    def forward(self, context: Context) -> Float[Tensor, "b t f"]:
        hidden = self.read(context.readout)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.spread(hidden).unflatten(1, (-1, self.features))


class QueryDecoder(nn.Module):
    """A transformer decoder with one learned query for each step."""

    class Config(ComponentConfig):
        """`reads` says which part of the context is attended to; the others size the transformer."""

        kind: Literal["query"] = "query"
        reads: Literal["readout", "hidden"] = "readout"
        width: int = Field(default=128, ge=1)
        depth: int = Field(default=2, ge=1)
        attention_heads: int = Field(default=4, ge=1)
        dropout: float = Field(default=0.1, ge=0.0, lt=1.0)

    def __init__(self, config: Config, output: Output) -> None:
        super().__init__()
        if config.width % config.attention_heads:
            raise UserError("decoder.width", f"{config.width}", f"a multiple of attention_heads = {config.attention_heads}",
                            "change either")
        self.config, self.features = config, config.width
        self.read = nn.Sequential(nn.LayerNorm(output.context_dim), nn.Linear(output.context_dim, config.width))
        self.queries = nn.Parameter(0.02 * torch.randn(output.horizon, config.width))
        layer = nn.TransformerDecoderLayer(config.width, config.attention_heads, 4 * config.width, config.dropout, "gelu",
                                           batch_first=True, norm_first=True)
        self.decoder = nn.TransformerDecoder(layer, config.depth, nn.LayerNorm(config.width))

    def forward(self, context: Context) -> Float[Tensor, "b t f"]:
        if self.config.reads == "readout":
            memory, padding = self.read(context.readout), None
        else:
            memory, padding = self.read(context.hidden), ~context.mask
        return self.decoder(self.queries.expand(len(memory), -1, -1), memory, memory_key_padding_mask=padding)


DecoderConfig = FlatDecoder.Config | QueryDecoder.Config
DECODERS = {"flat": FlatDecoder, "query": QueryDecoder}
