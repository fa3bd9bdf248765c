"""Discretised action chunk, all of it decoded in one parallel pass.

Bins as in OpenVLA (arXiv 2406.09246, sec. 3.2); parallel decoding as in OpenVLA-OFT (arXiv 2502.19645, sec. 4), which runs
empty action positions through the language model; here a small decoder of its own (`heads.decoder`) reads the context.

Bins are ordered, and with few demonstrations most of 256 classes are never seen. Two remedies, both on by default: the
logits of a number are a sum of smooth bumps over its bins (`basis`), and targets are Gaussians over neighbouring bins
(`smoothing`). Without both (`basis: null`, `smoothing: 0`) this is the plain classification of the papers.

The numbers of a chunk are independent given the context, as in OFT. So draws at a temperature above 0 follow the
distribution of every single number, but not which of two modes its neighbours have chosen: where that matters, take `diffusion`.

Shapes: B samples, n draws, T = horizon, A action dimensions, C bins, S valid steps.
In: a `Context`. Out: `[B,n,T,A]`, normalised.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from backbones.context import Context
from heads.binning import Windows, openvla_binning, uniform_binning
from heads.decoder import DECODERS, DecoderConfig, FlatDecoder
from heads.head import Guide, Head, Loss, Output, Prefix
from robot_io import UserError
from robot_io.registry import ComponentConfig

BINNINGS = {"uniform": uniform_binning, "openvla": openvla_binning}
OVERLAP = 1.5
"""Standard deviation of a bump of the basis, in distances between bumps: wide enough to leave no dips between them."""


class Tokens(Head):
    """Classifies every number of the chunk into bins, in one pass."""

    sampling = frozenset({"temperature", "window"})

    class Config(ComponentConfig):
        """How to discretise and decode.

        Attributes:
            bins: C, classes per number.
            binning: `uniform`, or OpenVLA's exact arithmetic.
            basis: number of smooth bumps that a number's logits are a sum of; None for one free logit per bin.
            smoothing: standard deviation, in bins, of the Gaussian that replaces the one-hot target; 0 for one-hot.
            temperature: of `sample`; 0 takes the likeliest value.
            window: what the likeliest value is: the mean of the distribution within this distance of the likeliest bin's
                centre. 0 gives the bin's centre, 2 the mean of the whole distribution, which averages modes.
            decoder: the network.
        """

        kind: Literal["tokens"] = "tokens"
        bins: int = Field(default=256, ge=2)
        binning: Literal["uniform", "openvla"] = "uniform"
        basis: int | None = Field(default=32, ge=2)
        smoothing: float = Field(default=4.0, ge=0.0)
        temperature: float = Field(default=0.0, ge=0.0)
        window: float = Field(default=0.25, ge=0.0, le=2.0)
        decoder: DecoderConfig = Field(default=FlatDecoder.Config(), discriminator="kind")

    def __init__(self, config: Config, output: Output) -> None:
        super().__init__()
        self.config, self.output = config, output
        self.binning = BINNINGS[config.binning](config.bins)
        self.windows = Windows.of(self.binning, config.window)
        self.decoder = DECODERS[config.decoder.kind](config.decoder, output)
        self.classify = nn.Linear(self.decoder.features, output.action_dim * (config.basis or config.bins))
        if config.basis is not None:
            self.register_buffer("bumps", bumps(config.basis, self.binning.centres), persistent=False)

    def logits(self, context: Context) -> Float[Tensor, "b t a c"]:
        """Unnormalised log-probability of every bin of every number."""
        logits = self.classify(self.decoder(context)).unflatten(-1, (self.output.action_dim, -1))
        return logits if self.config.basis is None else logits @ self.bumps

    def loss(self, context: Context, actions: Float[Tensor, "b t a"], valid: Bool[Tensor, "b t"]) -> Loss:
        """Divergence of the prediction from the target distribution: the cross-entropy, less its unreachable part.

        The part `near` is the share of numbers whose likeliest bin is the right one or its neighbour.
        """
        logits, classes = self.logits(context)[valid], self.binning.encode(actions[valid])
        numbers = valid.sum().clamp(min=1) * self.output.action_dim
        total = nn.functional.kl_div(logits.log_softmax(-1), self.targets(classes), reduction="sum") / numbers
        near = ((logits.argmax(-1) - classes).abs() <= 1).sum() / numbers
        return Loss(total, {"divergence": total.detach(), "near": near})

    def targets(self, classes: Int[Tensor, "s a"]) -> Float[Tensor, "s a c"]:
        """The distribution to match: one-hot, or a Gaussian over the neighbouring bins."""
        if self.config.smoothing == 0.0:
            return nn.functional.one_hot(classes, self.config.bins).float()
        distance = torch.arange(self.config.bins, device=classes.device) - classes.unsqueeze(-1)
        return (-0.5 * (distance / self.config.smoothing).square()).softmax(-1)

    def sample(self, context: Context, *, n: int = 1, noise: Tensor | None = None, guide: Guide | None = None,
               condition: Tensor | None = None, prefix: Prefix | None = None) -> Float[Tensor, "b n t a"]:
        """The likeliest chunk, or n draws at `config.temperature`."""
        self.refuse_unsupported(noise=noise, guide=guide, condition=condition, prefix=prefix)
        temperature = self.config.temperature
        if n > 1 and temperature == 0.0:
            raise UserError(f"{n} draws of head 'tokens'", "temperature 0, so that all of them would be equal",
                            "a temperature above 0", "set head.temperature=1")
        logits = self.logits(context)
        if temperature == 0.0:
            return self.likeliest(logits).unsqueeze(1)
        weights = (logits / temperature).softmax(-1).flatten(0, 2)
        drawn = weights.multinomial(n, replacement=True).unflatten(0, logits.shape[:3])
        return self.binning.decode(drawn).movedim(-1, 1)

    def likeliest(self, logits: Float[Tensor, "b t a c"]) -> Float[Tensor, "b t a"]:
        """The mean of the distribution within `config.window` of its likeliest bin."""
        return self.windows.mean(logits)

    def log_prob(self, context: Context, actions: Float[Tensor, "b t a"]) -> Float[Tensor, "b t a"]:
        """Log-probability of each number's bin at temperature 1. Their sum over T and A is that of the chunk."""
        classes = self.binning.encode(actions).unsqueeze(-1)
        return self.logits(context).log_softmax(-1).gather(-1, classes).squeeze(-1)


def bumps(count: int, centres: Float[Tensor, " c"]) -> Float[Tensor, "count c"]:
    """`count` Gaussians evenly spaced over [-1, 1], read at the centres of the bins."""
    distance = (centres.float() - torch.linspace(-1.0, 1.0, count).unsqueeze(1)) * (count - 1) / 2
    return (-0.5 * (distance / OVERLAP).square()).exp()
