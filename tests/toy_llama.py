"""A tiny Llama of transformers that has read a prefix, for the tests of heads that speak in its vocabulary."""

import torch

from backbones.context import Context
from backbones.continuation import CausalContinuation, run

STOP = 2


def toy_llama(logits: int):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=logits, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)).eval()


def prefix(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings and mask of a prefix; that of the last sample is shorter."""
    mask = torch.ones(batch, 5, dtype=torch.bool)
    mask[-1, :2] = False
    return torch.randn(batch, 5, 16, generator=torch.Generator().manual_seed(3)), mask


def having_read(llama, words: int, batch: int) -> Context:
    """The context of a backbone that has read the prefix; `words` of its logits are words."""
    from transformers import DynamicCache

    embeds, mask = prefix(batch)
    cache = DynamicCache(config=llama.config)
    hidden = run(llama, embeds, mask, cache)
    going_on = CausalContinuation(llama, words, STOP, embeds, mask, hidden[:, -1], cache)
    return Context(hidden, mask, hidden[:, -1:], continuation=going_on)
