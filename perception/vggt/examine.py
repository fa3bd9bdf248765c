"""The scores of the model card: `python -m perception.vggt.examine SCENES EXAMS`, SCENES being what the small networks were trained on.

EXAMS holds folders of `perception.vggt.scenes` that were never trained on, `FOLDERS` by name.

    depth    mean error of the small VGGT, in each view, of everything nearer than a metre and of the pixels of things; beside it that of
             always saying the exam's own mean at each pixel, which is what a network would that knew the view and saw nothing
    probes   how much of what a cell shows can be read from its token by a linear map (ridge regression, learnt on scenes of SCENES): its
             colour, its shape, and how far away it is. For both kinds of token, and for both side by side
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from scipy.stats import bootstrap
from torch import Tensor

from perception.grounder.scenes import VIEWS
from perception.vggt.aggregator import normalised
from perception.vggt.checkpoint import SHIPPED, load_eye, load_vggt
from perception.vggt.lessons import PATCH, Lesson, Teacher, words_in

FOLDERS = {"exam": "the plain table", "exam_background": "surroundings never trained on"}
NEAR = 1.2
"""Metres: the far wall is not what a policy acts on."""
RIDGE = 3.0
LEARNT = 150
"""Scenes that the probes learn from."""
BATCH = 10
COMMAND = "python -m perception.vggt.examine SCENES EXAMS"
Numbers = tuple[float, float, float, int]


class Networks:
    """The two under examination."""

    def __init__(self, geometry: str, eye: str) -> None:
        self.vggt, self.eye = load_vggt(geometry), load_eye(eye)

    @torch.inference_mode()
    def see(self, lesson: Lesson) -> tuple[Tensor, dict[str, Tensor]]:
        """Depth `[B, V, H, W]`, and tokens `[B, V, n, D]` by kind."""
        layers = (*self.vggt.sizes.depth_layers, -1)
        _, (*layers, last) = self.vggt.aggregator(lesson.images, layers)
        depth, _ = self.vggt.depth_of(layers, lesson.images.shape[-2:])
        geometric = last[:, :, self.vggt.aggregator.first_patch:]
        semantic = self.eye(normalised(lesson.images.flatten(0, 1))).unflatten(0, lesson.images.shape[:2])
        return depth, {"semantic": semantic, "geometric": geometric, "both": torch.cat([semantic, geometric], -1)}


def lessons(teacher: Teacher, count: int) -> list[Lesson]:
    return [teacher.lesson(np.arange(start, min(start + BATCH, count)), None) for start in range(0, count, BATCH)]


def depth_rows(networks: Networks, teacher: Teacher) -> dict[tuple[str, str], dict[str, Numbers]]:
    """By view and part of the picture: error of the network, and of the exam's mean picture, millimetres, scene by scene."""
    taught = lessons(teacher, len(teacher))
    truth = torch.cat([lesson.depth for lesson in taught])
    found = torch.cat([networks.see(lesson)[0] for lesson in taught])
    things = torch.from_numpy(np.array(teacher.arrays["ids"]))
    parts = {"nearer than 1.2 m": truth < NEAR, "things": (things > 0) & (things < 255)}
    made = {}
    for v, view in enumerate(VIEWS):
        for part, which in parts.items():
            shown = which[:, v].flatten(1).any(1)
            error, baseline = (1000 * scene_means((guess[:, v] - truth[:, v]).abs(), which[:, v])[shown]
                               for guess in (found, truth.mean(0, keepdim=True)))
            made[view, part] = {"error_mm": interval(error), "mean_picture_mm": interval(baseline)}
    return made


def scene_means(error: Tensor, which: Tensor) -> Tensor:
    return (error * which).flatten(1).sum(1) / which.flatten(1).sum(1).clamp_min(1)


def probe_rows(networks: Networks, learn: Teacher, exams: Mapping[str, Teacher]) -> dict[tuple[str, str], dict[str, Numbers]]:
    """By kind of token and exam: cells of things whose colour and whose shape are read rightly, per cent; error of depth, mm."""
    known = cells(networks, lessons(learn, LEARNT))
    made = {}
    for kind, tokens in known["tokens"].items():
        reads = {name: ridge(tokens[rows], targets(known[name][rows]) if name != "depth" else known[name][rows, None])
                 for name, rows in ((n, known["thing"] if n != "depth" else slice(None)) for n in ("color", "shape", "depth"))}
        for exam, teacher in exams.items():
            asked = cells(networks, lessons(teacher, len(teacher)))
            seen, thing = with_one(asked["tokens"][kind]), asked["thing"]
            right = {name: 100.0 * ((seen @ reads[name]).argmax(1) == asked[name])[thing].double() for name in ("color", "shape")}
            off = 1000 * ((seen @ reads["depth"])[:, 0] - asked["depth"]).abs()[asked["depth"] < NEAR]
            made[kind, exam] = {"color_percent": interval(right["color"]), "shape_percent": interval(right["shape"]),
                                "depth_error_mm": interval(off[::7])}
    return made


def cells(networks: Networks, taught: list[Lesson]) -> dict:
    """Every cell: its tokens by kind, what it shows, and whether that is a thing."""
    seen = [networks.see(lesson)[1] for lesson in taught]
    color, shape = (torch.cat([getattr(lesson, name).flatten() for lesson in taught]) for name in ("color", "shape"))
    depth = torch.cat([lesson.depth[..., PATCH // 2::PATCH, PATCH // 2::PATCH].flatten() for lesson in taught])
    tokens = {kind: torch.cat([each[kind].flatten(0, 2) for each in seen]) for kind in seen[0]}
    robot = int(color.max()) - 1
    return {"tokens": tokens, "color": color, "shape": shape, "depth": depth, "thing": color < robot}


def targets(classes: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(classes).double()


def ridge(tokens: Tensor, wanted: Tensor) -> Tensor:
    """The linear map, with an offset, from tokens to what is wanted of them."""
    x = with_one(tokens)
    return torch.linalg.solve(x.mT @ x + RIDGE * torch.eye(x.shape[1], dtype=x.dtype), x.mT @ wanted.double())


def with_one(tokens: Tensor) -> Tensor:
    return torch.cat([tokens.double(), torch.ones(len(tokens), 1, dtype=torch.float64)], 1)


def interval(values: Tensor) -> Numbers:
    """Mean, 95 % interval by bootstrap, number."""
    array = values.double().numpy()
    found = bootstrap((array,), np.mean, n_resamples=300, method="percentile", rng=0).confidence_interval
    return float(array.mean()), float(found.low), float(found.high), len(array)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path)
    parser.add_argument("exams", type=Path)
    parser.add_argument("--geometry", default="tabletop")
    parser.add_argument("--eye", default="tabletop")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of vggt_depth.json and vggt_probes.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    networks, words = Networks(options.geometry, options.eye), words_in(options.scenes)
    exams = {meaning: Teacher(options.exams / folder, *words) for folder, meaning in FOLDERS.items()}
    depth = [({"scenes": scenes, "view": view, "of": part}, numbers) for scenes, teacher in exams.items()
             for (view, part), numbers in depth_rows(networks, teacher).items()]
    probes = [({"tokens": kind, "scenes": scenes}, numbers)
              for (kind, scenes), numbers in probe_rows(networks, Teacher(options.scenes, *words), exams).items()]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(SHIPPED.glob("*.safetensors")))).hexdigest()[:12]
    for name, found in (("vggt_depth", depth), ("vggt_probes", probes)):
        rows = [{"cell": cell, "metric": metric, "mean": mean, "low": low, "high": high, "n": n, "seeds": [], "recipe": digest,
                 "command": COMMAND} for cell, numbers in found for metric, (mean, low, high, n) in numbers.items()]
        (options.out / f"{name}.json").write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
        for row in rows:
            print(row["cell"], row["metric"], f"{row['mean']:.1f} [{row['low']:.1f}, {row['high']:.1f}] n={row['n']}")


if __name__ == "__main__":
    main()
