"""Episodes carried out side by side: all that are not over are asked about together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from robot_io.household.skills import Skill
from vla.apm.episode import Episode
from vla.apm.model import TextToAction
from vla.apm.summaries import Summariser
from vla.seeds import mix

Act = Callable[[list[str], "Tensor | None", int], Sequence[Skill]]
"""Prompts, vectors and the number of the step → what to do in each."""


@dataclass
class Step:
    """One decision: the episode it belongs to, what was read, what was done."""

    episode: int
    prompt: str
    vector: Tensor | None
    skill: Skill


def roll_out(episodes: Sequence[Episode], summarise: Summariser, act: Act) -> list[Step]:
    """Carry the episodes to their ends; they change. Every step that was taken, in order."""
    steps: list[Step] = []
    number = 0
    while going := [i for i, episode in enumerate(episodes) if not episode.done]:
        words, vectors = summarise([episodes[i] for i in going])
        prompts = [episodes[i].prompt(text) for i, text in zip(going, words, strict=True)]
        for row, (i, skill) in enumerate(zip(going, act(prompts, vectors, number), strict=True)):
            steps.append(Step(i, prompts[row], None if vectors is None else vectors[row], skill))
            episodes[i].act(skill)
        number += 1
    return steps


def acting(model: TextToAction, seed: int | None = None) -> Act:
    """The model's likeliest action, or with a seed one that it draws."""
    return lambda prompts, vectors, number: model.act(prompts, vectors, sample=None if seed is None else mix(seed, number))


def always(skill: Skill) -> Act:
    """The same whatever is read: the majority-class baseline."""
    return lambda prompts, vectors, number: [skill] * len(prompts)
