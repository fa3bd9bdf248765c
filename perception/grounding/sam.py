"""Segment Anything (arXiv 2304.02643) and SAM 2 (arXiv 2408.00714) through transformers: box → mask.

Weights: a folder in transformers' layout or a hub id, such as facebook/sam-vit-base and facebook/sam2.1-hiera-tiny.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from perception.grounding.published import Published, load_model, load_processor
from perception.stages import Detections, Picture
from robot_io.registry import ComponentConfig

FILES = (("preprocessor_config.json", "processor_config.json"),)


class Sam(nn.Module):
    """See the module's text."""

    EXAMPLE: ClassVar[str] = "facebook/sam-vit-base"
    CLASSES: ClassVar[tuple[str, str]] = ("SamModel", "SamProcessor")
    ALSO: ClassVar[tuple[str, ...]] = ()

    class Config(ComponentConfig):
        kind: Literal["sam"] = "sam"
        weights: str = Field("facebook/sam-vit-base", description="folder or hub id")

    def __init__(self, config: Config) -> None:
        super().__init__()
        import transformers

        self.config = config
        thing, (model, processor) = f"segmenter {config.kind}", (getattr(transformers, name) for name in self.CLASSES)
        self.model = Published(load_model(model, config.weights, thing, self.EXAMPLE, also=self.ALSO))
        self._processor: Any = load_processor(processor, config.weights, thing, self.EXAMPLE, FILES)

    @torch.inference_mode()
    def segment(self, pictures: Sequence[Picture], detections: Sequence[Detections]) -> list[Detections]:
        return [found.with_masks(self._one(picture, found.boxes)) for picture, found in zip(pictures, detections, strict=True)]

    def _one(self, picture: Picture, boxes: np.ndarray) -> np.ndarray:
        if not len(boxes):
            return np.zeros((0, *picture.shape[:2]), bool)
        inputs = self._processor(images=picture, input_boxes=[boxes.tolist()], return_tensors="pt")
        sizes = {name: inputs.pop(name) for name in ("original_sizes", "reshaped_input_sizes") if name in inputs}
        output = self.model(**inputs.to(self.model.device, torch.float32), multimask_output=False)
        masks = self._processor.post_process_masks(output.pred_masks.cpu(), **sizes)
        return masks[0].reshape(len(boxes), *picture.shape[:2]).numpy().astype(bool)


class Sam2(Sam):
    """The same interface, another architecture and other weights; the video checkpoints hold the image model too."""

    EXAMPLE: ClassVar[str] = "facebook/sam2.1-hiera-tiny"
    CLASSES: ClassVar[tuple[str, str]] = ("Sam2Model", "Sam2Processor")
    ALSO: ClassVar[tuple[str, ...]] = ("sam2_video",)

    class Config(Sam.Config):
        kind: Literal["sam2"] = "sam2"
        weights: str = Field("facebook/sam2.1-hiera-tiny", description="folder or hub id")
