"""Grounding DINO (arXiv 2303.05499) and MM-Grounding-DINO (arXiv 2401.02361) through transformers: phrases → boxes.

Weights: a folder in transformers' layout or a hub id, such as IDEA-Research/grounding-dino-tiny or
openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_v3det. The authors' .pth becomes such a folder with
`python -m perception.grounding.dino_weights` (see there).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from perception.grounding.candidates import best_of
from perception.grounding.captions import caption_of, in_parts, phrase_scores, tokens_of
from perception.grounding.published import Published, load_model, load_processor
from perception.stages import Detections, Picture
from robot_io.registry import ComponentConfig

FILES = (("preprocessor_config.json", "processor_config.json"), ("tokenizer.json", "vocab.txt"))


class GroundingDino(nn.Module):
    """See the module's text."""

    EXAMPLE: ClassVar[str] = "IDEA-Research/grounding-dino-tiny"
    MODEL: ClassVar[str] = "GroundingDinoForObjectDetection"

    class Config(ComponentConfig):
        kind: Literal["grounding_dino"] = "grounding_dino"
        weights: str = Field("IDEA-Research/grounding-dino-tiny", description="folder or hub id")
        candidates: int = Field(8, ge=1, description="boxes kept for each phrase")
        batch_size: int = Field(4, ge=1, description="pictures at a time")

    def __init__(self, config: Config) -> None:
        super().__init__()
        import transformers

        self.config = config
        thing = f"detector {config.kind}"
        self.model = Published(load_model(getattr(transformers, self.MODEL), config.weights, thing, self.EXAMPLE))
        self._processor: Any = load_processor(transformers.AutoProcessor, config.weights, thing, self.EXAMPLE, FILES)

    def detect(self, pictures: Sequence[Picture], phrases: Sequence[Sequence[str]]) -> list[Detections]:
        return in_parts(pictures, phrases, self.config.batch_size, self._detect)

    @torch.inference_mode()
    def _detect(self, pictures: Sequence[Picture], phrases: Sequence[Sequence[str]]) -> list[Detections]:
        inputs = self._processor(images=list(pictures), text=[caption_of(names) for names in phrases], padding=True,
                                 return_tensors="pt").to(self.model.device)
        output = self.model(**inputs)
        return [
            best_of(boxes, phrase_scores(logits, tokens_of(self._processor.tokenizer, names)), picture.shape[:2],
                    per_phrase=self.config.candidates)
            for boxes, logits, names, picture in zip(output.pred_boxes, output.logits, phrases, pictures, strict=True)
        ]


class MMGroundingDino(GroundingDino):
    """The same interface, another architecture and other weights."""

    EXAMPLE: ClassVar[str] = "openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_v3det"
    MODEL: ClassVar[str] = "MMGroundingDinoForObjectDetection"

    class Config(GroundingDino.Config):
        kind: Literal["mm_grounding_dino"] = "mm_grounding_dino"
        weights: str = Field("openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_v3det", description="folder or hub id")
