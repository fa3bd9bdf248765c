"""`libero`: two of LIBERO-Object's tasks, told in words. As for `metaworld`, the eye stays frozen and the trunk is tuned in full.

The simulator has an environment of its own (`make libero`): demonstrations are recorded there, and the policy is served and asked from there.

    .venv-libero/bin/vla collect data/libero robot.kind=libero robot.scenes=drawn 'robot.tasks=[0, 7]' --episodes 60 --noise 0.02
    vla train libero data.root=data/libero --run runs/libero
"""

from __future__ import annotations

from pathlib import Path

from vla.recipe import Recipe
from vla.recipes.metaworld import metaworld

TASKS = (0, 7)
"""The alphabet soup and the milk, each among five other things, into the basket."""


def libero() -> Recipe:
    plain = metaworld().to_dict()
    changes = {"name": "libero", "robot": {"kind": "libero", "suite": "libero_object", "tasks": list(TASKS)},
               "data": plain["data"] | {"root": str(Path("runs/libero/data"))}}
    return Recipe.from_dict(plain | changes)
