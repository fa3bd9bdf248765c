"""Crop and phrase compared in an image-text embedding: CLIP (arXiv 2103.00020), SigLIP (arXiv 2303.15343) through transformers.

A candidate is chosen if its crop is nearer to its phrase than to the other phrases and to a few words for anything (`others`), by a
margin, and near enough; else nothing is. In further views the crop from the base view counts beside the phrase.
Weights: a folder in transformers' layout or a hub id, such as google/siglip-base-patch16-224.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from perception.grounding.candidates import crop_box
from perception.grounding.published import Published, load_model, load_processor
from perception.stages import Detections, Picture
from robot_io.registry import ComponentConfig

FILES = (("preprocessor_config.json", "processor_config.json"), ("tokenizer.json", "vocab.json", "spiece.model"))


class TextSimilarity(nn.Module):
    """See the module's text."""

    EXAMPLE: ClassVar[str] = "google/siglip-base-patch16-224"

    class Config(ComponentConfig):
        kind: Literal["similarity"] = "similarity"
        weights: str = Field("google/siglip-base-patch16-224", description="folder or hub id of a CLIP or SigLIP model")
        prompt: str = Field("a photo of a {}", description="how a phrase is put to the text encoder")
        others: tuple[str, ...] = Field(("object", "table"), description="what a crop might show instead")
        threshold: float = Field(0.0, ge=-1, le=1, description="least cosine similarity of crop and phrase")
        margin: float = Field(0.0, ge=0, le=2, description="by how much the phrase must beat all others")
        reference: float = Field(0.5, ge=0, le=1, description="weight of the base view's crop in further views")

    def __init__(self, config: Config) -> None:
        super().__init__()
        import transformers

        self.config = config
        self.model = Published(load_model(transformers.AutoModel, config.weights, "selector similarity", self.EXAMPLE))
        self._processor: Any = load_processor(transformers.AutoProcessor, config.weights, "selector similarity", self.EXAMPLE, FILES)

    @torch.inference_mode()
    def select(self, picture: Picture, candidates: Detections, phrases: Sequence[str], instruction: str,
               references: Sequence[Picture | None]) -> list[int | None]:
        if not len(candidates):
            return [None] * len(phrases)
        names = [*phrases, *(name for name in self.config.others if name not in phrases)]
        texts = self._embed_texts(names)
        crops = self._embed_pictures([crop_box(picture, box) for box in candidates.boxes])
        near = (crops @ texts.T).cpu().numpy()  # [N, P + others]
        chosen: list[int | None] = []
        for phrase, reference in enumerate(references):
            mine = np.flatnonzero(candidates.phrase == phrase)
            rest = np.delete(near[mine], phrase, axis=1).max(1, initial=-np.inf)
            mine = mine[(near[mine, phrase] >= self.config.threshold) & (near[mine, phrase] - rest >= self.config.margin)]
            worth = near[mine, phrase]
            if reference is not None and len(mine):
                alike = (crops[mine] @ self._embed_pictures([reference])[0]).cpu().numpy()
                worth = (1 - self.config.reference) * worth + self.config.reference * alike
            chosen.append(int(mine[worth.argmax()]) if len(mine) else None)
        return chosen

    def _embed_texts(self, names: Sequence[str]) -> Float[Tensor, "p d"]:
        padding = "max_length" if "siglip" in self.model.model.config.model_type else True  # SigLIP was trained so
        inputs = self._processor(text=[self.config.prompt.format(name) for name in names], padding=padding, truncation=True,
                                 return_tensors="pt").to(self.model.device)
        return _unit(self.model.model.get_text_features(**inputs))

    def _embed_pictures(self, pictures: Sequence[Picture]) -> Float[Tensor, "n d"]:
        inputs = self._processor(images=[np.ascontiguousarray(picture) for picture in pictures], return_tensors="pt",
                                 input_data_format="channels_last").to(self.model.device)
        return _unit(self.model.model.get_image_features(**inputs))


def _unit(features: Any) -> Tensor:
    """Embeddings of length 1 (transformers 5 wraps them in an output)."""
    return F.normalize(features if isinstance(features, Tensor) else features.pooler_output, dim=-1)
