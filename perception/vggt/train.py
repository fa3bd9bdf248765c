"""Train the small networks that are shipped: `python -m perception.vggt.train geometry SCENES --out FILE`, or `… eye …`.

    geometry   a small VGGT from nothing, by the paper's losses (arXiv 2503.11651, sec. 3.3): depth and its gradients, weighed by the
               confidence that it states; where every cell is in the first camera's frame; where the second camera is
    eye        a small DINOv2 from nothing, told which colour and shape every cell shows. Not by self-distillation, as DINOv2 itself: that
               takes more pictures than two cores see in an hour

What states points, cameras, colours and shapes is thrown away. A step's batch and augmentation are functions of the step alone.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from perception.teaching import rate
from perception.vggt.checkpoint import save_weights
from perception.vggt.layers import LayerScale
from perception.vggt.lessons import CELLS, PATCH, Lesson, Teacher, words_in
from perception.vggt.model import Sizes, Vggt

STEM = (24, 48, 64)
GEOMETRY = Sizes(dim=64, heads=4, eye_depth=1, depth=3, patch=PATCH, image_size=CELLS * PATCH, stem=STEM, depth_layers=(0, 1, 2, 2),
                 channels=(16, 24, 32, 32), features=16)
EYE = Sizes(dim=64, heads=4, eye_depth=3, depth=0, patch=PATCH, image_size=CELLS * PATCH, stem=STEM)
SCALE = 0.3
"""Where LayerScale starts: VGGT's 0.01 is for longer training."""
POINTS, CAMERA, SURE = 1.0, 0.3, 0.02
"""Weights of the losses beside depth's; the last is how much confidence is worth (the paper's α, with errors in metres)."""


class GeometryStudent(nn.Module):
    """A VGGT with what teaches it."""

    sizes = GEOMETRY

    def __init__(self, words: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
        super().__init__()
        self.taught = Vggt(GEOMETRY)
        self.points, self.camera = nn.Linear(2 * GEOMETRY.dim, 3), nn.Linear(2 * GEOMETRY.dim, 7)

    def losses(self, lesson: Lesson) -> dict[str, Tensor]:
        _, layers = self.taught.aggregator(lesson.images, GEOMETRY.depth_layers)
        depth, confidence = self.taught.depth_of(layers, lesson.images.shape[-2:])
        off = (depth.log() - lesson.depth.log()).abs()
        edges = sum((confidence.narrow(a, 1, depth.shape[a] - 1) * (depth.diff(dim=a) - lesson.depth.diff(dim=a)).abs()).mean() for a in (-1, -2))
        last = layers[-1]
        points = F.smooth_l1_loss(self.points(last[:, :, self.taught.aggregator.first_patch:]), lesson.points, beta=0.05)
        camera = F.smooth_l1_loss(self.camera(last[:, 1, 0]), lesson.camera, beta=0.05)
        return {"depth": (confidence * off).mean() - SURE * confidence.log().mean() + edges, "points": POINTS * points, "camera": CAMERA * camera}


class EyeStudent(nn.Module):
    """A DINOv2 with what teaches it."""

    sizes = EYE

    def __init__(self, words: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
        super().__init__()
        self.taught = EYE.eye()
        self.color, self.shape = (nn.Linear(EYE.dim, len(known) + 2) for known in words)

    def losses(self, lesson: Lesson) -> dict[str, Tensor]:
        color, shape = self.said(lesson)
        rare = [torch.tensor([1.0] * (n - 2) + [0.3, 0.1]) for n in (color.shape[-1], shape.shape[-1])]
        return {"color": F.cross_entropy(color.flatten(0, -2), lesson.color.flatten(), weight=rare[0]),
                "shape": F.cross_entropy(shape.flatten(0, -2), lesson.shape.flatten(), weight=rare[1])}

    def said(self, lesson: Lesson) -> tuple[Tensor, Tensor]:
        """Logits of every cell's colour and shape, `[B, V, n, classes]`."""
        from perception.vggt.aggregator import normalised

        tokens = self.taught(normalised(lesson.images.flatten(0, 1))).unflatten(0, lesson.images.shape[:2])
        return self.color(tokens), self.shape(tokens)


STUDENTS: dict[str, Any] = {"geometry": GeometryStudent, "eye": EyeStudent}


def train(part: str, folder: Path, out: Path, steps: int, batch: int, peak: float, every: int) -> None:
    """Train one of the networks; every `every` steps log beside `out` and save it."""
    torch.manual_seed(0)
    words = words_in(folder)
    teacher, student = Teacher(folder, *words), STUDENTS[part](words)
    for module in student.modules():
        if isinstance(module, LayerScale):
            nn.init.constant_(module.gamma, SCALE)
    optimizer = torch.optim.AdamW(student.parameters(), lr=peak, weight_decay=0.02, betas=(0.9, 0.98))
    began, running, console = time.process_time(), {}, Console()
    for step in range(steps):
        rng = np.random.default_rng((1, step))
        lesson = teacher.lesson(np.sort(rng.choice(len(teacher), batch, replace=False)), torch.Generator().manual_seed(step))
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps, peak, warm=max(1, steps // 33))
        lost = student.losses(lesson)
        optimizer.zero_grad(set_to_none=True)
        sum(lost.values()).backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        for name, value in lost.items():
            running[name] = 0.97 * running.get(name, value.item()) + 0.03 * value.item()
        if (step + 1) % every == 0 or step + 1 == steps:
            losses = {name: round(value, 4) for name, value in running.items()}
            row = {"part": part, "step": step + 1, "cpu_seconds": round(time.process_time() - began), "loss": losses}
            with out.with_suffix(".jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            console.print_json(json.dumps(row), indent=None)
            save_weights(student.taught, student.sizes, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=tuple(STUDENTS))
    parser.add_argument("scenes", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=8, help="scenes per step, two pictures each")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--every", type=int, default=100, help="steps between saves")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train(options.part, options.scenes, options.out, options.steps, options.batch, options.rate, options.every)


if __name__ == "__main__":
    main()
