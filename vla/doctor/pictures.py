"""What the pictures betray: cameras that were dark, covered or frozen. A few episodes are decoded, not all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, UInt8

from robot_io.dataset import Dataset
from vla.doctor.columns import Columns
from vla.doctor.finding import Finding, bad, good, odd

EPISODES = 3


def sample(data: Dataset) -> list[int]:
    """A few episodes, from the first to the last."""
    return sorted({round(place) for place in np.linspace(0, len(data.episodes) - 1, EPISODES)})


def look_at_pictures(data: Dataset, columns: Columns) -> Iterator[Finding]:
    for camera in data.cameras:
        found = False
        for number in sample(data):
            episode = data.episodes[number]
            pictures = data.rgb(camera, episode)
            state = columns.state[episode.start : episode.stop]
            for finding in judge_pictures(f"camera '{camera}', episode {episode.index}", pictures, state):
                found = True
                yield finding
        if not found:
            yield good("pictures", f"camera '{camera}' shows something, and it moves ({len(sample(data))} episodes looked at)")


def judge_pictures(what: str, pictures: UInt8[np.ndarray, "t h w 3"], state: Float[np.ndarray, "t s"]) -> Iterator[Finding]:
    """Dark, blank or frozen."""
    if pictures.mean() < 8:
        yield bad("pictures", f"{what}: black (mean {pictures.mean():.1f} of 255)", "check the camera, its cap and its exposure")
    elif pictures[0].std() < 3:
        yield odd("pictures", f"{what}: of one colour", "check that the camera is not covered")
    elif len(pictures) > 4 and np.ptp(state, axis=0).max(initial=0.0) > 0.02:
        same = (np.abs(np.diff(pictures.astype(np.int16), axis=0)).reshape(len(pictures) - 1, -1).max(1) <= 1).mean()
        if same > 0.5:
            yield bad("pictures", f"{what}: {100 * same:.0f} % of the pictures repeat the one before while the robot moves",
                      "the camera is frozen, or slower than the control rate")
