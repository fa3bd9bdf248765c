"""`fusion`: the ablation of VO-DP (arXiv 2510.15530, tables 3 and 4) on the tabletop: what takes the place of pictures.

Every cell has the same demonstrations (one object alone, plain table), backbone, head, number of steps and learning rate. `vla.grids.shifts`
tries the cells in other rooms as well.
"""

from __future__ import annotations

from vla.ablate import Cell, Grid


def _cell(name: str, *overrides: str) -> Cell:
    return Cell({"policy sees": name}, overrides)


def fusion() -> Grid:
    return Grid(
        "fusion", "fused", seeds=(0,), trials=100,
        cells=(
            _cell("semantic and geometric, fused"),
            _cell("semantic alone", "perception.0.geometry=null", "perception.1.use=semantic"),
            _cell("geometric alone", "perception.0.semantics=null", "perception.1.use=geometric"),
            _cell("pictures, pretrained eye", "perception=[]"),
            _cell("pictures, eye and trunk from scratch", "perception=[]", "backbone.weights=null", "tuning.vision=full"),
        ),
    )
