"""Words for a model from scratch: every word that a prompt or an action can hold, `[verb]`s being words of their own."""

from __future__ import annotations

from typing import Any

from robot_io.household.skills import ARGUMENTS, all_skills

WORDS = ("goal", "been", "before", "see", "done", "failed", "nothing", "put", "in", "on", "the", "switch", "off", "heat", "wash", "near", "hand",
         "empty", "open", "closed", ":", ";", ",", ".")
PAD, END, UNKNOWN = "[pad]", "[end]", "[unknown]"


def vocabulary() -> list[str]:
    """Deterministic; padding first, then end, then unknown."""
    names = sorted({name for skill in all_skills() for name in skill.names})
    return [PAD, END, UNKNOWN, *WORDS, *(f"[{verb}]" for verb in ARGUMENTS), *names]


def tokenizer() -> Any:
    """A transformers tokenizer: whole words, left padding, what surrounds a name dropped."""
    import transformers
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary())}, unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"\[\w+\]|\w+|[;:,.]"), behavior="removed", invert=True)
    return transformers.TokenizersBackend(tokenizer_object=made, pad_token=PAD, eos_token=END, unk_token=UNKNOWN, padding_side="left")
