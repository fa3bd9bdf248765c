"""What Lift3D's first stage teaches a 2D transformer about depth, and what of it does (arXiv 2411.18623, sec. 3.2 and table 2).

    python -m perception.lift3d.scenes runs/mae/train --count 3000
    python -m perception.lift3d.scenes runs/mae/exam --count 200 --seed 1
    python benchmarks/lift3d_mae.py --run runs/mae           # goes on where it stopped; docs/results/lift3d_mae.json; then: python -m vla.results

Every kind begins with the embedded transformer as it is shipped and takes as many steps on the same pictures in the same order. A linear probe
of its features, on pictures never seen, says how well they tell a patch's depth, how much better than before on the same picture
(`gained`), and how far they went from the start.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from perception import teaching
from perception.lift3d import pretrained
from perception.lift3d.scenes import ARRAYS
from perception.lift3d.train import Options, Pictures, fit, make, probe, save
from vla.evaluate.statistics import mean_of
from vla.files import slug, write_json
from vla.results import save_rows

OUT = Path("docs/results/lift3d_mae.json")
SETTINGS = {"steps": 1000, "rate": 3e-3}
KINDS = {
    "as shipped": Options(steps=0),
    "depth, affordance": Options(**SETTINGS),
    "depth, affordance, no distillation": Options(**SETTINGS, distil=False),
    "pictures, affordance, no distillation": Options(**SETTINGS, distil=False, target="rgb"),
    "depth, random mask, no distillation": Options(**SETTINGS, distil=False, mask="random"),
}
"""The last two are without distillation, as with it nothing moves here (docs/lift3d.md)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/mae"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows, before = [], {}
    for name, options in KINDS.items():
        measured = [examined(name, options, seed, given.run) for seed in given.seeds]
        metrics = {metric: [value for one in measured for value in one[metric]] for metric in ("depth_error_mm", "drift")}
        before = before or metrics
        metrics["gained_mm"] = [old - new for old, new in zip(before["depth_error_mm"], metrics["depth_error_mm"], strict=True)]
        for metric, values in metrics.items():
            rows.append({"cell": {"first stage": name, "training seeds": str(len(measured))}, "metric": metric, **mean_of(values).to_dict(),
                         "seeds": [], "recipe": "–", "command": "python benchmarks/lift3d_mae.py"})
            print(f"{name}: {metric} {rows[-1]['mean']:.4f} [{rows[-1]['low']:.4f}, {rows[-1]['high']:.4f}]", flush=True)
    save_rows(given.out, rows)


def examined(name: str, options: Options, seed: int, run: Path) -> dict[str, list[float]]:
    """The probe's findings by picture; trained if they are not on disk."""
    path = run / f"{slug(name)}-{seed}.json"
    if not path.exists():
        options = replace(options, seed=seed)
        model, size = make(options)
        pictures, exam = (Pictures(teaching.open_arrays(run / split, ARRAYS), size) for split in ("train", "exam"))
        fit(model, pictures, options, lambda step, losses: print(name, step, losses, flush=True))
        save(model, options.start, path.with_suffix(".safetensors"))
        original = pretrained.build(options.start)
        pretrained.load(original, options.start)
        found = probe(model, pictures, exam, original.eval())
        write_json(path, {"depth_error_mm": found.depth_error_mm.tolist(), "drift": found.drift.tolist()})
    return json.loads(path.read_text())


if __name__ == "__main__":
    main()
