"""Imitation: cross-entropy on the expert's actions, prompts being made with the summary that the settings name."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robot_io.household.catalogue import TRAINING
from robot_io.household.skills import Skill
from vla.apm.episode import Episode, demonstrate
from vla.apm.model import TextToAction
from vla.apm.run import KEEP_EVERY, teach
from vla.apm.settings import Imitation, Settings
from vla.apm.summaries import summariser


@dataclass(frozen=True)
class Lessons:
    """What is imitated: prompts, vectors (or None), and the expert's actions."""

    prompts: list[str]
    vectors: Tensor | None
    actions: list[Skill]


@cache
def demonstrations(count: int) -> list[tuple[Episode, Skill]]:
    """The first `count` episodes of the expert, layout after layout of those for training."""
    return [step for seed in range(count) for step in demonstrate(TRAINING[seed % len(TRAINING)], seed)]


def majority(count: int) -> Skill:
    """The action that the demonstrations show most often."""
    return Counter(skill for _, skill in demonstrations(count)).most_common(1)[0][0]


def lessons(settings: Settings) -> Lessons:
    steps = demonstrations(settings.imitation.demonstrations)
    episodes = [episode for episode, _ in steps]
    words, vectors = summariser(settings.summary, settings.captioner)(episodes)
    return Lessons([e.prompt(text) for e, text in zip(episodes, words, strict=True)], vectors, [skill for _, skill in steps])


def imitate(settings: Settings, folder: Path, say: Callable[[str], None]) -> None:
    """Teach a new model by imitation, in `folder/imitation`."""
    data, plan = lessons(settings), settings.imitation
    model = TextToAction(settings.model, settings.seed, None if data.vectors is None else data.vectors.shape[1])
    numbers = torch.tensor([model.grammar.number[skill] for skill in data.actions])

    def losses(step: int) -> tuple[Tensor, dict[str, float]]:
        drawn = np.random.default_rng((settings.seed, step)).integers(len(data.prompts), size=plan.batch_size)
        vectors = None if data.vectors is None else data.vectors[drawn]
        loss = -model.log_probs([data.prompts[i] for i in drawn], vectors, numbers[drawn]).mean()
        return loss, {"loss": loss.item()}

    teach(model, folder, "imitation", plan.steps, losses, lambda step: rate(step, plan), 10 * KEEP_EVERY, say)


def rate(step: int, plan: Imitation) -> float:
    """Linear warm-up, then a cosine to a twentieth."""
    if step < plan.warmup:
        return plan.learning_rate * (step + 1) / plan.warmup
    progress = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
    return plan.learning_rate * (0.05 + 0.95 * (1 + math.cos(math.pi * progress)) / 2)
