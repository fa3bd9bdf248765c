"""Pretrain `tiny` to find what words name: `python -m backbones.tiny.pretrain SCENES --out weights/tabletop.safetensors`.

One rendered scene teaches several instructions, because the eye looks once and the words ask twice:

    grounding   the readout, matched against the picture cells, points at the named object in each view, or at nothing
    position    the readout says where the object is in the base frame, and where it is from the tool
    held        … and whether the gripper already holds it
    cells       every picture cell says which colour and shape it shows, how far away it is, and where that object is: in the
                base frame as the front camera sees it, from the tool as the wrist camera does

The heads that do this are thrown away; the backbone's weights are kept. The whole student is saved beside them, so that
a run can go on (`--init`).
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from backbones.context import Inputs
from backbones.tiny.model import Tiny
from backbones.tiny.scenes import EMPTY, HELD_OUT, VIEWS, open_arrays
from perception import teaching
from perception.percept import Percept
from robot_io.tabletop.scene import COLORS, SHAPES

ASKED = 2
"""Instructions per scene and step."""
ABSENT = 0.15
"""Share of instructions that name something that is not there."""
VERBS = (
    "pick up the {}",
    "grasp the {}",
    "lift the {}",
    "take the {}",
    "grab the {}",
    "get the {}",
    "put the {} in the bowl",
    "place the {} in the bowl",
    "the {}",
    "where is the {}?",
)
METRE = 10.0
"""Positions are regressed in decimetres."""


@dataclass(frozen=True)
class Lesson:
    """A batch: B scenes, Q = ASKED questions each, V views, N cells."""

    images: Tensor  # [B, V, 3, 96, 96]
    words: list[str]  # B·Q
    cell_kind: Tensor  # [B, V, N, 2] colour and shape index, or the background class
    cell_depth: Tensor  # [B, V, N]
    cell_place: Tensor  # [B, V, N, 3] of the object shown; NaN in the background
    where: Tensor  # [B·Q, V, N+1] distribution over cells and "not visible"
    place: Tensor  # [B·Q, 6] in the base frame, and from the tool
    held: Tensor  # [B·Q]
    present: Tensor  # [B·Q] bool


class Teacher:
    """Draws lessons from rendered scenes; the lesson of a step is a function of the step alone."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.colors, self.shapes = list(COLORS), list(SHAPES)
        self.names = [(c, s) for c in range(len(COLORS)) for s in range(len(SHAPES))]

    def lesson(self, scenes: np.ndarray, rng: np.random.Generator) -> Lesson:
        a = {name: np.asarray(array[scenes]) for name, array in self.arrays.items()}
        slots = np.stack([self._ask(kinds, rng) for kinds in a["kinds"]])  # [B, Q], -1 = absent
        words = [self._phrase(a["kinds"][b], slot, rng) for b in range(len(scenes)) for slot in slots[b]]
        batch = np.arange(len(scenes))[:, None]
        present = slots >= 0
        safe = np.maximum(slots, 0)
        place = a["places"][batch, safe]
        visible = a["pixels"][batch, :, safe].astype(np.float32) * present[..., None, None]  # [B, Q, V, N]
        kinds, places = shown_by_cells(a)
        return Lesson(
            images=self.light(a["images"], rng),
            words=words,
            cell_kind=torch.from_numpy(kinds),
            cell_place=torch.from_numpy(places) * METRE,
            cell_depth=torch.from_numpy(a["depth"].astype(np.float32)),
            where=torch.from_numpy(distribution(visible)).flatten(0, 1),
            place=torch.from_numpy(np.concatenate([place, place - a["tool"][:, None]], -1)).flatten(0, 1) * METRE,
            held=torch.from_numpy(a["held"][batch, safe] & present).flatten().float(),
            present=torch.from_numpy(present).flatten(),
        )

    def _ask(self, kinds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        there = np.flatnonzero(kinds[:, 0] != EMPTY)
        asked = rng.choice(there, ASKED, replace=len(there) < ASKED)
        return np.where(rng.random(ASKED) < ABSENT, -1, asked)

    def _phrase(self, kinds: np.ndarray, slot: int, rng: np.random.Generator) -> str:
        if slot >= 0:
            colour, shape = kinds[slot]
        else:
            there = {tuple(kind) for kind in kinds}
            colour, shape = next(name for i in rng.permutation(len(self.names)) if (name := self.names[i]) not in there)
        return VERBS[rng.integers(len(VERBS))].format(f"{self.colors[colour]} {self.shapes[shape]}")

    @staticmethod
    def light(images: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Scale to [0, 1] under a random gain and offset, the same for all views of a scene."""
        gain = torch.from_numpy(rng.uniform(0.8, 1.2, (len(images), 1, 1, 1, 1)).astype(np.float32))
        offset = torch.from_numpy(rng.uniform(-0.05, 0.05, (len(images), 1, 1, 1, 1)).astype(np.float32))
        pixels = torch.from_numpy(images).permute(0, 1, 4, 2, 3).float() / 255
        return (pixels * gain + offset).clamp_(0, 1)


def shown_by_cells(a: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """`[B, V, N, 2]`: colour and shape of the object that fills most of each cell, the last class where none does; and
    `[B, V, N, 3]`: where that object is, NaN where there is none."""
    pixels, scene = a["pixels"], np.arange(len(a["pixels"]))[:, None, None]
    winner = pixels.argmax(2)  # [B, V, N]
    kinds, places = a["kinds"][scene, winner].astype(np.int64), a["places"][scene, winner].copy()
    places[:, VIEWS.index("wrist")] -= a["tool"][:, None]
    background = pixels.max(2) < 12
    kinds[background], places[background] = (len(COLORS), len(SHAPES)), np.nan
    return kinds, places


def distribution(visible: np.ndarray) -> np.ndarray:
    """Pixels per cell `[B, Q, V, N]` → probabilities `[B, Q, V, N + 1]`; all on the last entry where nothing is visible."""
    total = visible.sum(-1, keepdims=True)
    nothing = (total < 4).astype(np.float32)
    return np.concatenate([visible / np.maximum(total, 1) * (1 - nothing), nothing], -1)


class Exam(nn.Module):
    """The heads that are thrown away."""

    def __init__(self, dim: int, queries: int) -> None:
        super().__init__()
        self.kind = nn.Linear(dim, len(COLORS) + 1 + len(SHAPES) + 1)
        self.depth = nn.Linear(dim, 1)
        self.shown = nn.ModuleList(nn.Linear(dim, 3) for _ in VIEWS)
        self.point = nn.ModuleList(nn.Linear(dim, dim) for _ in VIEWS)
        self.cell = nn.Linear(dim, dim)
        self.nothing = nn.Linear(queries * dim, len(VIEWS))
        self.place = nn.Linear(queries * dim, 6)
        self.held = nn.Linear(queries * dim, 1)

    def forward(self, features: Tensor, readout: Tensor, lesson: Lesson) -> dict[str, Tensor]:
        """`features [B, V, N, D]`, `readout [B·Q, K, D]` → one scalar per task."""
        kind = self.kind(features).flatten(0, 2)
        colour, shape = kind.split((len(COLORS) + 1, len(SHAPES) + 1), 1)
        truth = lesson.cell_kind.flatten(0, 2)
        logits = self.pointing(features, readout)
        shown = torch.stack([head(features[:, v]) for v, head in enumerate(self.shown)], 1)
        known = lesson.cell_place.isfinite()
        flat, there = readout.flatten(1), lesson.present
        return {
            "colour": F.cross_entropy(colour, truth[:, 0]),
            "shape": F.cross_entropy(shape, truth[:, 1]),
            "depth": F.smooth_l1_loss(self.depth(features).squeeze(-1), lesson.cell_depth),
            "shown": F.smooth_l1_loss(shown[known], lesson.cell_place[known], beta=0.1),
            "where": -(lesson.where * logits.log_softmax(-1)).sum(-1).mean(),
            "place": F.smooth_l1_loss(self.place(flat)[there], lesson.place[there], beta=0.1),
            "held": F.binary_cross_entropy_with_logits(self.held(flat).squeeze(-1), lesson.held),
        }

    def pointing(self, features: Tensor, readout: Tensor) -> Tensor:
        """Logits `[B·Q, V, N + 1]`: each view's cells, and "not visible"."""
        cells = self.cell(features).repeat_interleave(ASKED, 0)  # [B·Q, V, N, D]
        pooled = readout.mean(1)
        query = torch.stack([point(pooled) for point in self.point], 1)  # [B·Q, V, D]
        match = torch.einsum("bvd,bvnd->bvn", query, cells) / cells.shape[-1] ** 0.5
        return torch.cat([match, self.nothing(readout.flatten(1))[..., None]], -1)


WEIGHT = {"colour": 1.0, "shape": 1.0, "depth": 0.5, "shown": 1.0, "where": 1.0, "place": 2.0, "held": 0.3}


class Student(nn.Module):
    """The backbone and its exam, as one module to optimise and checkpoint."""

    def __init__(self, config: Tiny.Config) -> None:
        super().__init__()
        self.backbone = Tiny(config, Inputs(views=len(VIEWS), image_size=(96, 96), state_dim=0))
        self.exam = Exam(config.dim, config.queries)

    def forward(self, lesson: Lesson) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The losses, the readout and the features."""
        percept = self.backbone.see(Percept(images=lesson.images))
        asked = percept.replace(features=percept.features.repeat_interleave(ASKED, 0))
        readout = self.backbone(asked, lesson.words, torch.zeros(len(lesson.words), 0)).readout
        return self.exam(percept.features, readout, lesson), readout, percept.features


@torch.inference_mode()
def answers(student: Student, arrays: dict[str, np.ndarray], seed: int = 0, batch: int = 64) -> dict[str, Tensor]:
    """What the student says of scenes never trained on: one number per question, NaN where it does not apply.

    `place_mm` and `tool_mm`: errors of position in the base frame and from the tool; `near`: the object is within 10 cm of
    the tool; `pointing`: the front view is pointed at rightly;
    `nothing`: score of "not visible" there; `absent`; `held`: rightly told.
    """
    student.eval()
    teacher, rng, found, nan = Teacher(arrays), np.random.default_rng(seed), [], torch.tensor(float("nan"))
    for start in range(0, len(arrays["images"]), batch):
        lesson = teacher.lesson(np.arange(start, min(start + batch, len(arrays["images"]))), rng)
        _, readout, features = student(lesson)
        logits, flat, there = student.exam.pointing(features, readout), readout.flatten(1), lesson.present
        error = (student.exam.place(flat) - lesson.place) / METRE * 1000
        hit = lesson.where[:, 0].gather(1, logits[:, 0, :-1].argmax(-1, keepdim=True))[:, 0] > 0
        shown = there & (lesson.where[:, 0, -1] < 0.5)
        found.append(
            {
                "place_mm": torch.where(there, error[:, :3].norm(dim=-1), nan),
                "tool_mm": torch.where(there, error[:, 3:].norm(dim=-1), nan),
                "near": there & (lesson.place[:, 3:].norm(dim=-1) < 0.1 * METRE),
                "pointing": torch.where(shown, hit.float(), nan),
                "nothing": logits[:, 0].softmax(-1)[:, -1],
                "absent": ~there,
                "held": (student.exam.held(flat).squeeze(-1) > 0) == (lesson.held > 0.5),
            }
        )
    student.train()
    return {name: torch.cat([row[name] for row in found]) for name in found[0]}


def examine(student: Student, arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """Scores for the log: errors of position (mm), share of instructions whose front-view cell is right, area under the curve
    of "not visible" for absent objects, in-hand accuracy."""
    said = answers(student, arrays)
    return {
        "place_mm_median": said["place_mm"].nanquantile(0.5).item(),
        "place_mm_p90": said["place_mm"].nanquantile(0.9).item(),
        "tool_mm_median": said["tool_mm"].nanquantile(0.5).item(),
        "tool_mm_p90": said["tool_mm"].nanquantile(0.9).item(),
        "pointing": said["pointing"].nanmean().item(),
        "absent_auroc": auroc(said["nothing"], said["absent"]),
        "held_accuracy": said["held"].float().mean().item(),
        "n": len(said["held"]),
    }


def auroc(score: Tensor, label: Tensor) -> float:
    """Probability that a positive scores above a negative (Mann–Whitney)."""
    return teaching.auroc(score[label].numpy(), score[~label].numpy())


def pretrain(
    scenes: Path, exams: dict[str, Path], out: Path, steps: int, batch: int, peak: float, every: int, init: Path | None
) -> None:
    console, arrays = Console(), {name: np.array(array) for name, array in open_arrays(scenes).items()}
    torch.manual_seed(0)
    student = Student(Tiny.Config(weights=None))
    if init is not None:
        student.load_state_dict(load_file(init))
    optimizer = torch.optim.AdamW(student.parameters(), lr=peak, weight_decay=0.02, betas=(0.9, 0.98))
    state, log = out.with_suffix(".student.safetensors"), out.with_suffix(".jsonl")
    teacher, running, began = Teacher(arrays), {}, time.monotonic()
    for step in range(steps):
        rng = np.random.default_rng((1, step))
        lesson = teacher.lesson(np.sort(rng.choice(len(arrays["images"]), batch, replace=False)), rng)
        for group in optimizer.param_groups:
            group["lr"] = teaching.rate(step, steps, peak, warm=max(1, steps // 50))
        losses, _, _ = student(lesson)
        total = sum(WEIGHT[name] * value for name, value in losses.items())
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        for name, value in losses.items():
            running[name] = 0.98 * running.get(name, value.item()) + 0.02 * value.item()
        if (step + 1) % every == 0 or step + 1 == steps:
            scores = {name: examine(student, open_arrays(folder)) for name, folder in exams.items()}
            row = {"step": step + 1, "seconds": round(time.monotonic() - began), "loss": running, **scores}
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")
            console.print_json(json.dumps(row), indent=None)
            save_file(student.state_dict(), state)
            save_file(student.backbone.state_dict(), out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path)
    parser.add_argument("--exam", type=Path, help="scenes of the same kind, never trained on")
    parser.add_argument("--held-out", type=Path, help=f"scenes in which the pairs {HELD_OUT} appear")
    parser.add_argument(
        "--out", type=Path, required=True, help="the backbone's .safetensors; the whole student is kept beside it"
    )
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=32, help="scenes per step")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--every", type=int, default=500, help="steps between exams")
    parser.add_argument("--init", type=Path, help="go on from this student")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    exams = {"seen": options.exam, "held_out": options.held_out}
    pretrain(
        options.scenes,
        {k: v for k, v in exams.items() if v},
        options.out,
        options.steps,
        options.batch,
        options.rate,
        options.every,
        options.init,
    )


if __name__ == "__main__":
    main()
