"""The perception contract: a `FrontEnd` turns what was observed, and what was perceived so far, into a new `Percept`.

A policy's perception is a list of front-ends run in order by `perceive`. The empty list is raw RGB.

Shapes: B observations, V camera views, H×W pixels, N tokens of width D.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from perception.regions import Regions
from robot_io import Observation, UserError
from robot_io.specs import missing_camera


@dataclass(frozen=True)
class Batch:
    """B observations as tensors, camera by camera, untouched: still in the robot's own units.

    Attributes:
        rgb: per camera `uint8 [B, H, W, 3]`.
        depth: per camera `float32 [B, H, W]` metres; a camera without depth has no entry.
        intrinsics: per camera `float32 [B, 3, 3]`, pixels; no entry if unknown.
        world_from_camera: per camera `float32 [B, 4, 4]` (OpenCV camera frame); no entry if unknown.
        state: `float32 [B, S]`.
        instructions: B strings.
        labels: per camera B dictionaries of ground-truth masks (`bool [H, W]` NumPy arrays by name), None where an
            observation has none; only from simulators that were asked for it (see `robot_io.CameraFrame`).
        memory: per observation what front-ends keep from one look to the next within an episode (`memory[b]` is a dict
            that they may change); None in training, where every frame stands alone.
    """

    rgb: dict[str, UInt8[Tensor, "b h w 3"]]
    state: Float[Tensor, "b s"]
    instructions: list[str]
    depth: dict[str, Float[Tensor, "b h w"]] = field(default_factory=dict)
    intrinsics: dict[str, Float[Tensor, "b 3 3"]] = field(default_factory=dict)
    world_from_camera: dict[str, Float[Tensor, "b 4 4"]] = field(default_factory=dict)
    labels: dict[str, list[dict[str, Any] | None]] = field(default_factory=dict)
    memory: list[dict[str, Any]] | None = None

    @classmethod
    def stack(
        cls, observations: Sequence[Observation], cameras: Sequence[str], device: torch.device | str = "cpu",
        memory: list[dict[str, Any]] | None = None,
    ) -> Batch:
        """Tensorise a list of observations, keeping the named cameras in the given order."""
        for observation in observations:
            for name in cameras:
                if name not in observation.cameras:
                    raise missing_camera(name, tuple(observation.cameras), "this observation")

        def gather(attribute: str) -> dict[str, Tensor]:
            stacked = {}
            for name in cameras:
                values = [getattr(observation.cameras[name], attribute) for observation in observations]
                if all(value is not None for value in values):
                    stacked[name] = torch.from_numpy(np.stack(values)).to(device)
            return stacked

        return cls(
            rgb=gather("rgb"),
            depth=gather("depth"),
            intrinsics=gather("intrinsics"),
            world_from_camera=gather("world_from_camera"),
            state=torch.stack([torch.as_tensor(o.state, dtype=torch.float32) for o in observations]).to(device),
            instructions=[observation.instruction for observation in observations],
            labels={name: [o.cameras[name].labels for o in observations] for name in cameras},
            memory=memory,
        )

    @property
    def cameras(self) -> tuple[str, ...]:
        return tuple(self.rgb)

    def __len__(self) -> int:
        return len(self.instructions)


@dataclass(frozen=True)
class Percept:
    """What perception hands to the backbone. Any part may be empty.

    Attributes:
        images: `float [B, V, 3, H, W]` in [0, 1], or None: the policy sees no pictures.
        features: `float [B, V, N, D]`: the backbone's own view of `images` (see `Backbone.see`), computed ahead of
            time because it is frozen; None until then.
        tokens, token_mask: `float [B, N, D]` and `bool [B, N]` (True = real), or None.
        text: B strings, or an empty list.
        regions: where the things are that the instruction is about, or None if nobody looked.
        abstain: `bool [B]`, True where the thing asked for is not there and the robot should hold still; None: never.
        depth: `float [B, V, H, W]` metres along the optical axis, 0 where unknown, or None: depth as an estimator sees
            it. Whoever needs depth asks `perception.lifting.view_depth`, which falls back to the cameras' own.
        maps: tensors `[B, ...]` by name (feature maps, clouds of points) that a frozen front-end makes for a trained one after
            it: where training caches perception, these are what is cached.
        evidence: whatever a visualiser may draw (boxes, masks, depth, captions), keyed by `front-end/name`;
            nothing downstream reads it.
    """

    images: Float[Tensor, "b v 3 h w"] | None = None
    features: Float[Tensor, "b v n d"] | None = None
    tokens: Float[Tensor, "b n d"] | None = None
    token_mask: Bool[Tensor, "b n"] | None = None
    text: list[str] = field(default_factory=list)
    regions: Regions | None = None
    abstain: Bool[Tensor, " b"] | None = None
    depth: Float[Tensor, "b v h w"] | None = None
    maps: dict[str, Tensor] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)

    def replace(self, **changes: Any) -> Percept:
        return replace(self, **changes)

    def add_tokens(self, tokens: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]) -> Percept:
        """With these tokens behind those there are; of two widths the smaller is filled up with zeros."""
        if self.tokens is None:
            return replace(self, tokens=tokens, token_mask=mask)
        width = max(self.tokens.shape[-1], tokens.shape[-1])
        both = [F.pad(part, (0, width - part.shape[-1])) for part in (self.tokens, tokens)]
        return replace(self, tokens=torch.cat(both, 1), token_mask=torch.cat([self.token_mask, mask], 1))


class FrontEnd(nn.Module):
    """The contract of a perception front-end.

    A `frozen` front-end is a pure function of its input and its configuration, so training may compute it once per
    frame and cache it. One that is trained is so `after_cache` if it reads nothing but `Percept.maps`, tokens and text, and
    leaves pictures alone: then what is frozen before it can still be cached. `token_dim` is the width D of the tokens it adds,
    None if it adds none. One that `needs_depth` makes the policy ask for cameras with depth, and gets `Batch.depth` and
    `Batch.intrinsics` in training too, unless one before it `estimates_depth` (fills `Percept.depth` from pictures alone). One that
    `augments` changes its input at random while training, does nothing otherwise, and has no weights. One that `hides_pictures` may
    leave `Percept.images` None; one that `abstains` may set `Percept.abstain`. An `oracle` reads a simulator's ground truth: an upper
    bound, which cannot be served.
    """

    frozen: bool = True
    needs_depth: bool = False
    estimates_depth: bool = False
    after_cache: bool = False
    augments: bool = False
    hides_pictures: bool = False
    abstains: bool = False
    oracle: bool = False
    token_dim: int | None = None

    def load_pretrained(self) -> None:
        """Start from the published weights that the configuration names. Called once, when a new policy is made; a saved policy
        brings those of a front-end that is trained with it."""

    def save_assets(self, folder: Path) -> None:
        """Write what rebuilding needs besides weights and recipe into the new folder `folder`: small text files only. A front-end
        that writes any is given their folder as its constructor's `assets` when a policy is loaded."""

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        raise NotImplementedError


def raw(batch: Batch) -> Percept:
    """Raw RGB: every camera's picture, scaled to [0, 1], in the batch's camera order."""
    sizes = {name: tuple(rgb.shape[1:3]) for name, rgb in batch.rgb.items()}
    if len(set(sizes.values())) > 1:
        raise UserError(
            "cameras",
            f"their pictures differ in size ({sizes})",
            "one size for all views",
            "record at one size, or resize when loading",
        )
    images = torch.stack(list(batch.rgb.values()), dim=1)
    return Percept(images=images.permute(0, 1, 4, 2, 3).float() / 255)


def perceive(front_ends: Iterable[FrontEnd], batch: Batch, percept: Percept | None = None) -> Percept:
    """Run the front-ends in order, starting from raw RGB or from what others before them perceived."""
    percept = raw(batch) if percept is None else percept
    for front_end in front_ends:
        percept = front_end(batch, percept)
    return percept
