"""Segment Anything (arXiv 2304.02643) through the authors' own package and their .pth checkpoints: box → mask.

    WEIGHTS     sam_vit_b_01ec64.pth, sam_vit_l_0b3195.pth or sam_vit_h_4b8939.pth
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from perception.grounding.published import Published, copy_weights, load_pth, require_file
from perception.stages import Detections, Picture
from robot_io.registry import ComponentConfig

URL = "https://dl.fbaipublicfiles.com/segment_anything"
MODELS = {
    "vit_b": ("sam_vit_b_01ec64.pth", {"encoder_embed_dim": 768, "encoder_depth": 12, "encoder_num_heads": 12,
                                       "encoder_global_attn_indexes": [2, 5, 8, 11]}),
    "vit_l": ("sam_vit_l_0b3195.pth", {"encoder_embed_dim": 1024, "encoder_depth": 24, "encoder_num_heads": 16,
                                       "encoder_global_attn_indexes": [5, 11, 17, 23]}),
    "vit_h": ("sam_vit_h_4b8939.pth", {"encoder_embed_dim": 1280, "encoder_depth": 32, "encoder_num_heads": 16,
                                       "encoder_global_attn_indexes": [7, 15, 23, 31]}),
}


class SegmentAnything(nn.Module):
    """See the module's text."""

    class Config(ComponentConfig):
        kind: Literal["segment_anything"] = "segment_anything"
        model: Literal["vit_b", "vit_l", "vit_h"] = "vit_b"
        weights: str = Field("models/segment_anything/sam_vit_b_01ec64.pth", description="the .pth file")
        encoder: dict[str, Any] = Field({}, description="changes of the image encoder's size")

    def __init__(self, config: Config) -> None:
        super().__init__()
        from segment_anything.build_sam import _build_sam

        self.config = config
        file, size = MODELS[config.model]
        thing = f"segmenter segment_anything ({config.model})"
        path = require_file(config.weights, thing, f"{URL}/{file}")
        model = _build_sam(**size | config.encoder)
        copy_weights(model, load_pth(path, thing, f"{URL}/{file}"), f"{thing} '{path}'", f"fetch {URL}/{file}")
        self.model = Published(model)

    @torch.inference_mode()
    def segment(self, pictures: Sequence[Picture], detections: Sequence[Detections]) -> list[Detections]:
        return [found.with_masks(self._one(picture, found.boxes)) for picture, found in zip(pictures, detections, strict=True)]

    def _one(self, picture: Picture, boxes: np.ndarray) -> np.ndarray:
        from segment_anything import SamPredictor

        if not len(boxes):
            return np.zeros((0, *picture.shape[:2]), bool)
        predictor = SamPredictor(self.model.model)
        predictor.set_image(picture)
        prompts = predictor.transform.apply_boxes_torch(torch.as_tensor(boxes, device=self.model.device), picture.shape[:2])
        masks, _, _ = predictor.predict_torch(point_coords=None, point_labels=None, boxes=prompts, multimask_output=False)
        return masks[:, 0].cpu().numpy()


