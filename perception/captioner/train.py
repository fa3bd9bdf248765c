"""Train the embedded captioner: `python -m perception.captioner.train tabletop --scenes DIR --exam DIR --out FILE`, or `household --out FILE`.

The loss is the caption's cross-entropy. The encoder starts from the grounder's weights; its first layers stay as they are. A killed
run goes on from what is in `--out`, with the learning rate where it was; `docs/summary.md` has the commands of the shipped weights.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from perception.captioner.examine import score
from perception.captioner.lessons import Household, Tabletop
from perception.captioner.model import Captioner
from perception.captioner.storage import load_weights, save_weights
from perception.captioner.words import Words
from perception.grounder.storage import SHIPPED as GROUNDERS
from perception.grounder.storage import load_weights as load_grounder
from perception.teaching import rate

EXAM = 64
"""Captions of an exam on the way."""


def padded(captions: list[str], words: Words) -> Tensor:
    """`int64 [B, L]`, padded on the right."""
    rows = [torch.tensor(words.encode(caption)) for caption in captions]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True)


def begin(lessons: Tabletop | Household) -> tuple[Captioner, Words]:
    """An untrained captioner with the words of its lessons, which sees as the grounder does."""
    words = Words.of(lessons.texts())
    model = Captioner(len(words))
    model.encoder.start_from(load_grounder(GROUNDERS / "tabletop.safetensors").segmenter)
    return model, words


def trained(model: Captioner, frozen: bool) -> list[nn.Parameter]:
    """All but the first, large maps of the encoder, which cost most and are good already; if `frozen`, all but its convolutions."""
    encoder = model.encoder
    for part in (encoder.stem, encoder.down4, *((encoder.down8, encoder.down16, encoder.up8) if frozen else ())):
        part.requires_grad_(False)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def train(lessons: Tabletop | Household, exams: dict[str, Tabletop | Household], out: Path, steps: int, batch: int, peak: float,
          every: int, frozen: bool = False) -> None:
    """Train what is in `out`, or something new; examine, log beside it and save on the way."""
    torch.manual_seed(0)
    log = out.with_suffix(".jsonl")
    done = json.loads(log.read_text().splitlines()[-1])["step"] if out.exists() and log.exists() else 0
    model, words = load_weights(out) if done else begin(lessons)
    optimizer = torch.optim.AdamW(trained(model, frozen), lr=peak, weight_decay=0.02, betas=(0.9, 0.98))
    began, console, running = time.monotonic(), Console(), 0.0
    model.train()
    for step in range(done, steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps, peak, warm=max(1, steps // 20))
        images, captions = lessons.draw(step, batch)
        loss = model.loss(images, padded(captions, words))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running = loss.item() if step == done else 0.97 * running + 0.03 * loss.item()
        if (step + 1) % every == 0 or step + 1 == steps:
            save_weights(model, words, out)
            model.eval()
            scores = {name: score(model, words, *exam.exam(EXAM)) for name, exam in exams.items()}
            model.train()
            row = {"step": step + 1, "seconds": round(time.monotonic() - began), "loss": round(running, 4), **scores}
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")
            console.print_json(json.dumps(row), indent=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", choices=("tabletop", "household"))
    parser.add_argument("--scenes", type=Path, action="append", default=[], help="rendered tables to learn from; may be repeated")
    parser.add_argument("--exam", type=Path, action="append", default=[], help="rendered tables never trained on; may be repeated")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=24, help="pictures per step")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--every", type=int, default=150, help="steps between exams")
    parser.add_argument("--frozen", action="store_true", help="leave the encoder's convolutions as the grounder has them: twice as fast")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.world == "tabletop":
        lessons, exams = Tabletop(options.scenes), {folder.name: Tabletop([folder]) for folder in options.exam}
    else:
        from robot_io.household.catalogue import TRAINING, UNSEEN

        lessons = Household()
        exams = {"seen": Household(TRAINING, 20_000), "unseen": Household(UNSEEN, 20_000)}
    train(lessons, exams, options.out, options.steps, options.batch, options.rate, options.every, options.frozen)


if __name__ == "__main__":
    main()
