"""Policies that see a point cloud and no picture: `dp3`, with DP3's encoder (arXiv 2403.03954), `lifted`, with Lift3D (arXiv 2411.18623), and
`grounded_lifted`, which sees the points of what the instruction is about, and no others.

`raw` with other eyes, tuned as `seeing_no_pictures` says. The cloud ends 20 cm above the table, so that it shows what lies there and the
fingers, not the arm, which the state tells of, and it is in the hand's frame, that of the wrist camera: from 100 demonstrations a policy learns
better what it need not subtract (docs/perception.md). `perception.0.frame=null perception.1.centre=[0.5,0,0.1]` is the papers' own. `lifted` is
smaller than the paper's (512 points, 32 tokens, the embedded transformer of width 96) to be trained on two CPU cores, and looks no positions up:
on validation scenes they made no difference (docs/perception.md). `perception.1.weights=DIR perception.1.tokens=128
perception.1.neighbours=64 perception.0.points=1024 perception.1.position=lookup` is the paper's.
"""

from __future__ import annotations

from typing import Any

from vla.recipe import Recipe
from vla.recipes.grounded import FIND, seeing_no_pictures

CLOUD: dict[str, Any] = {"kind": "point_cloud", "points": 512, "candidates": 2048, "low": (0.25, -0.35, 0.005), "high": (0.75, 0.35, 0.2),
                         "frame": "wrist", "hide_pictures": True}
CUBE: dict[str, Any] = {"centre": (0.0, 0.0, 0.2), "reach": 0.35}
"""What becomes the unit cube of the encoders. The fingertips are 14 cm before the wrist camera."""
LIFT: dict[str, Any] = {"kind": "lift3d", "weights": "tabletop", "position": "none", "projection": "orthographic", "tokens": 32, "neighbours": 8,
                        **CUBE}


def dp3() -> Recipe:
    return seeing_no_pictures("dp3", CLOUD, {"kind": "dp3", **CUBE})


def lifted() -> Recipe:
    return seeing_no_pictures("lifted", CLOUD, LIFT)


def grounded_lifted() -> Recipe:
    # Masks bleed: in clutter their stray pixels are points of neighbours.
    return seeing_no_pictures("grounded_lifted", FIND, CLOUD | {"only_regions": True, "outliers": "statistical"}, LIFT)
