"""FAST tokens through the language model's own vocabulary: π0-FAST (Pertsch et al., arXiv 2501.09747, sec. VI).

`heads.fast` without a decoder of its own, and so without parameters: the tokens are the last ids of the vocabulary, the first of them
the very last id, and the backbone's language model predicts them as it predicts words. A chunk takes a few tokens where `vocabulary`
takes T·A. Training also teaches the id that ends an answer; decoding needs none, as the grammar of the tokens (`heads.spelling`)
knows when a chunk is whole, and lets nothing else be said.

Shapes: B samples, n draws, T = horizon, A action dimensions. In: a `continuation`. Out: `[B,n,T,A]`, normalised.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from backbones.context import Context
from backbones.continuation import Continuation
from heads.spelling import Ids, SpellingConfig, SpellingHead
from heads.vocabulary import require_continuation
from robot_io import UserError


class VocabularyFast(SpellingHead):
    """Autoregressive FAST tokens from the backbone's language model."""

    class Config(SpellingConfig):
        """What is decoded.

        Attributes:
            skip: ids at the very end of the vocabulary that are left alone; π0-FAST skips the 128 of PaliGemma that mean something.
        """

        kind: Literal["vocabulary_fast"] = "vocabulary_fast"
        skip: int = Field(default=0, ge=0)

    def speaker(self, context: Context, cached: bool) -> tuple[Continuation, Ids]:
        """The language model after picture and words."""
        going_on = require_continuation(self.config.kind, context)
        tokens, skip = self.require_tokenizer().size, self.config.skip
        if tokens + skip > going_on.vocabulary:
            raise UserError("head.vocabulary", f"{tokens} tokens after {skip} skipped ids",
                            f"at most the {going_on.vocabulary} ids of the language model", "train a smaller tokenizer: lower head.vocabulary")
        return going_on, Ids(tokens, going_on.vocabulary - 1 - skip, -1, going_on.stop)
