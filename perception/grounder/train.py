"""Train the embedded grounder: first `python -m perception.grounder.train segmenter SCENES… --out FILE`, then `… namer …`.

    segmenter   every pixel: its kind (cross-entropy at the picture's resolution, dice) and where its thing's centre is, how large it is
    namer       every thing, cut out by its true outline, worn a little: its colour and its shape (cross-entropy)

Both write into the same FILE; the part that is not trained stays as it is there. A step's batch and augmentation are functions of
the step alone.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from perception.grounder.lessons import Cuts, Pictures, Teacher, names_in
from perception.grounder.model import KINDS, SIZE, STRIDE, Segmenter, Sight
from perception.grounder.namer import Namer
from perception.grounder.storage import Grounder, load_weights, save_weights
from perception.teaching import rate

KIND_WEIGHT = (1.0, 3.0, 2.0, 1.0)
WEIGHT = {"kinds": 1.0, "dice": 0.5, "offset": 1.0, "size": 0.5, "color": 1.0, "shape": 1.0}


def segmenter_losses(model: Segmenter, batch: Pictures) -> dict[str, Tensor]:
    """One scalar per lesson."""
    sight = model(batch.images)
    full = F.interpolate(sight.kinds, (SIZE, SIZE), mode="bilinear", align_corners=False)
    kinds = F.cross_entropy(full, batch.kind, weight=torch.tensor(KIND_WEIGHT))
    share, truth = full.softmax(1), F.one_hot(batch.kind, len(KINDS)).permute(0, 3, 1, 2)
    overlap = (2 * (share * truth).sum((0, 2, 3)) + 1) / ((share + truth).sum((0, 2, 3)) + 1)
    return {"kinds": kinds, "dice": 1 - overlap.mean(), **_votes(sight, batch)}


def _votes(sight: Sight, batch: Pictures) -> dict[str, Tensor]:
    """How far each thing's pixels are from voting for its centre; a thing counts by its size, not by its area."""
    masks = batch.masks * batch.seen[..., None, None]
    area = masks.sum((2, 3)).clamp_min(1)
    size = area.sqrt()
    y, x = torch.meshgrid(torch.arange(masks.shape[2]).float(), torch.arange(masks.shape[3]).float(), indexing="ij")
    centre = torch.stack([(masks * x).sum((2, 3)), (masks * y).sum((2, 3))], 2) / area[..., None]
    truth = torch.cat([centre, size[..., None], 1 / size[..., None]], 2)  # [B, T, 4]
    spread = torch.einsum("bthw,btc->bchw", masks, truth)  # things do not overlap
    side = spread[:, 2].clamp_min(1)
    offset = (spread[:, :2] - torch.stack([x, y])) / side[:, None]
    weight = spread[:, 3]
    total = weight.sum().clamp_min(1)
    off = F.smooth_l1_loss(sight.offset, offset, beta=0.1, reduction="none").sum(1)
    log_size = F.smooth_l1_loss(sight.size, (side * STRIDE).log(), beta=0.2, reduction="none")
    return {"offset": (off * weight).sum() / total, "size": (log_size * weight).sum() / total}


def namer_losses(model: Namer, batch: Cuts) -> dict[str, Tensor]:
    color, shape = model(batch.cuts)
    return {"color": F.cross_entropy(color, batch.color), "shape": F.cross_entropy(shape, batch.shape)}


@torch.inference_mode()
def examine_segmenter(model: Segmenter, teacher: Teacher, batch: int = 16) -> dict[str, float]:
    """Intersection over union of each kind, all pictures together."""
    overlap, union = torch.zeros(len(KINDS)), torch.zeros(len(KINDS))
    for start in range(0, len(teacher.index), batch):
        lesson = teacher.pictures(np.arange(start, min(start + batch, len(teacher.index))), None)
        found = F.interpolate(model(lesson.images).kinds, (SIZE, SIZE), mode="bilinear", align_corners=False).argmax(1)
        for k in range(len(KINDS)):
            overlap[k] += ((found == k) & (lesson.kind == k)).sum()
            union[k] += ((found == k) | (lesson.kind == k)).sum()
    return {f"iou_{name}": round((o / u).item(), 3) for name, o, u in zip(KINDS, overlap, union, strict=True)}


@torch.inference_mode()
def examine_namer(model: Namer, teacher: Teacher, batch: int = 16) -> dict[str, float]:
    """Shares of things whose colour, whose shape and of which both are named rightly."""
    right = []
    for start in range(0, len(teacher.index), batch):
        lesson = teacher.cuts(np.arange(start, min(start + batch, len(teacher.index))), None)
        color, shape = model(lesson.cuts)
        right.append(torch.stack([color.argmax(1) == lesson.color, shape.argmax(1) == lesson.shape], 1))
    right = torch.cat(right)
    color, shape = right.float().mean(0).tolist()
    return {"color": round(color, 4), "shape": round(shape, 4), "both": round(right.all(1).float().mean().item(), 4)}


def fit(
    model: nn.Module,
    losses: Callable[[int], dict[str, Tensor]],
    steps: int,
    peak: float,
    report: Callable[[int, dict[str, float]], None],
    every: int,
) -> None:
    """Minimise the weighted sum of `losses(step)`; every `every` steps `report` the running means."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.02, betas=(0.9, 0.98))
    running: dict[str, float] = {}
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps, peak, warm=max(1, steps // 33))
        lost = losses(step)
        optimizer.zero_grad(set_to_none=True)
        sum(WEIGHT[name] * value for name, value in lost.items()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        for name, value in lost.items():
            running[name] = 0.97 * running.get(name, value.item()) + 0.03 * value.item()
        if (step + 1) % every == 0 or step + 1 == steps:
            model.eval()
            report(step + 1, {name: round(value, 4) for name, value in running.items()})
            model.train()


def train(part: str, folders: list[Path], exams: list[Path], out: Path, steps: int, batch: int, peak: float, every: int) -> None:
    """Train one part of the weights in `out`, of `batch` scenes a step; examine, log beside `out` and save on the way."""
    torch.manual_seed(0)
    grounder = load_weights(out) if out.exists() else Grounder(Segmenter(), Namer(*names_in(folders)))
    if part == "namer" and (grounder.namer.colors, grounder.namer.shapes) != names_in(folders):
        grounder.namer = Namer(*names_in(folders))
    grounder.to(memory_format=torch.channels_last)
    words = grounder.namer.colors, grounder.namer.shapes
    teacher, examiners = Teacher(folders, *words), {folder.name: Teacher([folder], *words) for folder in exams}
    model = getattr(grounder, part)
    lesson, lose, examine = {
        "segmenter": (teacher.pictures, segmenter_losses, examine_segmenter),
        "namer": (teacher.cuts, namer_losses, examine_namer),
    }[part]

    def losses(step: int) -> dict[str, Tensor]:
        scenes = np.random.default_rng((1, step)).choice(len(teacher.index), batch, replace=False)
        return lose(model, lesson(np.sort(scenes), torch.Generator().manual_seed(step)))

    began, console = time.monotonic(), Console()

    def report(step: int, running: dict[str, float]) -> None:
        scores = {name: examine(model, examiner) for name, examiner in examiners.items()}
        row = {"part": part, "step": step, "seconds": round(time.monotonic() - began), "loss": running, **scores}
        with out.with_suffix(".jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")
        console.print_json(json.dumps(row), indent=None)
        save_weights(grounder, out)

    fit(model, losses, steps, peak, report, every)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("segmenter", "namer"))
    parser.add_argument("scenes", type=Path, nargs="+")
    parser.add_argument("--exam", type=Path, action="append", default=[], help="scenes never trained on; may be repeated")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=8, help="scenes per step, two pictures each")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--every", type=int, default=300, help="steps between exams")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train(
        options.part,
        options.scenes,
        options.exam,
        options.out,
        options.steps,
        options.batch,
        options.rate,
        options.every,
    )


if __name__ == "__main__":
    main()
