"""Teach `tiny` to speak: `python -m backbones.tiny.teach_words SCENES --exam SCENES --out weights/speaker/tabletop.safetensors`.

The second stage of its pretraining, on the scenes of the first (`backbones.tiny.scenes`): captions and answers by cross-entropy. The trunk is
frozen, so its cells are computed once. A killed run goes on from what lies beside `--out`, bit for bit where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from backbones.tiny.examine_words import score
from backbones.tiny.sentences import DESCRIBE
from backbones.tiny.speech import Speaker, trunk_of
from backbones.tiny.word_lessons import Lesson, Lessons
from perception.teaching import rate
from robot_io.files import replacing

EXAM = 60
"""Scenes of an exam on the way."""
KEPT = 50
"""Steps that a kill may cost."""
MOMENTS = ("exp_avg", "exp_avg_sq")


def losses(speaker: Speaker, lesson: Lesson) -> dict[str, torch.Tensor]:
    """Captions and answers weigh the same, whatever their lengths."""
    looked = speaker.look(lesson.cells)
    return {
        "caption": speaker.loss(looked, [[DESCRIBE]] * len(lesson.captions), lesson.captions),
        "answer": speaker.loss(looked, lesson.questions, lesson.answers),
    }


def teach(scenes: Lessons, exams: dict[str, Lessons], speaker: Speaker, out: Path, steps: int, batch: int, peak: float, every: int) -> None:
    """Go on from what lies beside `out`, or begin; examine, log and save on the way."""
    optimizer = torch.optim.AdamW(speaker.taught().values(), lr=peak, weight_decay=0.05, betas=(0.9, 0.98))
    log, began, console, running = out.with_suffix(".jsonl"), time.monotonic(), Console(), {}
    speaker.train()
    for step in range(restore(speaker, optimizer, state_of(out)), steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps, peak, warm=max(1, steps // 20))
        found = losses(speaker, scenes.draw(step, batch))
        optimizer.zero_grad(set_to_none=True)
        sum(found.values()).backward()
        nn.utils.clip_grad_norm_(speaker.taught().values(), 1.0)
        optimizer.step()
        running = {name: round(0.97 * running.get(name, value.item()) + 0.03 * value.item(), 4) for name, value in found.items()}
        examined = (step + 1) % every == 0 or step + 1 == steps
        if examined or (step + 1) % KEPT == 0:
            keep(speaker, optimizer, step + 1, state_of(out))
        if examined:
            speaker.save(out)
            speaker.eval()
            scores = {name: score(speaker, lessons, EXAM) for name, lessons in exams.items()}
            speaker.train()
            row = {"step": step + 1, "seconds": round(time.monotonic() - began), "loss": running, **scores}
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")
            console.print_json(json.dumps(row), indent=None)
    speaker.eval()


def state_of(out: Path) -> Path:
    return out.with_suffix(".state.safetensors")


def keep(speaker: Speaker, optimizer: torch.optim.Optimizer, step: int, path: Path) -> None:
    """Weights in full precision and AdamW's moments."""
    values = {name: value.detach() for name, value in speaker.taught().items()}
    moments = {f"{name}:{moment}": optimizer.state[value][moment] for name, value in speaker.taught().items() for moment in MOMENTS}
    with replacing(path) as part:
        save_file(values | moments, part, metadata={"step": str(step)})


def restore(speaker: Speaker, optimizer: torch.optim.Optimizer, path: Path) -> int:
    """What `keep` wrote; returns the step to go on with, 0 if there is nothing."""
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file, torch.no_grad():
        step = int(file.metadata()["step"])
        for name, value in speaker.taught().items():
            value.copy_(file.get_tensor(name))
            moments = {moment: file.get_tensor(f"{name}:{moment}") for moment in MOMENTS}
            optimizer.state[value] = {"step": torch.tensor(float(step)), **moments}
    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path)
    parser.add_argument("--exam", type=Path, action="append", default=[], help="scenes never trained on; may be repeated")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=32, help="scenes per step")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--every", type=int, default=250, help="steps between exams")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    trunk = trunk_of()
    exams = {folder.name: Lessons(folder, trunk) for folder in options.exam}
    scenes = Lessons(options.scenes, trunk)
    teach(scenes, exams, Speaker(trunk), options.out, options.steps, options.batch, options.rate, options.every)


if __name__ == "__main__":
    main()
