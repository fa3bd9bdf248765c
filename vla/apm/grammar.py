"""The grammar in the model's own tokens: which token may follow which, so that nothing but a sentence of it can be said.

Shapes: A sentences, T tokens of the longest with its end, V the vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from robot_io.household.skills import Skill, all_skills


class Grammar:
    """
    Attributes:
        skills: A of them.
        tokens: `int64 [A, T]`, padded on the right.
        real: `bool [A, T]`.
        allowed: `bool [P, V]`, what may follow each beginning; `state [A, T]` says which beginning a sentence is at.
    """

    def __init__(self, tokenizer: Any, size: int) -> None:
        self.skills: tuple[Skill, ...] = all_skills()
        self.number = {skill: i for i, skill in enumerate(self.skills)}
        end = tokenizer.eos_token_id
        spelled = [[*tokenizer(str(skill), add_special_tokens=False)["input_ids"], end] for skill in self.skills]
        self._sentence = {tuple(tokens): i for i, tokens in enumerate(spelled)}
        longest = max(map(len, spelled))
        self.tokens: Int64[Tensor, "a t"] = torch.full((len(spelled), longest), tokenizer.pad_token_id)
        self.real: Bool[Tensor, "a t"] = torch.zeros(len(spelled), longest, dtype=torch.bool)
        self.state: Int64[Tensor, "a t"] = torch.zeros(len(spelled), longest, dtype=torch.int64)
        beginnings: dict[tuple[int, ...], int] = {}
        follow: list[set[int]] = []
        for i, tokens in enumerate(spelled):
            self.tokens[i, :len(tokens)] = torch.tensor(tokens)
            self.real[i, :len(tokens)] = True
            for t, token in enumerate(tokens):
                beginning = tuple(tokens[:t])
                if beginning not in beginnings:
                    beginnings[beginning] = len(follow)
                    follow.append(set())
                self.state[i, t] = beginnings[beginning]
                follow[beginnings[beginning]].add(token)
        self._beginnings, self._follow, self._pad = beginnings, [sorted(tokens) for tokens in follow], tokenizer.pad_token_id
        self.allowed: Bool[Tensor, "p v"] = torch.zeros(len(follow), size, dtype=torch.bool)
        for row, tokens in zip(self.allowed, self._follow, strict=True):
            row[tokens] = True

    def next_tokens(self, said: list[int]) -> list[int]:
        """What may be said next; padding behind a whole sentence."""
        beginning = self._beginnings.get(tuple(said))
        return [self._pad] if beginning is None else self._follow[beginning]

    def read(self, said: list[int]) -> Skill:
        """The skill that a generated sentence spells."""
        return self.skills[self._sentence[tuple(token for token in said if token != self._pad)]]
