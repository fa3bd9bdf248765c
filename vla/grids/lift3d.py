"""`lift3d`: what points are worth on the tabletop, and what of Lift3D carries it (arXiv 2411.18623, table 2, in small).

Every cell has the same data, backbone, head, steps and scenes; but for raw RGB none sees a picture. Points are in the hand's frame, but for one
cell in the papers' own, the base's. `position` is where a token's positional embedding comes from; `weights` says whether the embedded transformer
was pretrained on pictures (`tabletop`), then went through the paper's first stage without its distillation (`tabletop_depth`; `_random`: with a
random mask. With distillation it ends where it began, docs/lift3d.md), or is random.
"""

from __future__ import annotations

from vla.ablate import Cell, Grid

DP3 = "perception.1={kind: dp3, centre: [0, 0, 0.2], reach: 0.35}"
IN_BASE = ("perception.0.frame=null", "perception.1.centre=[0.5, 0.0, 0.1]")
POSITIONS = {"lookup": "looked up", "none": "no position", "new": "new position"}
WEIGHTS = {"pretrained": "tabletop", "MAE": "tabletop_depth", "MAE, random mask": "tabletop_depth_random", "random": "null"}


def _lifted(position: str, weights: str) -> Cell:
    levels = {"perception": "lift3d", "position": POSITIONS[position], "weights": f"{weights} weights"}
    return Cell(levels, (f"perception.1.position={position}", f"perception.1.weights={WEIGHTS[weights]}"))


def lift3d() -> Grid:
    return Grid(
        "lift3d", "lifted", seeds=(0,), trials=100,
        cells=(
            Cell({"perception": "dp3", "position": "–", "weights": "–"}, (DP3,)),
            Cell({"perception": "dp3 in the base frame", "position": "–", "weights": "–"}, (DP3, *IN_BASE)),
            _lifted("lookup", "pretrained"),
            _lifted("none", "pretrained"),
            _lifted("new", "pretrained"),
            _lifted("lookup", "MAE"),
            _lifted("lookup", "MAE, random mask"),
            _lifted("lookup", "random"),
            Cell({"perception": "raw RGB", "position": "–", "weights": "–"}, ("perception=[]",)),
        ),
    )
