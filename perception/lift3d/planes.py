"""Where a point lies on the six faces of a cube around the scene, and what a 2D positional embedding says there.

Lift3D (arXiv 2411.18623, sec. 3.3): a token's positional embedding is the mean over n virtual planes of the pretrained 2D embedding,
sampled bilinearly where its centre projects to. The planes are those of the release: the cube turned by 0, 90, 180 and 270° about x, and by
±90° about y (then rolled by 90°). `perspective` puts a camera 1.6 before each face, as the release does; `orthographic`, as the text reads,
drops the coordinate across the face. What would fall off a face is put on its edge (the release wraps it to the other side).

Shapes: B clouds, T tokens, P planes, g×g cells of the grid, D channels. Points in [-1, 1]³.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

Projection = Literal["perspective", "orthographic"]
DISTANCE = 1.6


def plane_rotations() -> Float[Tensor, "6 3 3"]:
    """From the scene to each face, whose plane is then x, y."""
    faces = [_turn(0, quarter) for quarter in range(4)]
    return torch.stack([*faces, _turn(2, 1) @ _turn(1, 1), _turn(2, 1) @ _turn(1, 3)])


def _turn(axis: int, quarters: int) -> Float[Tensor, "3 3"]:
    """A rotation by quarter turns: whole numbers, so that it is exact."""
    cosine, sine = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[quarters % 4]
    turn = torch.eye(3)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turn[first, first], turn[first, second], turn[second, first], turn[second, second] = cosine, -sine, sine, cosine
    return turn


def on_planes(points: Float[Tensor, "b t 3"], rotations: Float[Tensor, "p 3 3"], projection: Projection) -> Float[Tensor, "b p t 2"]:
    """(column, row) on every plane, each from -1 to 1."""
    turned = torch.einsum("pij,btj->bpti", rotations, points)
    flat = turned[..., :2]
    if projection == "perspective":
        flat = flat / (turned[..., 2:] + DISTANCE).clamp(min=0.1)
    return flat.clamp(-1, 1)


def look_up(grid: Float[Tensor, "g g d"], places: Float[Tensor, "b p t 2"]) -> Float[Tensor, "b p t d"]:
    """The grid at each place, bilinearly between its cells; -1 and 1 are the middles of the outermost ones."""
    batch = places.shape[0]
    found = F.grid_sample(rearrange(grid, "r c d -> 1 d r c"), rearrange(places, "b p t xy -> 1 (b p) t xy"),
                          mode="bilinear", padding_mode="border", align_corners=True)
    return rearrange(found, "1 d (b p) t -> b p t d", b=batch)
