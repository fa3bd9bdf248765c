"""What a head may ask of `Context.continuation`: to go on from where the backbone stopped, in its own vocabulary.

Two protocols, the second including the first:

- `OutputLayer` turns hidden states into logits. Enough for a head that reads all its tokens in one pass.
- `Continuation` also feeds tokens after the prefix (picture, words, state), to train on them and to decode them one by one.

`CausalContinuation` is the second one for any decoder of transformers: a backbone that runs one on a prefix of embeddings
hands it the same embeddings and the cache of that pass, and gets autoregressive heads for nothing.

Shapes: B samples, L positions of the prefix, N tokens after it, width D, V logits (a model may have more logits than ids in its
vocabulary: OpenVLA's Llama has 32064 for 32000, padded to a multiple of 64).
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from robot_io import UserError

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

Choose = Callable[[Tensor], Tensor]
"""`choose(logits float [B, V])` → the next token of each sample, `int64 [B]`."""


@runtime_checkable
class OutputLayer(Protocol):
    """Hidden states to logits.

    `vocabulary` is the number of ids that words and actions share; action tokens are the last of them.
    """

    vocabulary: int

    def logits(self, hidden: Float[Tensor, "*shape d"]) -> Float[Tensor, "*shape v"]:
        """Unnormalised log-probabilities, float32."""
        ...


@runtime_checkable
class Continuation(OutputLayer, Protocol):
    """The language model, ready to go on from its prefix. Nothing here changes it: every call begins at the prefix.

    `stop` is the id that ends an answer.
    """

    stop: int

    def score(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n v"]:
        """Teacher forcing: `[:, i]` are the logits of `ids[:, i]` given the prefix and `ids[:, :i]`. Differentiable."""
        ...

    def generate(self, steps: int, choose: Choose, until: Callable[[], bool] | None = None) -> Int[Tensor, "b n"]:
        """Decode `steps` tokens, each chosen from its logits and fed back; fewer, if after one of them `until` says so."""
        ...

    def repeat(self, n: int) -> Continuation:
        """Every sample n times, consecutively."""
        ...


@dataclass(frozen=True)
class LanguageHead:
    """The `OutputLayer` of any decoder: that of transformers' language models."""

    model: PreTrainedModel
    vocabulary: int

    def logits(self, hidden: Float[Tensor, "*shape d"]) -> Float[Tensor, "*shape v"]:
        return self.model.get_output_embeddings()(hidden.to(dtype_of(self.model))).float()


@dataclass(frozen=True)
class CausalContinuation(LanguageHead):
    """A `Continuation` after a pass of `model` over a prefix.

    Attributes:
        stop: id that ends an answer.
        prefix: `float [B, L, D]`, the embeddings that were fed.
        mask: `bool [B, L]`, True where a position of the prefix is real; its last position must be.
        last: `float [B, D]`, the last hidden state of the prefix: it predicts the first token.
        cache: keys and values of the prefix; None under gradient checkpointing, which allows none: `score` then runs the
            prefix again.
    """

    stop: int
    prefix: Float[Tensor, "b l d"]
    mask: Bool[Tensor, "b l"]
    last: Float[Tensor, "b d"]
    cache: Cache | None

    def score(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n v"]:
        fed = self.model.get_input_embeddings()(ids[:, :-1])
        if self.cache is None:
            hidden = run(self.model, torch.cat([self.prefix, fed], 1), self._mask(fed.shape[1]))[:, -ids.shape[1]:]
        elif ids.shape[1] == 1:
            hidden = self.last[:, None]
        else:
            after = run(self.model, fed, self._mask(fed.shape[1]), fork(self.cache))
            hidden = torch.cat([self.last[:, None].to(after), after], 1)
        return self.logits(hidden)

    def generate(self, steps: int, choose: Choose, until: Callable[[], bool] | None = None) -> Int[Tensor, "b n"]:
        if self.cache is None:
            raise UserError("decoding", "gradient checkpointing is on, so the prefix was not cached", "evaluation mode",
                            "call policy.eval() before sampling")
        cache, embed = fork(self.cache), self.model.get_input_embeddings()
        ids = [choose(self.logits(self.last))]
        while len(ids) < steps and not (until and until()):
            hidden = run(self.model, embed(ids[-1])[:, None], self._mask(len(ids)), cache)
            ids.append(choose(self.logits(hidden[:, 0])))
        return torch.stack(ids, 1)

    def repeat(self, n: int) -> CausalContinuation:
        if n == 1:
            return self
        cache = None if self.cache is None else fork(self.cache)
        if cache is not None:
            cache.batch_repeat_interleave(n)
        prefix, mask, last = (t.repeat_interleave(n, 0) for t in (self.prefix, self.mask, self.last))
        return replace(self, prefix=prefix, mask=mask, last=last, cache=cache)

    def _mask(self, more: int) -> Bool[Tensor, "b m"]:
        """The mask of the prefix and `more` real positions after it."""
        return torch.cat([self.mask, self.mask.new_ones(len(self.mask), more)], 1)


def run(model: PreTrainedModel, embeds: Float[Tensor, "b n d"], mask: Bool[Tensor, "b m"],
        cache: Cache | None = None) -> Float[Tensor, "b n d"]:
    """The last hidden states of a causal pass over `embeds`, which stand at the last N of the M positions of `mask`.

    Padding may be anywhere: positions are counted over real ones, so that it changes nothing. `cache` holds the M - N
    positions before, and grows.
    """
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -embeds.shape[1]:]
    return model.get_decoder()(inputs_embeds=embeds, attention_mask=mask, position_ids=positions, past_key_values=cache,
                               use_cache=cache is not None).last_hidden_state


def fork(cache: Cache) -> Cache:
    """A cache that grows without the original: layers append by making new tensors, so copying the references is enough."""
    forked = copy(cache)
    forked.layers = [copy(layer) for layer in cache.layers]
    return forked


def dtype_of(model: PreTrainedModel) -> torch.dtype:
    """What the model computes in. Its embeddings tell, even where other weights are quantised."""
    return model.get_input_embeddings().weight.dtype
