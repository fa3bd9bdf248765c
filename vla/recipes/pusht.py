"""`pusht`: Diffusion Policy's board from the T's corners, without pictures, as in its setting with the state.

The demonstrations hold the pictures too, but the embedded eye knows tables and has never seen this board: a policy that looks would have to
learn to see first (`perception=[] tuning.vision=full`), which is many times dearer. Horizon and execution are the paper's (arXiv 2303.04137).

    vla collect data/pusht robot.kind=pusht robot.keypoints=true --episodes 120 --noise 0.01
    vla train pusht data.root=data/pusht
"""

from __future__ import annotations

from pathlib import Path

from vla.recipe import Recipe
from vla.recipes.pick import pick


def pusht() -> Recipe:
    plain = pick().to_dict()
    changes = {
        "name": "pusht",
        "robot": {"kind": "pusht", "keypoints": True},
        "data": plain["data"] | {"root": str(Path("runs/pusht/data")), "state": True},
        "perception": [{"kind": "blind"}],
        "backbone": plain["backbone"] | {"weights": None},
        "horizon": 16,
        "execute": 8,
        "tuning": plain["tuning"] | {"mode": "full"},
        "train": plain["train"] | {"steps": 4000, "batch_size": 128, "ema": 0.999},
    }
    return Recipe.from_dict(plain | changes)
