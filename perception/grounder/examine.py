"""The scores of the model card: `python -m perception.grounder.examine EXAMS`.

EXAMS holds one folder of scenes for each of `FOLDERS` (how to render them stands in `docs/grounder.md`). In each view every thing that
shows enough is asked for by its name; so is, once per such thing, a pair of colour and shape that is not there, every other time one
that shares a word with something that is. What counts is the best answer, as a policy would take it.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import binomtest, bootstrap

from perception.grounder.detector import EmbeddedGrounder
from perception.grounder.scenes import VIEWS, open_arrays
from perception.grounder.storage import SHIPPED
from perception.stages import Detections
from perception.teaching import auroc

ENOUGH = 25
"""Pixels of 128×128 that a thing must show to be asked for."""
THRESHOLD = 0.2
"""Of a policy's front-end: a score below it counts as nothing found."""
SEED = 7
COMMAND = "python -m perception.grounder.examine EXAMS"
FOLDERS = {
    "usual": "benchmark: pairs seen in training",
    "usual_background": "benchmark: other surroundings",
    "usual_held_out": "benchmark: pairs never seen together",
    "usual_unseen": "benchmark: … among unseen objects",
    "all": "all names, other surroundings: pairs seen in training",
    "all_held_out": "all names, other surroundings: pairs never seen together",
    "all_unseen": "all names, other surroundings: … among unseen objects",
}


@dataclass
class Answers:
    """One entry per question.

    Attributes:
        present, start, held_out: the thing is there; the arm stands where an episode starts; the pair was never trained on.
        score: of the best answer, 0 if there was none.
        iou: of the best answer with the truth, NaN if absent.
        right: most of its pixels are the thing's.
    """

    present: np.ndarray
    start: np.ndarray
    held_out: np.ndarray
    score: np.ndarray
    iou: np.ndarray
    right: np.ndarray

    def at(self, which: np.ndarray) -> Answers:
        return Answers(**{name: value[which] for name, value in vars(self).items()})


def pairs_not_there(names: set[str], words: tuple[Sequence[str], Sequence[str]], rng: np.random.Generator, count: int) -> list[str]:
    """`count` pairs of a colour and a shape that the scene does not show, every other one sharing a word with one that it does."""
    absent = [f"{color} {shape}" for color, shape in itertools.product(*words) if f"{color} {shape}" not in names]
    there = set(" ".join(names).split())
    near = [name for name in absent if there & set(name.split())] or absent
    return [str(rng.choice(near if i % 2 else absent)) for i in range(count)]


def words_of(names: np.ndarray, known: set[str]) -> tuple[list[str], list[str]]:
    """Colours and shapes that the scenes' things are called by, as far as they are known; no bowls."""
    pairs = [str(name).split() for name in np.unique(names) if name and not name.endswith("bowl")]
    pairs = [pair for pair in pairs if set(pair) <= known]
    return sorted({pair[0] for pair in pairs}), sorted({pair[1] for pair in pairs})


def best(found: Detections, phrase: int) -> int | None:
    """The index of the best answer to a phrase."""
    mine = np.flatnonzero(found.phrase == phrase)
    return int(mine[found.scores[mine].argmax()]) if len(mine) else None


def ask(grounder: EmbeddedGrounder, folder: Path, view: int, held_out: set[str]) -> Answers:
    """All questions about one view of all scenes; names outside the vocabulary are not asked for."""
    arrays, rng, rows = open_arrays(folder), np.random.default_rng(SEED), []
    known = {*grounder.colors, *grounder.shapes}
    words = words_of(arrays["names"], known)
    for image, ids, names, start in zip(
        arrays["images"][:, view], arrays["ids"][:, view], arrays["names"], arrays["start"], strict=True
    ):
        things = [t for t in range(len(names)) if names[t] and (ids == t + 1).sum() >= ENOUGH]
        things = [t for t in things if set(names[t].split()) <= known]
        phrases = [str(names[t]) for t in things] + pairs_not_there(set(names), words, rng, max(len(things), 1))
        (found,) = grounder.detect([image], [phrases])
        for p, phrase in enumerate(phrases):
            answer, there = best(found, p), p < len(things)
            truth = ids == things[p] + 1 if there else np.zeros(ids.shape, bool)
            mask = found.masks[answer] if answer is not None else np.zeros(ids.shape, bool)
            iou = (mask & truth).sum() / (mask | truth).sum() if there else np.nan
            right = (mask & truth).sum() > 0.5 * mask.sum() if mask.any() else False
            score = found.scores[answer] if answer is not None else 0.0
            rows.append((there, start, phrase in held_out, score, iou, right))
    return Answers(*(np.array(column) for column in zip(*rows, strict=True)))


def measure(said: Answers, threshold: float) -> dict[str, tuple[float, float, float, int]]:
    """Mean, 95 % interval (bootstrap for IoU and AUROC, Wilson for shares) and number of questions by metric."""
    there, absent = said.at(said.present), said.at(~said.present)
    interval = bootstrap((there.iou,), np.mean, n_resamples=500, method="percentile", rng=0).confidence_interval
    made = {"iou_percent": (100 * there.iou.mean(), 100 * interval.low, 100 * interval.high, len(there.iou))}
    made["pointing_percent"] = share(there.right)
    if len(absent.score):
        rng, score = np.random.default_rng(0), (there.score, absent.score)
        draws = [auroc(*(rng.choice(s, len(s)) for s in score)) for _ in range(300)]
        low, high = np.quantile(draws, [0.025, 0.975])
        made["absent_auroc_percent"] = (100 * auroc(*score), 100 * low, 100 * high, len(said.score))
        made["absent_rejected_percent"] = share(absent.score < threshold)
    made["present_missed_percent"] = share(there.score < threshold)
    return made


def share(hits: np.ndarray) -> tuple[float, float, float, int]:
    interval = binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    return 100 * hits.mean(), 100 * interval.low, 100 * interval.high, len(hits)


def cells(grounder: EmbeddedGrounder, exams: Path) -> dict[tuple[str, str], Answers]:
    """The answers of each line of the table: a folder and a view, and of the front view what an episode starts from."""
    from robot_io.tabletop.objects import HELD_OUT

    pairs, made = {" ".join(pair) for pair in HELD_OUT}, {}
    for folder, meaning in FOLDERS.items():
        for v, view in enumerate(VIEWS):
            said = ask(grounder, exams / folder, v, pairs)
            if folder.endswith(("held_out", "unseen")):
                said = said.at(said.held_out | ~said.present)
            if view == "front":
                made[meaning, "front, at the start"] = said.at(said.start)
            made[meaning, view] = said
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exams", type=Path)
    parser.add_argument("--weights", type=Path, default=SHIPPED / "tabletop.safetensors")
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
    parser.add_argument("--out", type=Path, default=Path("docs/results/grounder.json"))
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    grounder = EmbeddedGrounder(weights=str(options.weights), threshold=0.0)
    digest, rows = hashlib.sha256(options.weights.read_bytes()).hexdigest()[:12], []
    for (asked, view), said in cells(grounder, options.exams).items():
        for metric, (mean, low, high, n) in measure(said, options.threshold).items():
            numbers = {"mean": float(mean), "low": float(low), "high": float(high), "n": int(n), "seeds": []}
            rows.append({"cell": {"scenes": asked, "view": view}, "metric": metric, **numbers, "recipe": digest, "command": COMMAND})
            print(f"{asked:58} {view:20} {metric:24} {mean:6.1f} [{low:.1f}, {high:.1f}] n={n}")
    options.out.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
