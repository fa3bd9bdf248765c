"""`lift3d`: a point cloud through a pretrained 2D transformer (Jia et al., Lift3D, arXiv 2411.18623).

    cloud [B, N] ──tokenizer──▶ T tokens + their 2D positional embedding, averaged over six virtual planes
          ──pretrained transformer, frozen but for LoRA and norms──▶ 1 + T tokens of width D into `Percept.tokens`

The transformer knows pictures, and the positional embedding is what it knows space by; looking it up where a point projects to the
faces of a cube (`planes`) hands that knowledge on. `position: new` learns one from the token's centre instead, `none` leaves it out: the
paper's ablation (table 2). Reads what `point_cloud` made; nothing of it is cached, as it is trained with the policy.

Published sizes: N = 1024, T = 128, D = 768 (CLIP ViT-B/32, DINOv2 ViT-B/14), LoRA of rank 2 on queries, keys and values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from perception.lift3d import pretrained
from perception.lift3d.planes import Projection, look_up, on_planes, plane_rotations
from perception.lift3d.tokenizer import Tokenizer
from perception.percept import Batch, FrontEnd, Percept
from perception.point_cloud import Box, cloud_of
from perception.regions import ROLES
from robot_io import UserError
from robot_io.registry import ComponentConfig


class Lift3D(FrontEnd):
    """See the module's text."""

    frozen, after_cache = False, True

    class Config(ComponentConfig):
        kind: Literal["lift3d"] = "lift3d"
        weights: str | None = Field("tabletop", description="the pretrained transformer (see perception.lift3d.pretrained); null for random")
        tokens: int = Field(128, ge=4, description="T; the cloud must have at least four times as many points")
        neighbours: int = Field(64, ge=2, description="of a point, in each stage of the tokenizer")
        colors: bool = Field(False, description="points have colours (the paper says so, its release drops them)")
        roles: bool = Field(False, description="points say whose they are, after object_centric")
        position: Literal["lookup", "new", "none"] = "lookup"
        planes: Literal[1, 2, 4, 6] = 6
        projection: Projection = "perspective"
        scaling: Literal["workspace", "cloud"] = Field("workspace", description="a fixed cube, or each cloud's own unit sphere as in the release")
        centre: Box = Field((0.5, 0.0, 0.2), description="middle of the workspace, m, in the frame of the cloud")
        reach: float = Field(0.45, gt=0, description="half the side of the workspace, m")
        matched: bool = Field(True, description="tokens are brought to the statistics of the transformer's own patches, beside which its positions "
                              "weigh what they weighed in pictures; the release adds them to tokens as they come")
        output: Literal["tokens", "class"] = Field("tokens", description="all 1 + T tokens, or the class token alone as in the release")
        tuning: Literal["lora", "frozen", "full"] = Field("lora", description="of the transformer; its norms are trained with lora and full")
        rank: int = Field(2, ge=1)
        alpha: float = Field(1.0, gt=0, description="adapters are scaled by alpha / sqrt(rank)")
        dropout: float = Field(0.25, ge=0, lt=1, description="of the adapters' input")

    def __init__(self, config: Config, assets: Path | None = None) -> None:
        super().__init__()
        self.config = config
        self.transformer = pretrained.build(config.weights, assets)
        width = self.token_dim = self.transformer.width
        self.tokenizer = Tokenizer(3 + 3 * config.colors + len(ROLES) * config.roles, width, config.tokens, config.neighbours)
        self.match = nn.LayerNorm(width) if config.matched else nn.Identity()
        self.start = nn.Parameter(torch.zeros(width))
        self.learnt = nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width)) if config.position == "new" else None
        self.register_buffer("rotations", plane_rotations()[: config.planes], persistent=False)
        self._choose_what_is_trained()

    def load_pretrained(self) -> None:
        pretrained.load(self.transformer, self.config.weights)
        with torch.no_grad():
            self.start.copy_(self.transformer.start)
            if self.config.matched:
                mean, deviation = self.transformer.patch_statistics()
                self.match.bias.copy_(mean)
                self.match.weight.copy_(deviation)

    def save_assets(self, folder: Path) -> None:
        pretrained.save_assets(self.transformer, folder)

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        """Adds 1 + T tokens; evidence `lift3d/centres [B, T, 3]` (metres, in the frame of the cloud) and `lift3d/planes [B, P, T, 2]` from -1 to 1.

        Raises:
            UserError: no cloud, or one of too few points.
        """
        cloud = cloud_of(percept, "lift3d")
        if cloud.mask.shape[1] < 4 * self.config.tokens:
            raise UserError("lift3d.tokens", f"{self.config.tokens} tokens of {cloud.mask.shape[1]} points", "at least four points a token",
                            f"set point_cloud.points to {4 * self.config.tokens} or more, or lower lift3d.tokens")
        values = cloud.filled()
        middle, scale = self._frame(values[..., :3])
        points = (values[..., :3] - middle) / scale
        extra = [values[..., 3:6]] * self.config.colors + [values[..., 6:]] * self.config.roles
        tokens, centres = self.tokenizer(torch.cat([points, *extra], -1), points)
        tokens = self.match(tokens)
        places = on_planes(centres, self.rotations, self.config.projection)
        hidden = self.transformer(torch.cat([self.start.expand(len(tokens), 1, -1), tokens + self._position(centres, places)], 1))
        if self.config.output == "class":
            hidden = hidden[:, :1]
        there = cloud.mask.any(1, keepdim=True).expand(-1, hidden.shape[1])
        return percept.add_tokens(hidden, there).replace(evidence=percept.evidence | {
            "lift3d/centres": (centres * scale + middle).detach(), "lift3d/planes": places})

    def _frame(self, points: Float[Tensor, "b n 3"]) -> tuple[Tensor, Tensor]:
        """Middle `[B or 1, 1, 3]` and size `[B or 1, 1, 1]` of what becomes the unit cube."""
        if self.config.scaling == "workspace":
            return points.new_tensor(self.config.centre)[None, None], points.new_tensor(self.config.reach)[None, None, None]
        middle = points.mean(1, keepdim=True)
        return middle, (points - middle).norm(dim=-1, keepdim=True).amax(1, keepdim=True).clamp(min=1e-3)

    def _position(self, centres: Float[Tensor, "b t 3"], places: Float[Tensor, "b p t 2"]) -> Float[Tensor, "b t d"] | float:
        if self.config.position == "none":
            return 0.0
        return look_up(self.transformer.grid, places).mean(1) if self.learnt is None else self.learnt(centres)

    def _choose_what_is_trained(self) -> None:
        """Freeze the transformer but for what `tuning` says; the tokenizer and the class token are always trained."""
        self.transformer.requires_grad_(self.config.tuning == "full")
        if self.config.tuning == "lora":
            from peft import LoraConfig, inject_adapter_in_model  # slow to import

            config = self.config
            inject_adapter_in_model(LoraConfig(r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, use_rslora=True,
                                               target_modules=self.transformer.attention), self.transformer.model)
            for norm in self.transformer.norms():
                norm.requires_grad_(True)
