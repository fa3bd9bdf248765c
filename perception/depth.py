"""Depth for every view, from the sensor or from a network: fills `Percept.depth`, which later front-ends read.

`source` is the sensor or one of the networks in `perception.depth_networks`: Depth Anything V2 (as OBEYED-VLA uses it, arXiv 2512.22519, in
its metric form, ViT-L trained on Hypersim, pictures of 518 pixels), ZoeDepth or DPT. Networks without metres take them from the table
(`align: table`, see `perception.depth_plane`), which needs calibrated cameras. A policy folder holds the checkpoint's SHA-256, not the
checkpoint; another one is refused.

Images in `float [B, V, 3, H, W]` in [0, 1], out `Percept.depth float [B, V, H, W]` in metres, 0 where unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from perception.depth_networks import DepthNetwork
from perception.depth_plane import metres, table_depth
from perception.lifting import known, sensor_depth, view_intrinsics, view_poses
from perception.percept import Batch, FrontEnd, Percept
from robot_io import UserError
from robot_io.registry import ComponentConfig


class Depth(FrontEnd):
    """See the module's text."""

    class Config(ComponentConfig):
        kind: Literal["depth"] = "depth"
        source: Literal["sensor", "depth_anything_v2", "zoedepth", "dpt"] = "sensor"
        keep_sensor: bool = Field(False, description="estimate only for cameras without depth of their own")
        checkpoint: str | None = Field(None, description="a folder or a hub repository; null for the source's published one")
        input_size: int | None = Field(None, ge=14, description="pixels that the network sees; null for the checkpoint's own (518 for Depth "
                                       "Anything). Smaller is faster and coarser")
        align: Literal["none", "table"] = Field("none", description="take scale and shift from the table top: for networks without metres")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.needs_depth = config.source == "sensor"
        self.estimates_depth = not self.needs_depth
        self.estimator = None if self.needs_depth else DepthNetwork(config.source, config.checkpoint, config.input_size)
        if self.estimator is not None and self.estimator.metric == (config.align == "table"):
            self._refuse(self.estimator)

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        """Raises `UserError` for a camera that lacks what is needed: depth, or, to align, intrinsics and a pose."""
        if self.estimator is None:
            depth = sensor_depth(observations, "depth")
        elif self.config.keep_sensor:
            depth = self._fill(observations)
        else:
            depth = self._estimate(observations, observations.cameras)
        return percept.replace(depth=depth, evidence={**percept.evidence, "depth/depth": depth})

    def _fill(self, batch: Batch) -> Float[Tensor, "b v h w"]:
        found = {name: torch.where(known(depth), depth.float(), 0) for name, depth in batch.depth.items()}
        if lacking := [name for name in batch.cameras if name not in found]:
            found |= zip(lacking, self._estimate(batch, lacking).unbind(1), strict=True)
        return torch.stack([found[name] for name in batch.cameras], 1)

    def _estimate(self, batch: Batch, cameras: Sequence[str]) -> Float[Tensor, "b v h w"]:
        estimate = self.estimator(pictures(batch, cameras))
        if self.config.align == "none":
            return estimate
        views = [batch.cameras.index(name) for name in cameras]
        poses, placed = view_poses(batch)
        for name, view in zip(cameras, views, strict=True):
            if not placed[view]:
                raise UserError(f"camera '{name}'", "its pose is unknown", "world_from_camera, to find the table", "calibrate it, or use "
                                "a network that gives metres")
        table = table_depth(view_intrinsics(batch, "depth")[:, views], poses[:, views], *estimate.shape[-2:])
        return metres(estimate, table)

    @staticmethod
    def _refuse(estimator: DepthNetwork) -> None:
        if estimator.metric:
            raise UserError("depth.align", "'table', but the checkpoint gives metres already", "none", "leave it out")
        raise UserError(f"depth checkpoint '{estimator.checkpoint}'", "a relative network: it has no metres", "a metric checkpoint, or a yardstick",
                        "set align: table if the cameras are calibrated and see the table, or use Depth-Anything-V2-Metric or ZoeDepth")


def pictures(batch: Batch, cameras: Sequence[str]) -> Float[Tensor, "b v 3 h w"]:
    """The cameras' own pictures in [0, 1], whatever front-ends before made of them."""
    return torch.stack([batch.rgb[name] for name in cameras], 1).permute(0, 1, 4, 2, 3).float() / 255
