"""Policies that see a point cloud and no picture: `dp3`, with DP3's encoder (arXiv 2403.03954), and `lifted`, with Lift3D (arXiv 2411.18623).

`raw` with other eyes, nothing else changed. The cloud ends 20 cm above the table, so that it shows what lies there and the fingers,
not the arm, which the state tells of. `lifted` is smaller than the paper's (512 points, 32 tokens, the embedded transformer of width 96) to be
trained on two CPU cores; `perception.1.weights=DIR perception.1.tokens=128 perception.1.neighbours=64 perception.0.points=1024` is the paper's.
"""

from __future__ import annotations

from typing import Any

from vla.recipe import Recipe
from vla.recipes.grounded import seeing

CLOUD: dict[str, Any] = {"kind": "point_cloud", "points": 512, "candidates": 2048, "low": (0.25, -0.35, 0.005), "high": (0.75, 0.35, 0.2),
                         "hide_pictures": True}
CUBE: dict[str, Any] = {"centre": (0.5, 0.0, 0.1), "reach": 0.35}
"""What becomes the unit cube of the encoders."""


def dp3() -> Recipe:
    return seeing("dp3", CLOUD, {"kind": "dp3", **CUBE})


def lifted() -> Recipe:
    return seeing("lifted", CLOUD, {"kind": "lift3d", "weights": "tabletop", "projection": "orthographic", "tokens": 32, "neighbours": 8, **CUBE})
