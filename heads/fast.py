"""FAST action tokens (Pertsch et al., arXiv 2501.09747), decoded one after the other by a small language model of their own.

The tokenizer (`heads.fast_tokenizer`) is trained on the demonstrations before the head is, or is the published one. The decoder is a
small Llama that goes on from the context as from a prompt, so a token sees those before it and a chunk commits to one of several
ways. A chunk takes as many tokens as it needs; only tokens are chosen that can still spell a whole chunk, so each decodes.

Shapes: B samples, n draws, T = horizon, A action dimensions, L tokens, V vocabulary. In: `readout [B,K,D]` or `hidden`.
Out: `[B,n,T,A]`, normalised.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from backbones.context import Context
from backbones.continuation import CausalContinuation, run
from backbones.openvla.weights import locate
from heads.diffusion import hold_last
from heads.fast_tokenizer import FastTokenizer, Grammar
from heads.head import Guide, Head, Loss, Output, Prefix
from robot_io import UserError
from robot_io.registry import ComponentConfig

IGNORED = -100
"""The target that cross-entropy does not count."""


class Fast(Head):
    """Autoregressive FAST tokens. `temperature` 0 takes the likeliest token each time."""

    sampling = frozenset({"temperature"})

    class Config(ComponentConfig):
        """What is decoded, and by what.

        Attributes:
            tokenizer: a folder or hub id of a trained tokenizer, such as physical-intelligence/fast; null trains one on the data.
            vocabulary: V, tokens at most.
            scale: of a tokenizer that is trained: the finer, the more tokens.
            temperature: of `sample`.
            reads: the readouts, or the whole hidden sequence.
            width, depth, attention_heads, dropout: the decoder's; the dropout is on attention.
        """

        kind: Literal["fast"] = "fast"
        tokenizer: str | None = None
        vocabulary: int = Field(default=512, ge=2)
        scale: float = Field(default=10.0, gt=0.0)
        temperature: float = Field(default=0.0, ge=0.0)
        reads: Literal["readout", "hidden"] = "readout"
        width: int = Field(default=128, ge=2)
        depth: int = Field(default=3, ge=1)
        attention_heads: int = Field(default=4, ge=1)
        dropout: float = Field(default=0.1, ge=0.0, lt=1.0)

    def __init__(self, config: Config, output: Output) -> None:
        super().__init__()
        if config.width % (2 * config.attention_heads):
            raise UserError("head.width", f"{config.width}", f"a multiple of twice attention_heads = {config.attention_heads}",
                            "change either")
        self.config, self.output = config, output
        self.tokenizer: FastTokenizer | None = None
        self.read = nn.Sequential(nn.LayerNorm(output.context_dim), nn.Linear(output.context_dim, config.width))
        self.begin = nn.Parameter(0.02 * torch.randn(config.width))
        self.decoder = LlamaForCausalLM(LlamaConfig(
            vocab_size=config.vocabulary, hidden_size=config.width, intermediate_size=4 * config.width,
            num_hidden_layers=config.depth, num_attention_heads=config.attention_heads, attention_dropout=config.dropout,
            bos_token_id=None, eos_token_id=None, pad_token_id=None))

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
        self.tokenizer, self.grammar = tokenizer, Grammar.of(tokenizer, self.config.vocabulary)

    def require_tokenizer(self) -> FastTokenizer:
        if self.tokenizer is None:
            raise UserError("head 'fast'", "its tokenizer has not been trained", "one trained on the demonstrations",
                            "train with `vla train`, or set head.tokenizer=physical-intelligence/fast")
        return self.tokenizer

    def loss(self, context: Context, actions: Float[Tensor, "b t a"], valid: Bool[Tensor, "b t"]) -> Loss:
        """Next-token cross-entropy. Every token speaks of all steps, so those past an episode's end hold the last action; a chunk
        without a valid step does not count."""
        ids = self.encode(hold_last(actions, valid), valid.any(1))
        logits = self.prompted(context, cached=False).score(ids.clamp(min=0))
        counted = ids != IGNORED
        numbers = counted.sum().clamp(min=1)
        total = F.cross_entropy(logits.flatten(0, 1), ids.flatten(), ignore_index=IGNORED, reduction="sum") / numbers
        right = ((logits.argmax(-1) == ids) & counted).sum() / numbers
        return Loss(total, {"cross_entropy": total.detach(), "right": right, "tokens": numbers / valid.any(1).sum().clamp(min=1)})

    def sample(self, context: Context, *, n: int = 1, noise: Tensor | None = None, guide: Guide | None = None,
               condition: Tensor | None = None, prefix: Prefix | None = None) -> Float[Tensor, "b n t a"]:
        """The greedy chunk, or n draws."""
        self.refuse_unsupported(noise=noise, guide=guide, condition=condition, prefix=prefix)
        if n > 1 and self.config.temperature == 0.0:
            raise UserError(f"{n} draws of head 'fast'", "temperature 0, so that all of them would be equal",
                            "a temperature above 0", "set head.temperature=1")
        tokenizer, prompted = self.require_tokenizer(), self.prompted(context, cached=True).repeat(n)
        spelling = Spelling(self.grammar, self.output.horizon * self.output.action_dim, self.config.temperature)
        ids = prompted.generate(2 * spelling.count, spelling, until=lambda: spelling.complete)
        chunks = tokenizer.decode(ids.tolist(), self.output.horizon, self.output.action_dim)
        return chunks.to(ids.device).unflatten(0, (-1, n))

    def encode(self, chunks: Float[Tensor, "b t a"], counted: Bool[Tensor, " b"]) -> Int[Tensor, "b l"]:
        """Tokens, filled up with `IGNORED`; all of it for chunks that do not count."""
        rows = self.require_tokenizer().encode(chunks.nan_to_num())
        kept = [torch.tensor(row if counts else [], dtype=torch.long) for row, counts in zip(rows, counted.tolist(), strict=True)]
        ids = nn.utils.rnn.pad_sequence(kept, batch_first=True, padding_value=IGNORED)
        return (ids if ids.shape[1] else F.pad(ids, (0, 1), value=IGNORED)).to(chunks.device)

    def prompted(self, context: Context, cached: bool) -> CausalContinuation:
        """The decoder after the context and a mark that tokens begin; with a cache to go on from, or to train on in one pass."""
        whole = self.config.reads == "hidden"
        read = self.read(context.hidden if whole else context.readout)
        mask = context.mask if whole else torch.ones_like(read[..., 0], dtype=torch.bool)
        prompt = torch.cat([read, self.begin.expand(len(read), 1, -1)], 1)
        mask = F.pad(mask, (0, 1), value=True)
        cache, last = None, prompt[:, -1]
        if cached:
            cache = DynamicCache()
            last = run(self.decoder, prompt, mask, cache)[:, -1]
        return CausalContinuation(self.decoder, self.config.vocabulary, 0, prompt, mask, last, cache)


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
