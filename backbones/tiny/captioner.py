"""Captioner `kind: tiny`: what a `Speaker` says of all views, or what it answers to one question. See `backbones.tiny.speech`."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from backbones.tiny.scenes import VIEWS
from backbones.tiny.sentences import DESCRIBE
from backbones.tiny.speech import Speaker
from perception.grounding.published import Published
from perception.percept import Batch, Percept
from robot_io.registry import ComponentConfig
from robot_io.specs import missing_camera


class TinyCaptioner(nn.Module):
    """See the module's head. It reads both views that it was taught, whichever `camera` is described."""

    class Config(ComponentConfig):
        kind: Literal["tiny"] = "tiny"
        weights: str = Field("tabletop", description="shipped weights by name, or a .safetensors file")
        question: str = Field(DESCRIBE, description="what it is asked; docs/tiny.md lists what it was taught to answer")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.speaker = Published(Speaker.load(config.weights))

    def describe(self, batch: Batch, percept: Percept, camera: str) -> list[str]:
        for view in VIEWS:
            if view not in batch.cameras:
                raise missing_camera(view, batch.cameras, "captioner tiny, which was taught this view")
        images = torch.stack([batch.rgb[view] for view in VIEWS], 1).permute(0, 1, 4, 2, 3).float() / 255
        return [said for (said,) in self.speaker.model.answer(images, [[self.config.question]] * len(images))]
