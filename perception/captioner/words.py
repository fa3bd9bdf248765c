"""The captioner's words: whole words and punctuation marks out of a closed list, which is kept with the weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

PAD, START, END = "[pad]", "[start]", "[end]"
SPECIAL = (PAD, START, END)


def split(text: str) -> list[str]:
    """Lower-case words and marks."""
    return re.findall(r"[a-z0-9_]+|[;,.:]", text.lower())


def join(words: Iterable[str]) -> str:
    return re.sub(r" (?=[;,.:])", "", " ".join(words))


def clauses(text: str, at_most: int) -> str:
    """The first clauses, and how many more there are."""
    parts = text.split("; ")
    return text if len(parts) <= at_most else "; ".join([*parts[:at_most], f"{len(parts) - at_most} more"])


class Words:
    """Words ↔ numbers. The first three are padding, start and end."""

    def __init__(self, known: Sequence[str]) -> None:
        self.known = tuple(known)
        self._index = {word: i for i, word in enumerate(self.known)}

    @classmethod
    def of(cls, texts: Iterable[str]) -> Words:
        """Every word that occurs."""
        return cls((*SPECIAL, *sorted({word for text in texts for word in split(text)})))

    def __len__(self) -> int:
        return len(self.known)

    def encode(self, text: str) -> list[int]:
        """With start and end. A word outside the list is a KeyError: lessons are written by this project."""
        return [1, *(self._index[word] for word in split(text)), 2]

    def decode(self, numbers: Iterable[int]) -> str:
        """Up to the end, without it."""
        words = []
        for number in numbers:
            if number == 2:
                break
            if number > 2:
                words.append(self.known[number])
        return join(words)
