"""OWLv2 (arXiv 2306.09683) through transformers: an image-text encoder whose every patch proposes a box.

Weights: a folder in transformers' layout or a hub id, such as google/owlv2-base-patch16-ensemble. Pictures are padded to a
square at the bottom and the right, and boxes come relative to that square.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from perception.grounding.candidates import best_of
from perception.grounding.captions import in_parts
from perception.grounding.published import Published, load_model, load_processor
from perception.stages import Detections, Picture
from robot_io.registry import ComponentConfig

FILES = (("preprocessor_config.json", "processor_config.json"), ("tokenizer.json", "vocab.json"))


class Owlv2(nn.Module):
    """See the module's text."""

    EXAMPLE: ClassVar[str] = "google/owlv2-base-patch16-ensemble"

    class Config(ComponentConfig):
        kind: Literal["owlv2"] = "owlv2"
        weights: str = Field("google/owlv2-base-patch16-ensemble", description="folder or hub id")
        prompt: str = Field("a photo of a {}", description="how a phrase is put to the text encoder")
        candidates: int = Field(8, ge=1, description="boxes kept for each phrase")
        batch_size: int = Field(4, ge=1, description="pictures at a time")

    def __init__(self, config: Config) -> None:
        super().__init__()
        import transformers

        self.config = config
        self.model = Published(load_model(transformers.Owlv2ForObjectDetection, config.weights, "detector owlv2", self.EXAMPLE))
        self._processor: Any = load_processor(transformers.AutoProcessor, config.weights, "detector owlv2", self.EXAMPLE, FILES)

    def detect(self, pictures: Sequence[Picture], phrases: Sequence[Sequence[str]]) -> list[Detections]:
        return in_parts(pictures, phrases, self.config.batch_size, self._detect)

    @torch.inference_mode()
    def _detect(self, pictures: Sequence[Picture], phrases: Sequence[Sequence[str]]) -> list[Detections]:
        text = [[self.config.prompt.format(phrase) for phrase in names] for names in phrases]
        inputs = self._processor(images=list(pictures), text=text, truncation=True, return_tensors="pt").to(self.model.device)
        output = self.model(**inputs)
        found = []
        for boxes, logits, names, picture in zip(output.pred_boxes, output.logits, phrases, pictures, strict=True):
            side = max(picture.shape[:2])
            detections = best_of(boxes, logits[:, :len(names)].sigmoid(), (side, side), per_phrase=self.config.candidates)
            found.append(_inside(detections, picture))
        return found


def _inside(detections: Detections, picture: Picture) -> Detections:
    """Boxes cut to the picture, without those that lie in the padding."""
    height, width = picture.shape[:2]
    boxes = np.minimum(detections.boxes, np.array([width, height, width, height], np.float32))
    whole = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Detections(boxes, detections.scores, detections.phrase).keep(whole)
