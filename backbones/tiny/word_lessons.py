"""What a `Speaker` learns from: rendered scenes, what shows in them, and what it sees in their pictures.

    cells  float16 [n, V·N, D+W] of `Speaker.see`, computed once and kept beside the scenes under the fingerprint of what saw them
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from backbones.tiny.scenes import ARRAYS, open_arrays
from backbones.tiny.sentences import QUESTIONS, TAUGHT, Pair, ask, caption, things
from backbones.tiny.speech import Speaker, fingerprint
from robot_io.files import replacing

ASKED = 3
"""Questions about each scene of a step, beside its caption."""
AT_ONCE = 64


@dataclass(frozen=True)
class Lesson:
    """B scenes, each with one caption and `ASKED` questions."""

    cells: Tensor  # [B, V·N, D+W]
    captions: list[list[str]]
    questions: list[list[str]]
    answers: list[list[str]]


class Lessons:
    """The scenes of one folder. A lesson is a function of its number alone."""

    def __init__(self, folder: Path, speaker: Speaker) -> None:
        arrays = open_arrays(folder)
        small = {name: np.asarray(arrays[name]) for name in ARRAYS if name != "images"}
        self.there = [things({name: value[i] for name, value in small.items()}) for i in range(len(small["kinds"]))]
        self.cells = cells(folder, speaker)

    def __len__(self) -> int:
        return len(self.there)

    def draw(self, number: int, batch: int) -> Lesson:
        rng = np.random.default_rng((4, number))
        chosen = np.sort(rng.choice(len(self), min(batch, len(self)), replace=False))
        asked = [[self.ask(i, rng) for _ in range(ASKED)] for i in chosen]
        questions, answers = ([[pair[part] for pair in scene] for scene in asked] for part in (0, 1))
        return Lesson(self.take(chosen), [[caption(self.there[i])] for i in chosen], questions, answers)

    def ask(self, scene: int, rng: np.random.Generator, pairs: Collection[Pair] = TAUGHT) -> tuple[str, str]:
        """A question of a random kind that this scene allows."""
        kinds = list(QUESTIONS)
        while True:
            if asked := ask(self.there[scene], rng, kinds[rng.integers(len(kinds))], pairs):
                return asked

    def take(self, chosen: np.ndarray) -> Tensor:
        return torch.from_numpy(self.cells[chosen]).float()


@torch.inference_mode()
def cells(folder: Path, speaker: Speaker) -> np.ndarray:
    """What it sees in every scene of `folder`, memory-mapped."""
    path = folder / f"cells-{fingerprint(speaker.trunk, speaker.lens)}.npy"
    if not path.exists():
        images = open_arrays(folder)["images"]
        with replacing(path) as part:
            made = None
            for start in track(range(0, len(images), AT_ONCE), f"seeing {folder.name}"):
                pixels = torch.from_numpy(np.array(images[start:start + AT_ONCE])).permute(0, 1, 4, 2, 3).float() / 255
                seen = speaker.see(pixels).half().numpy()
                if made is None:
                    made = np.lib.format.open_memmap(part, "w+", np.float16, (len(images), *seen.shape[1:]))
                made[start:start + len(seen)] = seen
            made.flush()
    return np.load(path, mmap_mode="r")
