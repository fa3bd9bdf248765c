"""What the model is told of the scene: the perfect summary, a captioner's, the captioner's cells pooled to one vector, or nothing.

The pooled vector is the bridge of the released SUM+APM code, which hands on hidden states instead of words; it answers whether words lose much.

Shapes: B episodes, E the width of the captioner's cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from perception.captioner.captioner import EmbeddedCaptioner
from robot_io import UserError
from robot_io.errors import nearest
from robot_io.household.describe import describe
from robot_io.household.render import render
from vla.apm.episode import Episode
from vla.apm.settings import Summary
from vla.seeds import mix

AT_ONCE = 64
KINDS = ("oracle", "image", "pooled", "none")


class Summariser(Protocol):
    """`words`: a summary per episode, perhaps empty. `vectors`: `[B, E]`, or None."""

    def __call__(self, episodes: Sequence[Episode]) -> tuple[list[str], Float[Tensor, "b e"] | None]: ...


def summariser(kind: Summary, captioner: str = "household") -> Summariser:
    """
    Args:
        captioner: weights of the embedded captioner, for those kinds that look at pictures.

    Raises:
        UserError: no such kind, or no such weights.
    """
    if kind not in KINDS:
        raise UserError(f"summary '{kind}'", "not known", "a kind of summary", nearest(kind, KINDS))
    if kind == "none":
        return lambda episodes: ([""] * len(episodes), None)
    if kind == "oracle":
        return lambda episodes: ([describe(episode.world.sight()) for episode in episodes], None)
    return _Looks(EmbeddedCaptioner(weights=captioner), pooled=kind == "pooled")


def picture(episode: Episode) -> np.ndarray:
    """What the robot sees; the little differences between pictures follow from the episode and its step."""
    world = episode.world
    return render(world.sight(), world.number, mix(world.number, world.seed, world.steps) % (1 << 32))


class _Looks:
    """Renders what the robot sees and has it captioned."""

    def __init__(self, captioner: EmbeddedCaptioner, pooled: bool) -> None:
        self.captioner, self.pooled = captioner, pooled

    def __call__(self, episodes: Sequence[Episode]) -> tuple[list[str], Tensor | None]:
        words: list[str] = []
        vectors: list[Tensor] = []
        for start in range(0, len(episodes), AT_ONCE):
            pictures = np.stack([picture(episode) for episode in episodes[start:start + AT_ONCE]])
            images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
            if self.pooled:
                with torch.inference_mode():
                    vectors.append(self.captioner.model.encoder(images).mean(1))
            else:
                words += self.captioner.captions(images)
        return ([""] * len(episodes), torch.cat(vectors).clone()) if self.pooled else (words, None)
