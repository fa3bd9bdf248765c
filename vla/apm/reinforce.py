"""REINFORCE from the imitator on, as in arXiv 2306.05696, sec. 3: the reward is sparse, 1 where the goal is reached.

    loss = -mean_k [log π(action_k | prompt_k) · (G_k - mean G) / std G] + kl · KL(π ‖ imitator),  G_k = Σ_{j≥k} γ^{j-k} r_j

An action that cannot be carried out earns nothing and costs the time it took, which γ makes worth something. The divergence is estimated
on the actions taken (Schulman's third estimator), so that the model does not forget how to speak for the sake of a few episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from robot_io.household.catalogue import TRAINING
from robot_io.household.world import World
from vla.apm.episode import Episode
from vla.apm.rollout import Step, acting, roll_out
from vla.apm.run import KEEP_EVERY, load, teach
from vla.apm.settings import Settings
from vla.apm.summaries import summariser
from vla.seeds import mix

FIRST_SEED = 5000
"""Demonstrations come from smaller ones."""
PART = 128
"""Decisions whose gradients are computed together."""


def returns(steps: Sequence[Step], reached: Sequence[bool], gamma: float) -> Float[Tensor, " k"]:
    """G of every step: γ to the number of steps that its episode still took, if it reached its goal."""
    left = [0] * len(reached)
    found = []
    for step in reversed(steps):
        found.append(gamma ** left[step.episode] if reached[step.episode] else 0.0)
        left[step.episode] += 1
    return torch.tensor(found[::-1])


def reinforce(settings: Settings, folder: Path, say: Callable[[str], None]) -> None:
    """Go on from `folder/imitation`, in `folder/reinforce`."""
    plan, summarise = settings.reinforce, summariser(settings.summary, settings.captioner)
    model, imitator = load(folder, "imitation"), load(folder, "imitation").requires_grad_(False)

    def losses(update: int) -> tuple[Tensor, dict[str, float]]:
        model.eval()  # π is the model without dropout, also where its gradient is taken
        first = FIRST_SEED + update * plan.episodes
        episodes = [Episode(World(TRAINING[seed % len(TRAINING)], seed)) for seed in range(first, first + plan.episodes)]
        steps = roll_out(episodes, summarise, acting(model, mix(settings.seed, update)))
        gains = returns(steps, [episode.reached for episode in episodes], plan.gamma)
        advantage = (gains - gains.mean()) / (gains.std() + 1e-6)
        said = torch.tensor([model.grammar.number[step.skill] for step in steps])
        total, drift = torch.zeros(()), 0.0
        for start in range(0, len(steps), PART):
            part = slice(start, start + PART)
            prompts = [step.prompt for step in steps[part]]
            vectors = None if steps[0].vector is None else torch.stack([step.vector for step in steps[part]])
            log_probs = model.log_probs(prompts, vectors, said[part])
            with torch.no_grad():
                before = imitator.log_probs(prompts, vectors, said[part])
            divergence = (before - log_probs).exp() - (before - log_probs) - 1
            total = total + (plan.kl * divergence - log_probs * advantage[part]).sum() / len(steps)
            drift += divergence.sum().item() / len(steps)
        executed = [done for episode in episodes for done in episode.executed]
        return total, {"reached": sum(e.reached for e in episodes) / len(episodes), "executed": sum(executed) / len(executed), "kl": drift}

    teach(model, folder, "reinforce", plan.updates, losses, lambda _: plan.learning_rate, KEEP_EVERY, say)
