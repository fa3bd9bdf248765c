"""Action tokens through the language model's own vocabulary: OpenVLA (arXiv 2406.09246, sec. 3.2), OFT (arXiv 2502.19645).

Both heads have no parameters: every number of the chunk is one of 256 bins, every bin one of the last 256 ids of the vocabulary
(`heads.binning`), and the language model predicts ids. They need a backbone that offers a `continuation`
(`backbones.continuation`).

- `Vocabulary` decodes one token after the other, each seeing those before it; trained by next-token cross-entropy.
- `ParallelVocabulary` reads all tokens from as many readouts, in one pass: OFT's discrete variant.

Shapes: B samples, n draws, T = horizon, A action dimensions, N = T·A tokens, step after step, V logits. Out: `[B,n,T,A]`,
normalised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from backbones import continuation
from backbones.context import Context
from heads.binning import Binning, classes_to_ids, ids_to_classes, openvla_binning
from heads.head import Guide, Head, Loss, Output, Prefix
from robot_io import UserError
from robot_io.registry import ComponentConfig

IGNORED = -100
"""The target that cross-entropy does not count."""


class TokenConfig(ComponentConfig):
    """How to decode tokens.

    Attributes:
        bins: edges of OpenVLA's binning, and the number of ids that are actions.
        constrained: choose among action ids only. OpenVLA chooses among all; a stray id counts as the nearest action.
        temperature: of `sample`; 0 takes the likeliest token.
    """

    bins: int = Field(default=256, ge=2)
    constrained: bool = False
    temperature: float = Field(default=0.0, ge=0.0)


@dataclass(frozen=True)
class Codec:
    """Chunks to ids and back, and the choice of an id, for a vocabulary of `vocabulary` ids."""

    config: TokenConfig
    binning: Binning
    output: Output
    vocabulary: int

    def encode(self, actions: Float[Tensor, "b t a"], valid: Bool[Tensor, "b t"]) -> Int[Tensor, "b n"]:
        """Ids, one for each number; those of invalid steps stand for 0, whatever is there."""
        return classes_to_ids(self.binning.encode(torch.where(valid[..., None], actions, 0.0)), self.vocabulary).flatten(1)

    def decode(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b t a"]:
        return self.values(ids).unflatten(1, (-1, self.output.action_dim))

    def values(self, ids: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return self.binning.decode(ids_to_classes(ids, self.vocabulary, self.config.bins))

    def among(self, logits: Float[Tensor, "*shape v"]) -> Float[Tensor, "*shape v"]:
        """The logits, of action ids alone if constrained."""
        if not self.config.constrained:
            return logits
        return F.pad(logits[..., self.vocabulary - self.config.bins:self.vocabulary],
                     (self.vocabulary - self.config.bins, logits.shape[-1] - self.vocabulary), value=-torch.inf)

    def choose(self, logits: Float[Tensor, "*shape v"]) -> Int[Tensor, "*shape"]:
        """The likeliest id, or one drawn at the temperature."""
        logits = self.among(logits)
        if self.config.temperature == 0.0:
            return logits.argmax(-1)
        weights = (logits / self.config.temperature).softmax(-1)
        return weights.flatten(0, -2).multinomial(1).view(logits.shape[:-1])

    def loss(self, logits: Float[Tensor, "b n v"], targets: Int[Tensor, "b n"]) -> Loss:
        """Mean cross-entropy over the targets that are not `IGNORED`.

        The parts `accuracy` and `l1` judge the likeliest ids of action tokens; OpenVLA trains until the former is above 0.95.
        """
        counted = targets != IGNORED
        total = F.cross_entropy(logits[counted], targets[counted], reduction="sum") / counted.sum().clamp(min=1)
        actions = counted & (targets >= self.vocabulary - self.config.bins)
        found, wanted = self.among(logits[actions]).argmax(-1), targets[actions]
        numbers = actions.sum().clamp(min=1)
        return Loss(total, {"cross_entropy": total.detach(), "accuracy": (found == wanted).sum() / numbers,
                            "l1": (self.values(found) - self.values(wanted)).abs().sum() / numbers})

    def log_prob(self, logits: Float[Tensor, "b n v"], ids: Int[Tensor, "b n"]) -> Float[Tensor, "b t a"]:
        """Log-probability of each number's token at temperature 1."""
        chosen = self.among(logits).log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)
        return chosen.unflatten(1, (-1, self.output.action_dim))


class Vocabulary(Head):
    """OpenVLA's own way to act: T·A tokens, one after the other. Where the chunk is complete, the stop token is trained too."""

    sampling = frozenset({"constrained", "temperature"})

    class Config(TokenConfig):
        kind: Literal["vocabulary"] = "vocabulary"

    def __init__(self, config: Config, output: Output) -> None:
        super().__init__()
        self.config, self.output, self.binning = config, output, openvla_binning(config.bins)

    def loss(self, context: Context, actions: Float[Tensor, "b t a"], valid: Bool[Tensor, "b t"]) -> Loss:
        """Next-token cross-entropy. Invalid steps end a chunk, so what is fed for them reaches no token that counts."""
        going_on, codec = self._go_on(context)
        ids = F.pad(codec.encode(actions, valid), (0, 1), value=going_on.stop)
        counted = torch.cat([valid.repeat_interleave(self.output.action_dim, 1), valid.all(1, keepdim=True)], 1)
        return codec.loss(going_on.score(ids), torch.where(counted, ids, IGNORED))

    def sample(self, context: Context, *, n: int = 1, noise: Tensor | None = None, guide: Guide | None = None,
               condition: Tensor | None = None, prefix: Prefix | None = None) -> Float[Tensor, "b n t a"]:
        """The greedy chunk, or n draws."""
        self.refuse_unsupported(noise=noise, guide=guide, condition=condition, prefix=prefix)
        refuse_equal_draws(n, self.config)
        going_on, codec = self._go_on(context)
        ids = going_on.repeat(n).generate(self.output.horizon * self.output.action_dim, codec.choose)
        return codec.decode(ids).unflatten(0, (-1, n))

    def log_prob(self, context: Context, actions: Float[Tensor, "b t a"]) -> Float[Tensor, "b t a"]:
        """Log-probability of each number's token given those before it, at temperature 1. Their sum is that of the chunk."""
        going_on, codec = self._go_on(context)
        ids = codec.encode(actions, torch.ones_like(actions[..., 0], dtype=torch.bool))
        return codec.log_prob(going_on.score(ids), ids)

    def _go_on(self, context: Context) -> tuple[continuation.Continuation, Codec]:
        offered = require_continuation(self.config.kind, context)
        return offered, Codec(self.config, self.binning, self.output, offered.vocabulary)


class ParallelVocabulary(Head):
    """OFT's discrete variant: each of the K = T·A readouts is one token, so the backbone needs that many."""

    sampling = frozenset({"constrained", "temperature"})

    class Config(TokenConfig):
        kind: Literal["vocabulary_parallel"] = "vocabulary_parallel"

    def __init__(self, config: Config, output: Output) -> None:
        super().__init__()
        if output.queries != output.horizon * output.action_dim:
            raise UserError("head vocabulary_parallel", f"the backbone has {output.queries} readouts",
                            f"horizon × action dimensions = {output.horizon} × {output.action_dim}",
                            f"set backbone.queries={output.horizon * output.action_dim}")
        self.config, self.output, self.binning = config, output, openvla_binning(config.bins)

    def loss(self, context: Context, actions: Float[Tensor, "b t a"], valid: Bool[Tensor, "b t"]) -> Loss:
        """Cross-entropy of every token of the valid steps."""
        logits, codec = self._read(context)
        counted = valid.repeat_interleave(self.output.action_dim, 1)
        return codec.loss(logits, torch.where(counted, codec.encode(actions, valid), IGNORED))

    def sample(self, context: Context, *, n: int = 1, noise: Tensor | None = None, guide: Guide | None = None,
               condition: Tensor | None = None, prefix: Prefix | None = None) -> Float[Tensor, "b n t a"]:
        """The likeliest token of every position, or n draws, each position for itself."""
        self.refuse_unsupported(noise=noise, guide=guide, condition=condition, prefix=prefix)
        refuse_equal_draws(n, self.config)
        logits, codec = self._read(context)
        return codec.decode(codec.choose(logits.repeat_interleave(n, 0))).unflatten(0, (-1, n))

    def log_prob(self, context: Context, actions: Float[Tensor, "b t a"]) -> Float[Tensor, "b t a"]:
        """Log-probability of each number's token at temperature 1. Their sum over T and A is that of the chunk."""
        logits, codec = self._read(context)
        return codec.log_prob(logits, codec.encode(actions, torch.ones_like(actions[..., 0], dtype=torch.bool)))

    def _read(self, context: Context) -> tuple[Float[Tensor, "b n v"], Codec]:
        offered = context.continuation
        if not isinstance(offered, continuation.OutputLayer):
            raise UserError("head vocabulary_parallel", "this backbone offers no vocabulary",
                            "one that does, such as openvla_oft", "take head.kind=tokens, or another backbone")
        return offered.logits(context.readout), Codec(self.config, self.binning, self.output, offered.vocabulary)


def require_continuation(head: str, context: Context) -> continuation.Continuation:
    """The language model that a head speaks with."""
    offered = context.continuation
    if not isinstance(offered, continuation.Continuation):
        raise UserError(f"head {head}", "this backbone offers no language model to go on decoding from",
                        "one that does, such as openvla", "take head.kind=tokens or fast, or another backbone")
    return offered


def refuse_equal_draws(n: int, config: TokenConfig) -> None:
    if n > 1 and config.temperature == 0.0:
        raise UserError(f"{n} draws of head '{config.kind}'", "temperature 0, so that all of them would be equal",
                        "a temperature above 0", "set head.temperature=1")
