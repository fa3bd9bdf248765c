"""VO-DP (arXiv 2510.15530) on the tabletop: the policy sees, instead of pictures, tokens in which VGGT's geometry has asked DINOv2 what is where.

`fused` has the small networks shipped here. With the published ones:

    vla train fused 'perception=[{kind: vggt_dino, geometry: checkpoints/VGGT-1B, semantics: own, dim: 1024}, {kind: fuser, dim: 1024, heads: 8}]'

`semantic_only` and `geometry_only` are the paper's ablations, one network off. The backbone's words and pretrained weights are
`raw`'s; its eye looks at nothing.
"""

from __future__ import annotations

from typing import Any

from vla.recipe import Recipe
from vla.recipes.grounded import seeing_no_pictures

FUSER: dict[str, Any] = {"kind": "fuser", "pool": "keypoints"}
"""Not the paper's compression, which does not learn the pick in 1,200 steps (docs/vo-dp.md)."""


def fused() -> Recipe:
    return seeing_no_pictures("fused", {"kind": "vggt_dino"}, FUSER)


def semantic_only() -> Recipe:
    return seeing_no_pictures("semantic_only", {"kind": "vggt_dino", "geometry": None}, FUSER | {"use": "semantic"})


def geometry_only() -> Recipe:
    return seeing_no_pictures("geometry_only", {"kind": "vggt_dino", "semantics": None}, FUSER | {"use": "geometric"})
