"""`metaworld`: five of Meta-World's tasks in one policy that is told which in words.

At 80 Hz a chunk of 16 steps is a fifth of a second. The eye, pretrained on another robot's table, stays frozen (and cached); the trunk is
tuned in full.

    vla collect data/metaworld robot.kind=metaworld 'robot.tasks=[drawer-open, door-close, button-press-topdown, window-open, faucet-open]'
    vla train metaworld data.root=data/metaworld
"""

from __future__ import annotations

from pathlib import Path

from vla.recipe import Recipe
from vla.recipes.pick import pick

FIVE = ("drawer-open", "door-close", "button-press-topdown", "window-open", "faucet-open")


def metaworld() -> Recipe:
    plain = pick().to_dict()
    changes = {
        "name": "metaworld",
        "robot": {"kind": "metaworld", "tasks": list(FIVE)},
        "data": plain["data"] | {"root": str(Path("runs/metaworld/data")), "state": True},
        "horizon": 16,
        "execute": 8,
        "tuning": plain["tuning"] | {"mode": "full"},
        "train": plain["train"] | {"steps": 600, "batch_size": 32},
    }
    return Recipe.from_dict(plain | changes)
