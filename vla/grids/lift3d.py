"""`lift3d`: what points are worth on the tabletop, and what of Lift3D carries it (arXiv 2411.18623, table 2, in small).

Every cell has the same data, backbone, head, steps and scenes; but for raw RGB none sees a picture. `position` is where a token's positional
embedding comes from; `weights` says whether the embedded transformer was pretrained on pictures (`tabletop`) or is random. One that went through the
paper's first stage (`perception.lift3d.train`) is a cell to add once it is worth shipping.
"""

from __future__ import annotations

from vla.ablate import Cell, Grid

DP3 = "perception.1={kind: dp3, centre: [0.5, 0.0, 0.1], reach: 0.35}"


def _lifted(position: str, weights: str, *overrides: str) -> Cell:
    levels = {"perception": "lift3d", "position": position, "weights": weights}
    file = {"tabletop": "tabletop", "random": "null"}[weights]
    return Cell(levels, (f"perception.1.position={position}", f"perception.1.weights={file}", *overrides))


def lift3d() -> Grid:
    return Grid(
        "lift3d", "lifted", seeds=(0,), trials=60,
        common=("train.steps=400",),
        cells=(
            Cell({"perception": "dp3", "position": "–", "weights": "–"}, (DP3,)),
            _lifted("lookup", "tabletop"),
            _lifted("none", "tabletop"),
            _lifted("new", "tabletop"),
            _lifted("lookup", "random"),
            Cell({"perception": "raw RGB", "position": "–", "weights": "–"}, ("perception=[]",)),
        ),
    )
