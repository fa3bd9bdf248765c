"""What heads of FAST tokens share (Pertsch et al., arXiv 2501.09747): the tokenizer's life, the loss, and decoding by its grammar.

Whoever speaks (a decoder of the head's own, or the backbone's language model) is a `Continuation`; `Ids` says which of its ids are the
tokens. `Spelling` chooses token after token so that what comes out always spells a whole chunk.

Shapes: B samples, n draws, T = horizon, A action dimensions, L ids, V tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from backbones.context import Context
from backbones.continuation import Continuation
from backbones.openvla.weights import locate
from heads.diffusion import hold_last
from heads.fast_tokenizer import FastTokenizer, Grammar
from heads.head import Guide, Head, Loss, Output, Prefix
from robot_io import UserError
from robot_io.registry import ComponentConfig

IGNORED = -100
"""The target that cross-entropy does not count."""


class SpellingConfig(ComponentConfig):
    """The tokenizer, and how to choose.

    Attributes:
        tokenizer: a folder or hub id of a trained tokenizer, such as physical-intelligence/fast; null trains one on the data.
        vocabulary: V, tokens at most.
        scale: of a tokenizer that is trained: the finer, the more tokens.
        temperature: of `sample`; 0 takes the likeliest token each time.
    """

    tokenizer: str | None = None
    vocabulary: int = Field(default=512, ge=2)
    scale: float = Field(default=10.0, gt=0.0)
    temperature: float = Field(default=0.0, ge=0.0)


@dataclass(frozen=True)
class Ids:
    """Which ids of who speaks are the `size` tokens: token 0 is id `first`, the next is `first + step`, and so on.

    `stop` is the id that ends a chunk in training; None if nothing does.
    """

    size: int
    first: int = 0
    step: int = 1
    stop: int | None = None

    def of(self, tokens: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        return self.first + self.step * tokens

    def tokens(self, ids: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        return (ids - self.first) * self.step

    def among(self, logits: Float[Tensor, "*shape i"]) -> Float[Tensor, "*shape v"]:
        """The logits of the tokens, in their order."""
        if self.step == 1:
            return logits[..., self.first:self.first + self.size]
        return logits[..., self.first - self.size + 1:self.first + 1].flip(-1)


class SpellingHead(Head):
    """FAST tokens, one after the other. A child says who speaks them."""

    sampling = frozenset({"temperature"})

    def __init__(self, config: SpellingConfig, output: Output) -> None:
        super().__init__()
        self.config, self.output = config, output
        self.tokenizer: FastTokenizer | None = None

    def speaker(self, context: Context, cached: bool) -> tuple[Continuation, Ids]:
        """Who goes on from the context, and the ids of the tokens; `cached` if it is to decode rather than to be trained in one pass."""
        raise NotImplementedError

    def load_pretrained(self) -> None:
        """Fetch the tokenizer that the configuration names, if it does."""
        if self.config.tokenizer is not None:
            self.take(FastTokenizer.load(locate(self.config.tokenizer, "head.tokenizer", ("*.json",))))

    def study(self, demonstrated: Callable[[], tuple[Tensor, Tensor]]) -> None:
        """Train the tokenizer on the demonstrated chunks, if there is none yet."""
        if self.tokenizer is None:
            actions, valid = demonstrated()
            self.take(FastTokenizer.train(hold_last(actions, valid), scale=self.config.scale, vocabulary=self.config.vocabulary))

    def save_assets(self, folder: Path) -> None:
        folder.mkdir()
        self.require_tokenizer().save(folder)

    def load_assets(self, folder: Path) -> None:
        self.take(FastTokenizer.load(folder))

    def take(self, tokenizer: FastTokenizer) -> None:
        """Use this tokenizer from now on."""
        if tokenizer.size > self.config.vocabulary:
            raise UserError("head.vocabulary", f"{self.config.vocabulary}", f"at least the tokenizer's {tokenizer.size}",
                            f"set head.vocabulary={tokenizer.size}")
        self.tokenizer, self.grammar = tokenizer, Grammar.of(tokenizer)

    def require_tokenizer(self) -> FastTokenizer:
        if self.tokenizer is None:
            raise UserError(f"head '{self.config.kind}'", "its tokenizer has not been trained", "one trained on the demonstrations",
                            "train with `vla train`, or set head.tokenizer=physical-intelligence/fast")
        return self.tokenizer

    def loss(self, context: Context, actions: Float[Tensor, "b t a"], valid: Bool[Tensor, "b t"]) -> Loss:
        """Next-token cross-entropy. Every token speaks of all steps, so those past an episode's end hold the last action; a chunk
        without a valid step does not count."""
        speaker, ids = self.speaker(context, cached=False)
        targets = self.encode(hold_last(actions, valid), valid.any(1), ids)
        logits = speaker.score(targets.clamp(min=0))
        counted = targets != IGNORED
        numbers = counted.sum().clamp(min=1)
        total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum") / numbers
        right = ((logits.argmax(-1) == targets) & counted).sum() / numbers
        return Loss(total, {"cross_entropy": total.detach(), "right": right, "tokens": numbers / valid.any(1).sum().clamp(min=1)})

    def sample(self, context: Context, *, n: int = 1, noise: Tensor | None = None, guide: Guide | None = None,
               condition: Tensor | None = None, prefix: Prefix | None = None) -> Float[Tensor, "b n t a"]:
        """The greedy chunk, or n draws."""
        self.refuse_unsupported(noise=noise, guide=guide, condition=condition, prefix=prefix)
        if n > 1 and self.config.temperature == 0.0:
            raise UserError(f"{n} draws of head '{self.config.kind}'", "temperature 0, so that all of them would be equal",
                            "a temperature above 0", "set head.temperature=1")
        tokenizer, (speaker, ids) = self.require_tokenizer(), self.speaker(context, cached=True)
        spelling = Spelling(self.grammar, self.output.horizon * self.output.action_dim, self.config.temperature)
        said = speaker.repeat(n).generate(2 * spelling.count, lambda logits: ids.of(spelling(ids.among(logits))),
                                          until=lambda: spelling.complete)
        chunks = tokenizer.decode(ids.tokens(said).tolist(), self.output.horizon, self.output.action_dim)
        return chunks.to(said.device).unflatten(0, (-1, n))

    def encode(self, chunks: Float[Tensor, "b t a"], counted: Bool[Tensor, " b"], ids: Ids) -> Int[Tensor, "b l"]:
        """The ids to say, filled up with `IGNORED`; all of it for chunks that do not count."""
        rows = self.require_tokenizer().encode(chunks.nan_to_num())
        end = [] if ids.stop is None else [ids.stop]
        kept = [torch.tensor([*ids.of(torch.tensor(row)).tolist(), *end] if counts else [], dtype=torch.long)
                for row, counts in zip(rows, counted.tolist(), strict=True)]
        said = nn.utils.rnn.pad_sequence(kept, batch_first=True, padding_value=IGNORED)
        return (said if said.shape[1] else F.pad(said, (0, 1), value=IGNORED)).to(chunks.device)


class Spelling:
    """Chooses token after token, only such as can still spell `count` characters. Rows that are complete get token 0, which spells
    nothing any more as `FastTokenizer.decode` stops reading there."""

    def __init__(self, grammar: Grammar, count: int, temperature: float) -> None:
        self.grammar, self.count, self.temperature = grammar, count, temperature
        self.begun: Tensor | None = None

    @property
    def complete(self) -> bool:
        """Whether every row spells a whole chunk."""
        return bool((self.begun == self.count).all() and not self.open.any())

    def __call__(self, logits: Float[Tensor, "b v"]) -> Int[Tensor, " b"]:
        device, logits = logits.device, logits.cpu()
        if self.begun is None:
            self.begun = torch.zeros(len(logits), dtype=torch.long)
            self.open = torch.zeros(len(logits), dtype=torch.bool)
        done = (self.begun == self.count) & ~self.open
        possible = self.grammar.allowed(self.begun, self.open, self.count)
        possible[done, 0] = True
        logits = logits.masked_fill(~possible, -torch.inf)
        chosen = logits.argmax(-1) if self.temperature == 0.0 else (
            (logits / self.temperature).softmax(-1).multinomial(1).squeeze(-1))
        begun, is_open = self.grammar.advance(self.begun, self.open, chosen)
        self.begun, self.open = torch.where(done, self.begun, begun), torch.where(done, self.open, is_open)
        return chosen.to(device)
