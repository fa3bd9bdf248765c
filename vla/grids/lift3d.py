"""`lift3d`: what points are worth on the tabletop, and what of Lift3D carries it (arXiv 2411.18623, table 2, in small).

Every cell has the same data, backbone, head, steps and scenes; but for raw RGB none sees a picture. `position` is where a token's positional
embedding comes from; `weights` says whether the embedded transformer was pretrained on pictures (`tabletop`) or is random. One that went through the
paper's first stage (`perception.lift3d.train`) is a cell to add once it is worth shipping.
"""

from __future__ import annotations

from vla.ablate import Cell, Grid

DP3 = "perception.1={kind: dp3, centre: [0.5, 0.0, 0.1], reach: 0.35}"
POSITIONS = {"lookup": "looked up", "none": "no position", "new": "new position"}
WEIGHTS = {"pretrained": "tabletop", "random": "null"}


def _lifted(position: str, weights: str) -> Cell:
    levels = {"perception": "lift3d", "position": POSITIONS[position], "weights": f"{weights} weights"}
    return Cell(levels, (f"perception.1.position={position}", f"perception.1.weights={WEIGHTS[weights]}"))


def lift3d() -> Grid:
    return Grid(
        "lift3d", "lifted", seeds=(0,), trials=100,
        cells=(
            Cell({"perception": "dp3", "position": "–", "weights": "–"}, (DP3,)),
            _lifted("lookup", "pretrained"),
            _lifted("none", "pretrained"),
            _lifted("new", "pretrained"),
            _lifted("lookup", "random"),
            Cell({"perception": "raw RGB", "position": "–", "weights": "–"}, ("perception=[]",)),
        ),
    )
