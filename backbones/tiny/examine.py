"""The scores of the model card: `python -m backbones.tiny.examine STUDENT --scenes SEEN --held-out HELD_OUT`.

Asks about every object of scenes that were never trained on, and writes `docs/results/tiny.json`, from which the tables of
`docs/tiny.md` are made. STUDENT is what `pretrain` keeps beside the weights: the backbone with the heads of its exam.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from scipy.stats import binomtest, bootstrap

from backbones.tiny.model import Tiny
from backbones.tiny.pretrain import Student, answers, auroc
from backbones.tiny.scenes import EMPTY, open_arrays

SEED = 7


def rows(said: dict[str, torch.Tensor], cell: dict[str, str], digest: str, command: str) -> list[dict]:
    """One row per metric: medians with bootstrap intervals, shares with Wilson intervals, AUROC with a bootstrap interval."""
    made = []

    def add(metric: str, mean: float, low: float, high: float, n: int) -> None:
        made.append(
            {
                "cell": cell,
                "metric": metric,
                "mean": float(mean),
                "low": float(low),
                "high": float(high),
                "n": int(n),
                "seeds": [],
                "recipe": digest,
                "command": command,
            }
        )

    tool_mm = said["tool_mm"].masked_fill(~said["near"], float("nan"))
    for metric, errors in (("place_mm", said["place_mm"]), ("near_tool_mm", tool_mm)):
        values = errors[errors.isfinite()].numpy()
        interval = bootstrap((values,), np.median, n_resamples=500, method="percentile", rng=0).confidence_interval
        add(f"{metric}_median", np.median(values), *interval, len(values))
    hits = said["pointing"][said["pointing"].isfinite()].numpy()
    interval = binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    add("pointing_percent", 100 * hits.mean(), 100 * interval.low, 100 * interval.high, len(hits))
    score, absent = said["nothing"], said["absent"]
    draws = np.random.default_rng(0).integers(0, len(score), (200, len(score)))
    low, high = np.quantile([auroc(score[draw], absent[draw]) for draw in draws], [0.025, 0.975])
    add("absent_auroc_percent", 100 * auroc(score, absent), 100 * low, 100 * high, len(score))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student", type=Path)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/results/tiny.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    student = Student(Tiny.Config(weights=None)).eval()
    student.load_state_dict(load_file(options.student))
    digest = hashlib.sha256(options.student.read_bytes()).hexdigest()[:12]
    command = "python -m backbones.tiny.examine STUDENT --scenes SEEN --held-out HELD_OUT"
    seen, held_out = open_arrays(options.scenes), open_arrays(options.held_out)
    two = (seen["kinds"][:, :, 0] != EMPTY).sum(1) <= 2
    cells = {
        "1–7 objects": seen,
        "1–2 objects": {name: array[two] for name, array in seen.items()},
        "one of a pair never seen in pretraining": held_out,
    }
    table = [
        row
        for name, arrays in cells.items()
        for row in rows(answers(student, arrays, SEED), {"scenes": name}, digest, command)
    ]
    options.out.write_text("[\n" + ",\n".join(json.dumps(row) for row in table) + "\n]\n")
    for row in table:
        print(
            row["cell"]["scenes"],
            row["metric"],
            f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}] n={row['n']}",
        )


if __name__ == "__main__":
    main()
