"""Discretised action chunk, all of it decoded in one parallel pass.

Bins as in OpenVLA (arXiv 2406.09246, sec. 3.2); parallel decoding as in OpenVLA-OFT (arXiv 2502.19645, sec. 4): every action
position is an empty, learned query, attention among them is bidirectional, and one pass predicts them all. OFT runs the
positions through the language model; here a small decoder of their own reads the context by cross-attention, one query for
each of the T steps, and each step's hidden state classifies its A numbers.

The numbers of a chunk are independent given the context, as in OFT. So draws at a temperature above 0 follow the
distribution of every single number, but not which of two modes its neighbours have chosen: where that matters, take `diffusion`.

Shapes: B samples, n draws, T = horizon, A action dimensions, C bins, L or K context positions of width D.
In: `readout [B,K,D]` or `hidden [B,L,D]`. Out: `[B,n,T,A]`, normalised.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from backbones.context import Context
from heads.binning import openvla_binning, uniform_binning
from heads.head import Guide, Head, Loss, Output
from robot_io import UserError
from robot_io.registry import ComponentConfig

BINNINGS = {"uniform": uniform_binning, "openvla": openvla_binning}


class Tokens(Head):
    """Classifies every number of the chunk into bins, in one pass."""

    class Config(ComponentConfig):
        """How to discretise and decode.

        Attributes:
            bins: C, classes per number.
            binning: `uniform`, or OpenVLA's exact arithmetic.
            reads: which part of the context the decoder attends to.
            width, depth, heads, dropout: of the decoder.
            smoothing: spread, in bins, of the Gaussian that replaces the one-hot target; 0 for one-hot. Bins are ordered,
                and with few demonstrations most of 256 classes are never seen exactly.
            temperature: of `sample`; 0 takes the most likely bin.
        """

        kind: Literal["tokens"] = "tokens"
        bins: int = Field(default=256, ge=2)
        binning: Literal["uniform", "openvla"] = "uniform"
        reads: Literal["readout", "hidden"] = "readout"
        width: int = Field(default=128, ge=1)
        depth: int = Field(default=2, ge=1)
        heads: int = Field(default=4, ge=1)
        dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
        smoothing: float = Field(default=2.0, ge=0.0)
        temperature: float = Field(default=0.0, ge=0.0)

    def __init__(self, config: Config, output: Output) -> None:
        super().__init__()
        if config.width % config.heads:
            raise UserError("head.width", f"{config.width}", f"a multiple of heads = {config.heads}", "change either")
        self.config, self.output = config, output
        self.binning = BINNINGS[config.binning](config.bins)
        self.read = nn.Sequential(nn.LayerNorm(output.context_dim), nn.Linear(output.context_dim, config.width))
        self.queries = nn.Parameter(0.02 * torch.randn(output.horizon, config.width))
        layer = nn.TransformerDecoderLayer(
            config.width, config.heads, 4 * config.width, config.dropout, "gelu", batch_first=True, norm_first=True,
        )
        self.decoder = nn.TransformerDecoder(layer, config.depth, nn.LayerNorm(config.width))
        self.classify = nn.Linear(config.width, output.action_dim * config.bins)

    def logits(self, context: Context) -> Float[Tensor, "b t a c"]:
        """Unnormalised log-probability of every bin of every number."""
        if self.config.reads == "readout":
            memory, padding = self.read(context.readout), None
        else:
            memory, padding = self.read(context.hidden), ~context.mask
        queries = self.queries.expand(len(memory), -1, -1)
        decoded = self.decoder(queries, memory, memory_key_padding_mask=padding)
        return self.classify(decoded).unflatten(-1, (self.output.action_dim, self.config.bins))

    def loss(self, context: Context, actions: Float[Tensor, "b t a"], valid: Bool[Tensor, "b t"]) -> Loss:
        """Cross-entropy over the valid steps, with the share of numbers whose bin is hit within one as `near`."""
        logits, classes = self.logits(context)[valid], self.binning.encode(actions[valid])
        steps = valid.sum().clamp(min=1) * self.output.action_dim
        total = -(self.targets(classes) * logits.log_softmax(-1)).sum() / steps
        near = ((logits.argmax(-1) - classes).abs() <= 1).sum() / steps
        return Loss(total, {"cross_entropy": total.detach(), "near": near.detach()})

    def targets(self, classes: Int[Tensor, "s a"]) -> Float[Tensor, "s a c"]:
        """The distribution to match: one-hot, or a Gaussian over the neighbouring bins."""
        bins = torch.arange(self.config.bins, device=classes.device)
        distance = (bins - classes.unsqueeze(-1)).float()
        if self.config.smoothing == 0.0:
            return (distance == 0).float()
        return (-0.5 * (distance / self.config.smoothing).square()).softmax(-1)

    def sample(self, context: Context, *, n: int = 1, noise: Tensor | None = None, guide: Guide | None = None,
               condition: Tensor | None = None) -> Float[Tensor, "b n t a"]:
        """The most likely chunk, or n draws at `config.temperature`."""
        self.refuse_unsupported(noise=noise, guide=guide, condition=condition)
        temperature = self.config.temperature
        if n > 1 and temperature == 0.0:
            raise UserError(f"{n} draws of head 'tokens'", "temperature 0, so that all of them would be equal",
                            "a temperature above 0", "set head.temperature=1")
        logits = self.logits(context)
        if temperature == 0.0:
            return self.binning.decode(logits.argmax(-1)).unsqueeze(1)
        weights = (logits / temperature).softmax(-1).flatten(0, 2)
        drawn = weights.multinomial(n, replacement=True).unflatten(0, logits.shape[:3])
        return self.binning.decode(drawn).movedim(-1, 1)

    def log_prob(self, context: Context, actions: Float[Tensor, "b t a"]) -> Float[Tensor, "b t a"]:
        """Log-probability of each number's bin at temperature 1. Their sum over T and A is that of the chunk."""
        classes = self.binning.encode(actions).unsqueeze(-1)
        return self.logits(context).log_softmax(-1).gather(-1, classes).squeeze(-1)
