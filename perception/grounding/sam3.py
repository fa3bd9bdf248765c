"""SAM 3 (arXiv 2511.16719) through transformers: a phrase → masks of every instance, no segmenter needed.

Weights: a folder in transformers' layout or the hub id facebook/sam3 (gated: accept its licence once). The picture is encoded once,
and every phrase is asked of that encoding. A score is the instance's times the phrase's presence in the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from perception.grounding.candidates import nothing
from perception.grounding.published import Published, load_model, load_processor
from perception.stages import Detections, Picture
from robot_io.registry import ComponentConfig

FILES = (("preprocessor_config.json", "processor_config.json"), ("tokenizer.json", "vocab.json"))


class Sam3(nn.Module):
    """See the module's text."""

    EXAMPLE: ClassVar[str] = "facebook/sam3"

    class Config(ComponentConfig):
        kind: Literal["sam3"] = "sam3"
        weights: str = Field("facebook/sam3", description="folder or hub id")
        floor: float = Field(0.05, ge=0, lt=1, description="instances below this score are not even drawn")
        candidates: int = Field(8, ge=1, description="instances kept for each phrase")

    def __init__(self, config: Config) -> None:
        super().__init__()
        import transformers

        self.config = config
        self.model = Published(load_model(transformers.Sam3Model, config.weights, "detector sam3", self.EXAMPLE, also=("sam3_video",)))
        self._processor: Any = load_processor(transformers.Sam3Processor, config.weights, "detector sam3", self.EXAMPLE, FILES)

    @torch.inference_mode()
    def detect(self, pictures: Sequence[Picture], phrases: Sequence[Sequence[str]]) -> list[Detections]:
        return [self._one(picture, names) if names else nothing(picture.shape[:2])
                for picture, names in zip(pictures, phrases, strict=True)]

    def _one(self, picture: Picture, phrases: Sequence[str]) -> Detections:
        device, size = self.model.device, picture.shape[:2]
        image = self._processor(images=picture, return_tensors="pt").to(device)
        seen = self.model.model.get_vision_features(pixel_values=image["pixel_values"])
        boxes, scores, indices, masks = [], [], [], []
        for index, phrase in enumerate(phrases):
            words = self._processor(text=phrase, images=None, return_tensors="pt").to(device)
            output = self.model(vision_embeds=seen, input_ids=words["input_ids"], attention_mask=words["attention_mask"])
            instances = self._processor.post_process_instance_segmentation(output, threshold=self.config.floor, target_sizes=[size])[0]
            best = instances["scores"].argsort(descending=True)[:self.config.candidates]
            boxes.append(instances["boxes"][best].float().cpu().numpy())
            scores.append(instances["scores"][best].float().cpu().numpy())
            masks.append(instances["masks"][best].bool().cpu().numpy().reshape(len(best), *size))
            indices.append(np.full(len(best), index, np.int64))
        return Detections(np.concatenate(boxes), np.concatenate(scores), np.concatenate(indices), np.concatenate(masks))
