"""Teach `tiny` to speak: `python -m backbones.tiny.teach_words SCENES --exam SCENES --out weights/speaker/tabletop.safetensors`.

The second stage of its pretraining, on the scenes of the first (`backbones.tiny.scenes`): captions and answers by cross-entropy. The trunk is
frozen. First a lens learns to see shapes (`backbones.tiny.lens`), then the speaker to speak of cells that are computed once. A killed
run goes on from what lies beside `--out`, bit for bit where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from backbones.tiny.examine_words import score
from backbones.tiny.pretrain import Teacher, shown_by_cells
from backbones.tiny.scenes import VIEWS, open_arrays
from backbones.tiny.sentences import DESCRIBE
from backbones.tiny.speech import Speaker, trunk_of
from backbones.tiny.word_lessons import Lessons
from perception.teaching import rate
from robot_io.files import replacing

EXAM = 60
"""Scenes of an exam on the way."""
KEPT = 50
"""Steps that a kill may cost."""
MOMENTS = ("exp_avg", "exp_avg_sq")


def teach_lens(arrays: dict[str, np.ndarray], speaker: Speaker, out: Path, steps: int, batch: int, peak: float) -> None:
    """First its lens: which colour and shape every cell shows, in all lights."""

    def losses(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((5, step))
        chosen = np.sort(rng.choice(len(arrays["kinds"]), min(batch, len(arrays["kinds"])), replace=False))
        shown = {name: np.asarray(array[chosen]) for name, array in arrays.items()}
        images = Teacher.light(shown["images"], rng)
        with torch.no_grad():
            maps = speaker.trunk.eye.half_way(images.flatten(0, 1))
        kinds = torch.from_numpy(shown_by_cells(shown)[0]).flatten(1, 2)
        return speaker.lens.losses(speaker.lens(maps, len(VIEWS)), kinds)

    descend(dict(speaker.lens.named_parameters()), losses, out.with_suffix(".lens.safetensors"), steps, peak, steps, dict)


def teach_words(lessons: Lessons, exams: dict[str, Lessons], speaker: Speaker, out: Path, steps: int, batch: int, peak: float, every: int) -> None:
    """Then to speak; the lens stays as it is. Captions and answers weigh the same, whatever their lengths."""

    def losses(step: int) -> dict[str, Tensor]:
        lesson = lessons.draw(step, batch)
        looked = speaker.look(lesson.cells)
        return {
            "caption": speaker.loss(looked, [[DESCRIBE]] * len(lesson.captions), lesson.captions),
            "answer": speaker.loss(looked, lesson.questions, lesson.answers),
        }

    def scores() -> dict[str, dict[str, float]]:
        speaker.save(out)
        speaker.eval()
        found = {name: score(speaker, exam, EXAM) for name, exam in exams.items()}
        speaker.train()
        return found

    speaker.train()
    taught = {name: value for name, value in speaker.taught().items() if not name.startswith("lens.")}
    descend(taught, losses, out, steps, peak, every, scores)
    speaker.eval()


def descend(taught: dict[str, nn.Parameter], losses: Callable[[int], dict[str, Tensor]], out: Path, steps: int, peak: float, every: int,
            scores: Callable[[], dict]) -> None:
    """AdamW on the sum of the losses of each step. Goes on from the state beside `out`, or begins; examines, logs and keeps on the way."""
    optimizer = torch.optim.AdamW(taught.values(), lr=peak, weight_decay=0.05, betas=(0.9, 0.98))
    log, began, console, running = out.with_suffix(".jsonl"), time.monotonic(), Console(), {}
    for step in range(restore(taught, optimizer, state_of(out)), steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps, peak, warm=max(1, steps // 20))
        found = losses(step)
        optimizer.zero_grad(set_to_none=True)
        sum(found.values()).backward()
        nn.utils.clip_grad_norm_(taught.values(), 1.0)
        optimizer.step()
        running = {name: round(0.97 * running.get(name, value.item()) + 0.03 * value.item(), 4) for name, value in found.items()}
        examined = (step + 1) % every == 0 or step + 1 == steps
        if examined or (step + 1) % KEPT == 0:
            keep(taught, optimizer, step + 1, state_of(out))
        if examined:
            row = {"step": step + 1, "seconds": round(time.monotonic() - began), "loss": running, **scores()}
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")
            console.print_json(json.dumps(row), indent=None)


def state_of(out: Path) -> Path:
    return out.with_suffix(".state.safetensors")


def keep(taught: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, step: int, path: Path) -> None:
    """Weights in full precision and AdamW's moments; zeros of what no gradient reached yet."""
    values = {name: value.detach() for name, value in taught.items()}
    moments = {f"{name}:{moment}": optimizer.state[value].get(moment, torch.zeros_like(value)) for name, value in taught.items()
               for moment in MOMENTS}
    with replacing(path) as part:
        save_file(values | moments, part, metadata={"step": str(step)})


def restore(taught: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, path: Path) -> int:
    """What `keep` wrote; returns the step to go on with, 0 if there is nothing."""
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file, torch.no_grad():
        step = int(file.metadata()["step"])
        for name, value in taught.items():
            value.copy_(file.get_tensor(name))
            moments = {moment: file.get_tensor(f"{name}:{moment}") for moment in MOMENTS}
            optimizer.state[value] = {"step": torch.tensor(float(step)), **moments}
    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path)
    parser.add_argument("--exam", type=Path, action="append", default=[], help="scenes never trained on; may be repeated")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1300, help="of speaking")
    parser.add_argument("--looks", type=int, default=700, help="steps of the lens")
    parser.add_argument("--batch", type=int, default=32, help="scenes per step")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--every", type=int, default=250, help="steps between exams")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    speaker = Speaker(trunk_of())
    teach_lens(open_arrays(options.scenes), speaker, options.out, options.looks, options.batch, 2 * options.rate)
    exams = {folder.name: Lessons(folder, speaker) for folder in options.exam}
    teach_words(Lessons(options.scenes, speaker), exams, speaker, options.out, options.steps, options.batch, options.rate, options.every)


if __name__ == "__main__":
    main()
