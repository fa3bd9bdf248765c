"""`dp3`: the point encoder of DP3 (Ze et al., 3D Diffusion Policy, arXiv 2403.03954, sec. III-B), the baseline for clouds.

    cloud [B, N] ──MLP of every point: 64, 128, 256, layer norms──▶ largest over the points ──projection──▶ one token [B, 1, 64]

Reads what `point_cloud` made and is trained with the policy. The paper leaves colours out.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from perception.percept import Batch, FrontEnd, Percept
from perception.point_cloud import Box, cloud_of
from perception.regions import ROLES
from robot_io.registry import ComponentConfig


class Dp3(FrontEnd):
    """See the module's text."""

    frozen, after_cache = False, True

    class Config(ComponentConfig):
        kind: Literal["dp3"] = "dp3"
        widths: tuple[int, ...] = Field((64, 128, 256), min_length=1, description="of the points' MLP")
        dim: int = Field(64, ge=1, description="of the token")
        colors: bool = False
        roles: bool = Field(False, description="points say whose they are, after object_centric")
        centre: Box = Field((0.5, 0.0, 0.2), description="middle of the workspace, m, in the frame of the cloud")
        reach: float = Field(0.45, gt=0, description="half the side of the workspace, m")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.token_dim = config.dim
        layers: list[nn.Module] = []
        before = 3 + 3 * config.colors + len(ROLES) * config.roles
        for width in config.widths:
            layers += [nn.Linear(before, width), nn.LayerNorm(width), nn.ReLU()]
            before = width
        self.each = nn.Sequential(*layers)
        self.project = nn.Sequential(nn.Linear(before, config.dim), nn.LayerNorm(config.dim))

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        """Raises `UserError` without a cloud."""
        cloud = cloud_of(percept, "dp3")
        values = cloud.filled()
        points = (values[..., :3] - values.new_tensor(self.config.centre)) / self.config.reach
        extra = [values[..., 3:6]] * self.config.colors + [values[..., 6:]] * self.config.roles
        token = self.project(self.each(torch.cat([points, *extra], -1)).amax(1))[:, None]
        return percept.add_tokens(token, cloud.mask.any(1, keepdim=True))
