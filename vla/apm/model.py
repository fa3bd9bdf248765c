"""The text-to-action model: a sequence-to-sequence or causal language model of transformers that reads a prompt and says one skill.

From scratch it is a small T5 or GPT-2 over the project's own words; `checkpoint` names a published one instead, with its tokenizer. Prompts
go in as embeddings, so that one more position can hold a vector instead of words (the pooled bridge). Whatever the model, what it says is
held to the grammar while it speaks, and its probabilities are those of a speaker so held: `log_probs` and `act` agree.

Shapes: B prompts, L positions, T tokens of an action with its end, V vocabulary, D the model's width, E of the vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from perception.grounding.published import load_model, load_processor
from robot_io import UserError
from robot_io.household.skills import Skill
from vla.apm.grammar import Grammar
from vla.apm.settings import Model
from vla.apm.words import tokenizer as own_words
from vla.seeds import mix

EXAMPLE = "facebook/bart-base"


class TextToAction(nn.Module):
    """See the module's head."""

    def __init__(self, config: Model, seed: int = 0, vector: int | None = None, folder: Path | None = None) -> None:
        """
        Args:
            vector: width E of the vector behind the prompt; None for none.
            folder: where `save` put it, to load instead of making a new one.
        """
        super().__init__()
        source = None if folder is None else str(folder)
        self.config = config
        self.tokenizer, self.model = _published(config.checkpoint or source) if config.checkpoint or source else _from_scratch(config, seed)
        self.seq2seq = bool(self.model.config.is_encoder_decoder)
        embedding = self.model.get_input_embeddings()
        self.grammar = Grammar(self.tokenizer, self.model.config.vocab_size)
        with torch.random.fork_rng():
            torch.manual_seed(mix(seed, 2))
            self.vector = None if vector is None else nn.Linear(vector, embedding.embedding_dim)

    def log_probs(self, prompts: Sequence[str], vectors: Tensor | None, said: Int64[Tensor, " b"]) -> Float[Tensor, " b"]:
        """log p(action | prompt) of the actions numbered `said`, each a sentence of the grammar."""
        grammar = self.grammar
        logits = self._logits(*self._embed(prompts, vectors), grammar.tokens[said])
        held = logits.masked_fill(~grammar.allowed[grammar.state[said]], -torch.inf)
        token = held.log_softmax(-1).gather(-1, grammar.tokens[said][..., None])[..., 0]
        return token.masked_fill(~grammar.real[said], 0).sum(1)

    @torch.no_grad()
    def act(self, prompts: Sequence[str], vectors: Tensor | None = None, sample: int | None = None) -> list[Skill]:
        """What to do next: the likeliest token after token, or drawn with the seed `sample`."""
        embedded, mask = self._embed(prompts, vectors)
        start = 1 if self.seq2seq else 0  # the decoder's own first token
        drawn = {"do_sample": True, "top_k": 0, "temperature": 1.0} if sample is not None else {"do_sample": False}
        with torch.random.fork_rng():
            torch.manual_seed(0 if sample is None else sample)
            said = self.model.generate(
                inputs_embeds=embedded, attention_mask=mask.long(), max_new_tokens=self.grammar.tokens.shape[1], num_beams=1,
                eos_token_id=self.tokenizer.eos_token_id, pad_token_id=self.tokenizer.pad_token_id,
                prefix_allowed_tokens_fn=lambda _, ids: self.grammar.next_tokens(ids.tolist()[start:]), **drawn,
            )
        return [self.grammar.read(tokens[start:]) for tokens in said.tolist()]

    def save(self, folder: Path) -> None:
        """Into a folder of safetensors and tokenizer files, as transformers reads it."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        if self.vector is not None:
            from safetensors.torch import save_file

            save_file(dict(self.vector.state_dict()), folder / "vector.safetensors")

    @classmethod
    def load(cls, folder: Path, config: Model) -> TextToAction:
        """What `save` wrote."""
        from safetensors.torch import load_file

        bridge = folder / "vector.safetensors"
        weights = load_file(bridge) if bridge.exists() else None
        loaded = cls(config.model_copy(update={"checkpoint": None}), vector=None if weights is None else weights["weight"].shape[1], folder=folder)
        if weights is not None:
            loaded.vector.load_state_dict(weights)
        return loaded.eval()

    def _embed(self, prompts: Sequence[str], vectors: Float[Tensor, "b e"] | None) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """Prompts as embeddings, padded on the left, the vector last."""
        encoded = self.tokenizer(list(prompts), padding=True, padding_side="left", add_special_tokens=False, return_tensors="pt")
        embedded, mask = self.model.get_input_embeddings()(encoded["input_ids"]), encoded["attention_mask"].bool()
        if self.vector is None:
            return embedded, mask
        if vectors is None:
            raise UserError("text-to-action model", "it was taught with pooled cells and is given none", "summary=pooled",
                            "evaluate it as it was taught")
        embedded = torch.cat([embedded, self.vector(vectors)[:, None]], 1)
        return embedded, torch.cat([mask, mask.new_ones(len(mask), 1)], 1)

    def _logits(self, embedded: Tensor, mask: Tensor, tokens: Int64[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        """Before every token of the action."""
        if self.seq2seq:
            before = torch.full_like(tokens[:, :1], self.model.config.decoder_start_token_id)
            output = self.model(inputs_embeds=embedded, attention_mask=mask.long(), decoder_input_ids=torch.cat([before, tokens[:, :-1]], 1))
            return output.logits.float()
        following = self.model.get_input_embeddings()(tokens[:, :-1])
        whole = torch.cat([mask, mask.new_ones(following.shape[:2])], 1)
        places = (whole.long().cumsum(1) - 1).clamp(min=0)
        output = self.model(inputs_embeds=torch.cat([embedded, following], 1), attention_mask=whole.long(), position_ids=places)
        return output.logits[:, -tokens.shape[1]:].float()


def _from_scratch(config: Model, seed: int) -> tuple[Any, nn.Module]:
    import transformers

    words = own_words()
    shared = {"vocab_size": len(words), "pad_token_id": words.pad_token_id, "eos_token_id": words.eos_token_id}
    with torch.random.fork_rng():
        torch.manual_seed(mix(seed, 1))
        if config.architecture == "t5":
            settings = transformers.T5Config(
                d_model=config.dim, d_kv=config.dim // config.heads, d_ff=2 * config.dim, num_layers=config.layers, num_heads=config.heads,
                dropout_rate=config.dropout, feed_forward_proj="gated-gelu", decoder_start_token_id=words.pad_token_id, **shared)
            return words, transformers.T5ForConditionalGeneration(settings)
        settings = transformers.GPT2Config(
            n_embd=config.dim, n_layer=config.layers, n_head=config.heads, n_positions=256, resid_pdrop=config.dropout, embd_pdrop=config.dropout,
            attn_pdrop=config.dropout, bos_token_id=words.eos_token_id, **shared)
        return words, transformers.GPT2LMHeadModel(settings)


def _published(source: str) -> tuple[Any, nn.Module]:
    """A seq2seq or causal model by folder or hub id, with its tokenizer."""
    import transformers

    words = load_processor(transformers.AutoTokenizer, source, "text-to-action model", EXAMPLE,
                           (("tokenizer.json", "vocab.json", "spiece.model"),))
    if words.pad_token_id is None:
        words.pad_token = words.eos_token
    settings = transformers.AutoConfig.from_pretrained(source)
    kind = transformers.AutoModelForSeq2SeqLM if settings.is_encoder_decoder else transformers.AutoModelForCausalLM
    return words, load_model(kind, source, "text-to-action model", EXAMPLE)
