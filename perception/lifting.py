"""Pixels with depth to points in space: what every front-end that thinks in metres shares.

A pinhole camera with pixel centres at whole numbers, in the OpenCV convention (x right, y down, z forward). `world`
is the robot's base frame (see `robot_io.types`). Depth is measured along the optical axis; 0, negative and NaN mean
unknown.

Shapes: B observations, V views in the batch's camera order, H×W pixels; `...` is any number of leading axes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from perception.percept import Batch, Percept
from robot_io import UserError


def view_depth(batch: Batch, percept: Percept, wanted_by: str) -> Float[Tensor, "b v h w"]:
    """Depth of every view in metres, 0 where unknown: what an estimator before made of it, else what the cameras measured.

    Args:
        wanted_by: kind of the front-end that asks, for the error.

    Raises:
        UserError: a camera without depth, and no estimator.
    """
    if percept.depth is not None:
        return percept.depth
    return sensor_depth(batch, wanted_by)


def sensor_depth(batch: Batch, wanted_by: str) -> Float[Tensor, "b v h w"]:
    """What the cameras measured, in metres, 0 where unknown. Raises `UserError` for a camera without depth."""
    for name in batch.cameras:
        if name not in batch.depth:
            raise UserError(f"camera '{name}'", "it has no depth", f"depth, which '{wanted_by}' needs",
                            "use a depth camera, or put {kind: depth, source: depth_anything_v2} before it")
    depth = torch.stack([batch.depth[name] for name in batch.cameras], 1).float()
    return torch.where(known(depth), depth, 0)


def view_intrinsics(batch: Batch, wanted_by: str) -> Float[Tensor, "b v 3 3"]:
    """Raises `UserError` for a camera whose intrinsics are unknown."""
    for name in batch.cameras:
        if name not in batch.intrinsics:
            raise UserError(f"camera '{name}'", "its intrinsics are unknown",
                            f"a 3x3 matrix in pixels, which '{wanted_by}' needs", "record them with the data")
    return torch.stack([batch.intrinsics[name] for name in batch.cameras], 1).float()


def view_poses(batch: Batch) -> tuple[Float[Tensor, "b v 4 4"], Bool[Tensor, " v"]]:
    """`world_from_camera` of every view, and which of them are known; the identity where not."""
    identity = torch.eye(4, device=batch.state.device).expand(len(batch), 4, 4)
    poses = torch.stack([batch.world_from_camera.get(name, identity).float() for name in batch.cameras], 1)
    return poses, torch.tensor([name in batch.world_from_camera for name in batch.cameras], device=poses.device)


def known(depth: Float[Tensor, "*n"]) -> Bool[Tensor, "*n"]:
    """Where a depth is a measurement."""
    return torch.isfinite(depth) & (depth > 0)


def unproject(pixels: Float[Tensor, "... n 2"], depth: Float[Tensor, "... n"],
              intrinsics: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... n 3"]:
    """Pixels (column, row) with depth to points in the camera's frame, metres."""
    homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1)
    rays = homogeneous @ torch.linalg.inv(intrinsics).mT
    return rays * depth[..., None]


def transform(points: Float[Tensor, "... n 3"], pose: Float[Tensor, "... 4 4"]) -> Float[Tensor, "... n 3"]:
    """Points from one frame to another: `transform(points, world_from_camera)` are in the world."""
    return points @ pose[..., :3, :3].mT + pose[..., None, :3, 3]


def project(points: Float[Tensor, "... n 3"], intrinsics: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... n 2"]:
    """Points in the camera's frame to pixels (column, row); the inverse of `unproject`."""
    homogeneous = points @ intrinsics.mT
    return homogeneous[..., :2] / homogeneous[..., 2:]


def pixel_grid(height: int, width: int, device: torch.device | str = "cpu") -> Float[Tensor, "n 2"]:
    """(column, row) of all H·W pixels, row by row."""
    rows, columns = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    return torch.stack([columns, rows], -1).reshape(-1, 2).float()


def point_map(depth: Float[Tensor, "... h w"], intrinsics: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... h w 3"]:
    """Every pixel's point in the camera's frame; the camera's own centre where depth is unknown."""
    height, width = depth.shape[-2:]
    points = unproject(pixel_grid(height, width, depth.device), torch.where(known(depth), depth, 0).flatten(-2), intrinsics)
    return points.unflatten(-2, (height, width))


def normals(depth: Float[Tensor, "... h w"], intrinsics: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... h w 3"]:
    """Unit normals of the visible surface, camera frame, towards the camera; zero where depth is unknown.

    A surface of depth z(u, v) is normal to (fx ∂z/∂u, fy ∂z/∂v, -(z + (u - cx) ∂z/∂u + (v - cy) ∂z/∂v)). Of the slopes towards
    the two neighbours the smaller counts, so that the edge of a thing does not get a normal between it and what is behind it.
    """
    height, width = depth.shape[-2:]
    focal_x, focal_y, centre_x, centre_y = (intrinsics[..., row, column, None, None]
                                            for row, column in ((0, 0), (1, 1), (0, 2), (1, 2)))
    rows = torch.arange(height, device=depth.device)[:, None] - centre_y
    columns = torch.arange(width, device=depth.device) - centre_x
    valid = known(depth)
    depth = torch.where(valid, depth, 0)
    across, down = _slope(depth, -1), _slope(depth, -2)
    normal = torch.stack([focal_x * across, focal_y * down, -(depth + columns * across + rows * down)], -1)
    return F.normalize(normal, dim=-1) * valid[..., None]


def _slope(depth: Float[Tensor, "... h w"], axis: int) -> Float[Tensor, "... h w"]:
    """Difference to the next or from the previous value along `axis`, whichever is smaller."""
    steps = depth.diff(dim=axis)
    ahead = torch.cat([steps, steps.narrow(axis, -1, 1)], axis)
    behind = torch.cat([steps.narrow(axis, 0, 1), steps], axis)
    return torch.where(ahead.abs() <= behind.abs(), ahead, behind)
