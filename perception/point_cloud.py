"""`point_cloud`: all views with depth as one coloured cloud of points in the robot's base frame.

    depth, pictures ──lift──▶ points ──crop box──▶ even thinning ──outliers──▶ farthest-point order ──▶ `Percept.maps`

What a point-cloud encoder after it (`lift3d`, `dp3`) reads; frozen, so training computes it once per frame. Depth comes from
whatever estimator is before it, else from the cameras. The crop box leaves out the table top by default, as DP3 does (arXiv
2403.03954, sec. III-A). Outliers are Open3D's statistical or radius filters, for cameras whose depth is noisy at edges. Points are kept
in farthest-point order (real farthest-point sampling; `sampling: random` draws them evenly instead, as the release of Lift3D
does), so that an encoder which halves the cloud just cuts it. After `object_centric` every point says whose it is, and `only_regions`
keeps no others. With `frame: wrist` points are handed on in the frame of that camera, which moves with the hand: how far it is from what it
reaches for need not be learnt as a difference (Adapt3R, arXiv 2503.04877, has points in the end effector's frame).

Shapes: B observations, V views, H×W pixels, M candidates, N points, C = 6 + 3 channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor

from perception.depth import pictures
from perception.lifting import point_map, transform, view_depth, view_intrinsics, view_poses
from perception.percept import Batch, FrontEnd, Percept
from perception.point_sampling import farthest_points, take
from perception.point_statistics import spread
from perception.regions import ROLES, require_regions
from robot_io import UserError
from robot_io.registry import ComponentConfig
from robot_io.specs import missing_camera

CHANNELS = 6 + len(ROLES)
CLOUD, CLOUD_MASK = "cloud", "cloud_mask"

Box = tuple[float, float, float]


@dataclass(frozen=True)
class Cloud:
    """
    Attributes:
        values: `float [B, N, C]`: x, y, z in metres (base frame), red, green, blue in [0, 1], one flag per role of `ROLES`
            (0 where nothing was grounded). In farthest-point order; zero where there is no point. With `frame`, in that camera's.
        mask: `bool [B, N]`, False where there is no point; those come last.
    """

    values: Float[Tensor, "b n c"]
    mask: Bool[Tensor, "b n"]

    @property
    def points(self) -> Float[Tensor, "b n 3"]:
        return self.values[..., :3]

    @property
    def colors(self) -> Float[Tensor, "b n 3"]:
        return self.values[..., 3:6]

    def of(self, role: str) -> Bool[Tensor, "b n"]:
        """The points of one role."""
        return self.values[..., 6 + ROLES.index(role)] > 0.5

    def moved(self, transformation: Float[Tensor, "b 4 4"]) -> Cloud:
        """The same points in another frame; zeros stay zeros."""
        points = transform(self.points, transformation) * self.mask[..., None]
        return Cloud(torch.cat([points, self.values[..., 3:]], -1), self.mask)

    def filled(self) -> Float[Tensor, "b n c"]:
        """`values` with its points repeated where there are none, so that nothing after it needs a mask; zeros for an empty cloud."""
        count = self.mask.sum(1, keepdim=True).clamp(min=1)
        return take(self.values, torch.arange(self.mask.shape[1], device=self.mask.device) % count)


def cloud_of(percept: Percept, wanted_by: str) -> Cloud:
    """The cloud that `point_cloud` made, or a `UserError` in the name of the front-end that cannot do without."""
    if CLOUD not in percept.maps:
        raise UserError(f"front-end '{wanted_by}'", "there is no point cloud", "a cloud to encode",
                        "put {kind: point_cloud} before it in the recipe's perception")
    return Cloud(percept.maps[CLOUD], percept.maps[CLOUD_MASK])


class PointCloud(FrontEnd):
    """See the module's text."""

    needs_depth = True

    class Config(ComponentConfig):
        kind: Literal["point_cloud"] = "point_cloud"
        points: int = Field(1024, ge=16, description="points kept")
        low: Box = Field((0.2, -0.45, 0.005), description="corner of the crop box, m, base frame; the table is z = 0")
        high: Box = Field((0.8, 0.45, 0.5), description="opposite corner")
        frame: str | None = Field(None, description="camera, one on the hand, whose frame points are handed on in; null for the base")
        candidates: int = Field(4096, ge=16, description="pixels of all views together that points are chosen from")
        sampling: Literal["farthest", "random"] = "farthest"
        outliers: Literal["keep", "statistical", "radius"] = Field("keep", description="what becomes of stray points")
        neighbours: int = Field(16, ge=1, description="statistical: whose mean distance is compared; radius: how many there must be")
        deviations: float = Field(2.0, gt=0, description="statistical: standard deviations above the mean that are still kept")
        radius: float = Field(0.03, gt=0, description="radius: within how many metres")
        only_regions: bool = Field(False, description="keep only what `object_centric` grounded")
        hide_pictures: bool = Field(False, description="the policy sees no pictures")

        @model_validator(mode="after")
        def _a_box(self) -> PointCloud.Config:
            if any(low >= high for low, high in zip(self.low, self.high, strict=True)):
                raise UserError("point_cloud crop box", f"from {self.low} to {self.high}", "low below high on every axis", "swap them")
            if self.points > self.candidates:
                raise UserError("point_cloud.points", f"{self.points}", f"at most candidates = {self.candidates}", "raise candidates")
            return self

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.hides_pictures = config.hide_pictures

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        """Sets `maps["cloud"] [B, N, C]` and `maps["cloud_mask"] [B, N]` (see `Cloud`); evidence `point_cloud/points`, a `Cloud` in the base
        frame.

        Raises:
            UserError: no depth, unknown intrinsics or camera pose, no camera called `frame`, or `only_regions` and nothing grounded.
        """
        values, valid = self._lift(observations, percept)
        where, there = spread(valid, self.config.candidates)
        values = take(values, where)
        if self.config.outliers != "keep":
            there = self._without_outliers(values[..., :3], there)
        if self.config.sampling == "farthest":
            index, mask = farthest_points(values[..., :3], there, self.config.points)
        else:
            index, mask = evenly(there, self.config.points)
        cloud = Cloud(take(values, index) * mask[..., None], mask)
        seen = cloud if self.config.frame is None else cloud.moved(self._camera_from_base(observations))
        images = None if self.config.hide_pictures else percept.images
        return percept.replace(images=images, maps=percept.maps | {CLOUD: seen.values, CLOUD_MASK: seen.mask},
                               evidence=percept.evidence | {"point_cloud/points": cloud})

    def _camera_from_base(self, batch: Batch) -> Float[Tensor, "b 4 4"]:
        """Of the camera `frame`. Every camera has a pose here: `_lift` refuses others."""
        if self.config.frame not in batch.cameras:
            raise missing_camera(self.config.frame, batch.cameras, "this policy's cameras")
        return torch.linalg.inv(batch.world_from_camera[self.config.frame])

    def _lift(self, batch: Batch, percept: Percept) -> tuple[Float[Tensor, "b m c"], Bool[Tensor, "b m"]]:
        """Every pixel of every view as a point, and which of them lie in the crop box (and in a region)."""
        depth, intrinsics = view_depth(batch, percept, "point_cloud"), view_intrinsics(batch, "point_cloud")
        poses, placed = view_poses(batch)
        if not placed.all():
            name = batch.cameras[int((~placed).nonzero()[0])]
            raise UserError(f"camera '{name}'", "its pose is unknown", "world_from_camera, which 'point_cloud' needs",
                            "calibrate it and record the pose, or leave it out: data.cameras=[…]")
        points = transform(point_map(depth, intrinsics).flatten(2, 3), poses)
        colors = pictures(batch, batch.cameras).movedim(2, -1).flatten(2, 3)
        roles = torch.zeros(*points.shape[:3], len(ROLES), device=points.device)
        valid = (depth > 0).flatten(2)
        if percept.regions is not None:
            order = [ROLES.index(role) for role in percept.regions.roles]
            roles[..., order] = percept.regions.masks.movedim(2, -1).flatten(2, 3).float()
        if self.config.only_regions:
            valid &= require_regions(percept.regions, "point_cloud").union.flatten(2)
        low, high = (points.new_tensor(corner) for corner in (self.config.low, self.config.high))
        valid &= ((points >= low) & (points <= high)).all(-1)
        return torch.cat([points, colors, roles], -1).flatten(1, 2), valid.flatten(1)

    def _without_outliers(self, points: Float[Tensor, "b m 3"], valid: Bool[Tensor, "b m"]) -> Bool[Tensor, "b m"]:
        kept = torch.zeros_like(valid)
        for b in range(len(points)):
            rows = valid[b].nonzero()[:, 0]
            if len(rows) <= self.config.neighbours:
                kept[b, rows] = True  # too few to say which of them is far from the rest
                continue
            cloud = as_open3d(points[b, rows].cpu().numpy())
            if self.config.outliers == "statistical":
                _, index = cloud.remove_statistical_outlier(self.config.neighbours, self.config.deviations)
            else:
                _, index = cloud.remove_radius_outlier(self.config.neighbours, self.config.radius)
            kept[b, rows[torch.tensor(index, dtype=torch.long, device=rows.device)]] = True
        return kept


def evenly(valid: Bool[Tensor, "b m"], count: int) -> tuple[Tensor, Tensor]:
    """`count` valid points in an order drawn once for all: what the release of Lift3D does in place of farthest-point sampling."""
    chance = torch.rand(valid.shape[1], generator=torch.Generator().manual_seed(0)).to(valid.device)
    left, index = torch.where(valid, chance, -1.0).topk(count, 1)
    return index, left >= 0


def as_open3d(points: Float[np.ndarray, "n 3"], colors: Float[np.ndarray, "n 3"] | None = None):
    """The cloud as Open3D's own `PointCloud`.

    Raises:
        UserError: Open3D is not installed.
    """
    try:
        import open3d
    except ImportError as error:  # also where libGL or libusb is missing
        raise UserError("point_cloud", f"Open3D cannot be used ({error})", "the package open3d and libusb-1.0-0, libgl1",
                        "run `make setup`, or set outliers=keep") from None
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(np.asarray(points, np.float64)))
    if colors is not None:
        cloud.colors = open3d.utility.Vector3dVector(np.asarray(colors, np.float64))
    return cloud
