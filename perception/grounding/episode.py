"""What grounding remembers within an episode, and how it weighs what it sees against that.

The rules: whether the target is there is decided by the first groundings; afterwards only a strong detection brings back a target
that was absent, and nothing makes one absent that was there. Where the detector finds nothing, or something weak elsewhere, what
the tracker carried stays.

Shapes: V views, R roles, H×W pixels. The target is role 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Float

from perception.grounding.candidates import overlaps
from perception.stages import Detections, Picture, Tracker

TOUCHING = 0.05
"""Overlap (IoU) below which a new mask is not the tracked thing moved, but another thing."""


class Rules(Protocol):
    """The part of `ObjectCentric.Config` that decides."""

    strong: float
    abstain: bool
    first_looks: int


@dataclass(frozen=True)
class Found:
    """What one look found.

    Attributes:
        masks: `bool [V, R, H, W]`.
        scores: `float32 [V, R]`, 0 where the mask is empty.
        candidates: per view all that the detector offered above the threshold; None at looks that only tracked.
    """

    masks: Bool[np.ndarray, "v r h w"]
    scores: Float[np.ndarray, "v r"]
    candidates: list[Detections] | None = None

    @classmethod
    def nothing(cls, views: int, roles: int, size: tuple[int, int], candidates: list[Detections] | None = None) -> Found:
        return cls(np.zeros((views, roles, *size), bool), np.zeros((views, roles), np.float32), candidates)


@dataclass
class Episode:
    """See the module's text.

    Attributes:
        looks: how many there were.
        absent: the target has not been found.
        tracks: per view what the tracker remembers.
        scores: of the masks that it carries.
    """

    instruction: str
    looks: int = 0
    absent: bool = True
    tracks: list[Any] = field(default_factory=list)
    scores: Float[np.ndarray, "v r"] | None = None


def settle(episode: Episode, pictures: Sequence[Picture], found: Found | None, tracker: Tracker, rules: Rules) -> Found:
    """One more look: what was found, if this look grounded, and what was carried. Changes `episode`."""
    carried = _carry(episode, pictures, tracker)
    if found is None:
        masks, scores = carried, np.where(carried.any((2, 3)), episode.scores, 0).astype(np.float32)
    else:
        surest = found.scores[:, 0].max()
        episode.absent &= not (surest > 0 if episode.looks < rules.first_looks else surest >= rules.strong)
        masks, scores = found.masks.copy(), found.scores.copy()
        if episode.absent and rules.abstain:
            masks[:, 0], scores[:, 0] = False, 0
        elif carried is not None and tracker.carries:
            _keep_carried(masks, scores, carried, episode.scores, rules.strong)
        episode.tracks = [tracker.start(picture, mask) for picture, mask in zip(pictures, masks, strict=True)]
        episode.scores = scores
    episode.looks += 1
    return Found(masks, scores, None if found is None else found.candidates)


def _carry(episode: Episode, pictures: Sequence[Picture], tracker: Tracker) -> Bool[np.ndarray, "v r h w"] | None:
    """The masks brought up to these pictures; None at the first look."""
    if not episode.tracks:
        return None
    steps = [tracker.step(memory, picture) for memory, picture in zip(episode.tracks, pictures, strict=True)]
    episode.tracks = [memory for memory, _ in steps]
    return np.stack([masks for _, masks in steps])


def _keep_carried(masks: np.ndarray, scores: np.ndarray, carried: np.ndarray, before: np.ndarray, strong: float) -> None:
    """Fill in, in place, what was not found again, and what was found weakly and elsewhere."""
    for v, r in np.argwhere(carried.any((2, 3))):
        moved = masks[v, r].any() and overlaps(masks[v, r][None], carried[v, r][None])[0, 0] < TOUCHING
        if not masks[v, r].any() or (moved and scores[v, r] < strong):
            masks[v, r], scores[v, r] = carried[v, r], before[v, r]
