"""Published captioners through transformers, from a local folder or a hub id: BLIP, BLIP-2, Florence-2, SmolVLM, Qwen-VL.

Each class says how its processor is asked; loading, batches and greedy generation are the same for all. Weights stay outside the policy
folder (`perception.grounding.published.Published`), and a folder that lacks a file is refused with what to fetch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from pydantic import Field
from torch import nn

from perception.grounding.askers import FILES
from perception.grounding.published import Published, load_model, load_processor
from perception.percept import Batch, Percept
from robot_io.registry import ComponentConfig

DESCRIBE = "Describe in one short sentence which objects are on the table, their colours, and where each one is."


class PublishedConfig(ComponentConfig):
    """What all of them can be told."""

    weights: str
    batch_size: int = Field(4, ge=1, description="pictures at a time")
    max_tokens: int = Field(40, ge=1, description="longest caption")
    beams: int = Field(1, ge=1, description="of the search; SUM uses 3")


class PublishedCaptioner(nn.Module):
    """Pictures → captions. A family gives the transformers class (`CLASS`), a checkpoint that fits (`EXAMPLE`), and `ask`."""

    CLASS: ClassVar[str]
    EXAMPLE: ClassVar[str]
    ALSO: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        import transformers

        thing = f"captioner {config.kind}"
        self.config = config
        cls = getattr(transformers, self.CLASS)
        self.model = Published(load_model(cls, config.weights, thing, self.EXAMPLE, self.ALSO))
        self.processor: Any = load_processor(transformers.AutoProcessor, config.weights, thing, self.EXAMPLE, FILES)

    def describe(self, batch: Batch, percept: Percept, camera: str) -> list[str]:
        pictures = [Image.fromarray(picture) for picture in batch.rgb[camera].cpu().numpy()]
        size = self.config.batch_size
        return [text for start in range(0, len(pictures), size) for text in self.caption(pictures[start:start + size])]

    @torch.inference_mode()
    def caption(self, pictures: Sequence[Image.Image]) -> list[str]:
        inputs = self.ask(list(pictures)).to(self.model.device)
        options = {"max_new_tokens": self.config.max_tokens, "num_beams": self.config.beams, "do_sample": False}
        tokens = self.model.model.generate(**inputs, **options)
        return [" ".join(text.split()) for text in self.read(tokens, inputs)]

    def ask(self, pictures: list[Image.Image]) -> Any:
        """The model's inputs."""
        return self.processor(images=pictures, return_tensors="pt")

    def read(self, tokens: torch.Tensor, inputs: Any) -> list[str]:
        """What the generated tokens say."""
        return self.processor.batch_decode(tokens, skip_special_tokens=True)


class Blip(PublishedCaptioner):
    """BLIP (arXiv 2201.12086), the captioner of SUM."""

    CLASS = "BlipForConditionalGeneration"
    EXAMPLE = "Salesforce/blip-image-captioning-large"

    class Config(PublishedConfig):
        kind: Literal["blip"] = "blip"
        weights: str = Field("Salesforce/blip-image-captioning-large", description="folder or hub id")


class Blip2(PublishedCaptioner):
    """BLIP-2 (arXiv 2301.12597)."""

    CLASS = "Blip2ForConditionalGeneration"
    EXAMPLE = "Salesforce/blip2-opt-2.7b"

    class Config(PublishedConfig):
        kind: Literal["blip2"] = "blip2"
        weights: str = Field("Salesforce/blip2-opt-2.7b", description="folder or hub id")
        prompt: str = Field("", description="what the caption continues; empty: a caption of its own")

    def ask(self, pictures: list[Image.Image]) -> Any:
        return self.processor(images=pictures, text=[self.config.prompt] * len(pictures), padding=True, return_tensors="pt")


class Florence2(PublishedCaptioner):
    """Florence-2 (arXiv 2311.06242): the task word says how much detail."""

    CLASS = "Florence2ForConditionalGeneration"
    EXAMPLE = "florence-community/Florence-2-base"

    class Config(PublishedConfig):
        kind: Literal["florence2"] = "florence2"
        weights: str = Field("florence-community/Florence-2-base", description="folder or hub id, in transformers' own format")
        detail: Literal["<CAPTION>", "<DETAILED_CAPTION>", "<MORE_DETAILED_CAPTION>"] = "<DETAILED_CAPTION>"

    def ask(self, pictures: list[Image.Image]) -> Any:
        return self.processor(images=pictures, text=[self.config.detail] * len(pictures), padding=True, return_tensors="pt")


class Chat(PublishedCaptioner):
    """A model that is asked in words, in its own chat format."""

    def ask(self, pictures: list[Image.Image]) -> Any:
        content = {"type": "text", "text": self.config.prompt}
        messages = [{"role": "user", "content": [{"type": "image"}, content]}]
        prompt = self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        texts = {"text": [prompt] * len(pictures), "text_kwargs": {"padding": True, "padding_side": "left"}}
        return self.processor(images=[[picture] for picture in pictures], **texts, return_tensors="pt")

    def read(self, tokens: torch.Tensor, inputs: Any) -> list[str]:
        return super().read(tokens[:, inputs["input_ids"].shape[1]:], inputs)


class SmolVLM(Chat):
    """SmolVLM (arXiv 2504.05299)."""

    CLASS = "SmolVLMForConditionalGeneration"
    EXAMPLE = "HuggingFaceTB/SmolVLM2-256M-Video-Instruct"
    ALSO = ("idefics3",)

    class Config(PublishedConfig):
        kind: Literal["smolvlm"] = "smolvlm"
        weights: str = Field("HuggingFaceTB/SmolVLM2-256M-Video-Instruct", description="folder or hub id")
        prompt: str = Field(DESCRIBE, description="what it is asked")


class QwenVL(Chat):
    """Qwen2-VL, Qwen2.5-VL or Qwen3-VL, whichever the checkpoint is."""

    CLASS = "AutoModelForImageTextToText"
    EXAMPLE = "Qwen/Qwen2.5-VL-3B-Instruct"

    class Config(PublishedConfig):
        kind: Literal["qwen_vl"] = "qwen_vl"
        weights: str = Field("Qwen/Qwen2.5-VL-3B-Instruct", description="folder or hub id")
        prompt: str = Field(DESCRIBE, description="what it is asked")
