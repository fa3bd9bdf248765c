"""`kind: embedded`: the shipped grounder as a `Detector` that gives masks.

A picture is taken apart into things, and every thing is named, once; a phrase's score for a thing is the product of the
probabilities of its words, so "red cube" answers only where both fit, and more phrases cost next to nothing. The phrase "robot" (arm,
gripper) is answered by one mask of all its pixels. The robot is grey, so its pixels say what colour the light has: colours are named as
they would be under white light.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from perception.grounder import text
from perception.grounder.model import KINDS, SIZE, STRIDE
from perception.grounder.namer import cut, frames
from perception.grounder.storage import SHIPPED, load_weights
from perception.grounder.things import group
from perception.grounding.candidates import boxes_of
from perception.stages import Detections, Picture
from robot_io.registry import ComponentConfig

THING, BOWL, MACHINE = (KINDS.index(name) for name in ("object", "bowl", "robot"))
GREY_CARD = 50
"""Pixels of 128×128 that must show the robot for the light to be judged by it."""


class EmbeddedGrounder:
    """Pictures and phrases → masks, on a fraction of a core. See the module's head."""

    class Config(ComponentConfig):
        kind: Literal["embedded"] = "embedded"
        weights: str = Field("tabletop", description="shipped weights by name, or a .safetensors file")
        threshold: float = Field(0.02, ge=0, le=1, description="things that fit a phrase less well are not even reported")
        device: str = "cpu"

    def __init__(self, config: Config | None = None, **options: object) -> None:
        self.config = config or self.Config(**options)
        shipped = SHIPPED / f"{self.config.weights}.safetensors"
        model = load_weights(shipped if shipped.exists() else Path(self.config.weights)).eval().requires_grad_(False)
        self.model = model.to(self.config.device, memory_format=torch.channels_last)
        self.colors, self.shapes = model.namer.colors, model.namer.shapes
        self._column = {word: i for i, word in enumerate((*self.colors, *self.shapes, text.OBJECT))}

    @torch.inference_mode()
    def detect(self, pictures: Sequence[Picture], phrases: Sequence[Sequence[str]]) -> list[Detections]:
        """Per picture the things that fit each of its phrases, best first, with masks.

        Raises:
            UserError: a phrase with a word that the grounder was not taught.
        """
        asked = [[text.parse(phrase, (*self.colors, *self.shapes)) for phrase in some] for some in phrases]
        return [self._one(picture, words) for picture, words in zip(pictures, asked, strict=True)]

    def _one(self, picture: Picture, asked: list[tuple[str, ...]]) -> Detections:
        image = torch.tensor(picture, device=self.config.device).permute(2, 0, 1)[None].float() / 255
        small = image
        if image.shape[-2:] != (SIZE, SIZE):
            small = F.interpolate(image, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
        sight = self.model.segmenter(small.contiguous(memory_format=torch.channels_last))
        shares = F.interpolate(sight.kinds, (SIZE, SIZE), mode="bilinear", align_corners=False)[0].softmax(0).cpu().numpy()
        kind = shares.argmax(0)
        masks = group(kind, *_votes(sight.offset[0], sight.size[0]), (THING, BOWL))
        fits = self._fits(image, masks, shares)
        found = []
        for p, words in enumerate(asked):
            if words == (text.ROBOT,):
                robot = kind == MACHINE
                found += [(float(shares[MACHINE][robot].mean()), p, robot)] if robot.any() else []
            else:
                score = fits[:, [self._column[word] for word in words]].prod(1)
                found += [(float(score[t]), p, masks[t]) for t in np.argsort(-score, kind="stable")]
        return _collect([entry for entry in found if entry[0] >= self.config.threshold], picture.shape[:2])

    def _fits(self, image: Tensor, masks: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """For each thing the probability of each word: colours, shapes, "object"; `[T, W]`."""
        if not len(masks):
            return np.zeros((0, len(self._column)))
        outlines = torch.from_numpy(masks).float().to(image.device)
        owner = torch.zeros(len(masks), dtype=torch.int64, device=image.device)
        white = whitened(image, torch.from_numpy(shares.argmax(0) == MACHINE).to(image.device))
        color, shape = self.model.namer(cut(white, outlines, owner, frames(outlines)))
        named = torch.cat([color.softmax(1)[:, :-1], shape.softmax(1)[:, :-1]], 1).cpu().numpy()
        thing = [[shares[THING][mask].mean()] for mask in masks]
        return np.concatenate([named, thing], 1)


def whitened(image: Tensor, grey: Tensor) -> Tensor:
    """The picture `[1, 3, H, W]` with its channels scaled so that the pixels `grey [128, 128]` are grey; itself, if they are too few."""
    if grey.sum() < GREY_CARD:
        return image
    share = F.interpolate(grey[None, None].float(), image.shape[-2:])
    light = (image * share).sum((-1, -2), keepdim=True)
    return (image * (light.mean(1, keepdim=True) / light.clamp(min=1e-3)).clamp(0.5, 2)).clamp(0, 1)


def _votes(offset: Tensor, log_size: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps of stride 2 → per pixel of 128×128 the centre it votes for, its thing's size, its distance in sizes."""
    size = log_size.exp().clamp(2, SIZE)
    y, x = torch.meshgrid(torch.arange(len(size)), torch.arange(len(size)), indexing="ij")
    grid = torch.stack([x, y]).to(size.device) * STRIDE + (STRIDE - 1) / 2
    maps = (grid + offset * size, size, offset.norm(dim=0))
    votes, size, off = (m.repeat_interleave(STRIDE, -1).repeat_interleave(STRIDE, -2).cpu().numpy() for m in maps)
    return votes, size, off


def _collect(found: list[tuple[float, int, np.ndarray]], shape: tuple[int, int]) -> Detections:
    """Scores, phrases and masks → `Detections` at the picture's own size."""
    masks = np.array([mask for _, _, mask in found], bool).reshape(-1, SIZE, SIZE)
    if shape != (SIZE, SIZE):
        rows, columns = (((np.arange(n) + 0.5) * SIZE / n).astype(int) for n in shape)
        masks = masks[:, rows][:, :, columns]
    scores, phrase = np.array([s for s, _, _ in found], np.float32), np.array([p for _, p, _ in found], np.int64)
    return Detections(boxes_of(masks), scores, phrase, masks)
