"""FAST action tokens (Pertsch et al., arXiv 2501.09747), decoded one after the other by a small language model of their own.

The tokenizer (`heads.fast_tokenizer`) is trained on the demonstrations before the head is, or is the published one. The decoder is a
small Llama that goes on from the context as from a prompt, so a token sees those before it and a chunk commits to one of several
ways. A chunk takes as many tokens as it needs; only tokens are chosen that can still spell a whole chunk, so each decodes
(`heads.spelling`). To let the backbone's own language model speak instead: `heads.vocabulary_fast`.

Shapes: B samples, n draws, T = horizon, A action dimensions, L tokens, V vocabulary. In: `readout [B,K,D]` or `hidden`.
Out: `[B,n,T,A]`, normalised.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from backbones.context import Context
from backbones.continuation import CausalContinuation, run
from heads.head import Output
from heads.spelling import Ids, SpellingConfig, SpellingHead
from robot_io import UserError


class Fast(SpellingHead):
    """Autoregressive FAST tokens from a decoder of their own."""

    class Config(SpellingConfig):
        """What is decoded, and by what.

        Attributes:
            reads: the readouts, or the whole hidden sequence.
            width, depth, attention_heads, dropout: the decoder's; the dropout is on attention.
        """

        kind: Literal["fast"] = "fast"
        reads: Literal["readout", "hidden"] = "readout"
        width: int = Field(default=128, ge=2)
        depth: int = Field(default=3, ge=1)
        attention_heads: int = Field(default=4, ge=1)
        dropout: float = Field(default=0.1, ge=0.0, lt=1.0)

    def __init__(self, config: Config, output: Output) -> None:
        super().__init__(config, output)
        if config.width % (2 * config.attention_heads):
            raise UserError("head.width", f"{config.width}", f"a multiple of twice attention_heads = {config.attention_heads}",
                            "change either")
        self.read = nn.Sequential(nn.LayerNorm(output.context_dim), nn.Linear(output.context_dim, config.width))
        self.begin = nn.Parameter(0.02 * torch.randn(config.width))
        self.decoder = LlamaForCausalLM(LlamaConfig(
            vocab_size=config.vocabulary, hidden_size=config.width, intermediate_size=4 * config.width,
            num_hidden_layers=config.depth, num_attention_heads=config.attention_heads, attention_dropout=config.dropout,
            bos_token_id=None, eos_token_id=None, pad_token_id=None))

    def speaker(self, context: Context, cached: bool) -> tuple[CausalContinuation, Ids]:
        """The decoder after the context and a mark that tokens begin. Its ids are the tokens."""
        whole = self.config.reads == "hidden"
        read = self.read(context.hidden if whole else context.readout)
        mask = context.mask if whole else torch.ones_like(read[..., 0], dtype=torch.bool)
        prompt = torch.cat([read, self.begin.expand(len(read), 1, -1)], 1)
        mask = F.pad(mask, (0, 1), value=True)
        ids = Ids(self.require_tokenizer().size)
        cache, last = None, prompt[:, -1]
        if cached:
            cache = DynamicCache()
            last = run(self.decoder, prompt, mask, cache)[:, -1]
        return CausalContinuation(self.decoder, self.config.vocabulary, 0, prompt, mask, last, cache), ids
