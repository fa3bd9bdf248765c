"""From pictures and words to the model's own inputs, through its own processor and chat format.

Whatever side the processor pads on, a sequence is then *packed*: real positions first, padding last. So the default position
ids of every family are right, and neither the side nor the amount of padding can change a result.

Shapes: B samples, V views, L positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from backbones.vlm.families import Family

PER_TOKEN = ("input_ids", "token_type_ids", "mm_token_type_ids", "image_embeds_position_mask")
NOT_INPUTS = ("labels",)


@dataclass(frozen=True)
class Prompt:
    """What the model is asked.

    Attributes:
        columns: the model's inputs with one value per position, `long [B, L]` each, `input_ids` among them.
        mask: `bool [B, L]`, True where a position is real; real ones come first.
        pixels: the model's other inputs: pixel values and their layout.
    """

    columns: dict[str, Tensor]
    mask: Bool[Tensor, "b l"]
    pixels: dict[str, Tensor]


def encode(processor: Any, family: Family, pictures: Float[Tensor, "b v 3 h w"], words: list[str]) -> Prompt:
    """Ask `words[b]` about the V pictures of sample b. Pictures are in [0, 1]."""
    views = pictures.shape[1]
    texts = [_layout(processor, family, views, prompt) for prompt in words]
    bos = processor.tokenizer.bos_token
    written = {"add_special_tokens": False} if processor.chat_template and bos and texts[0].startswith(bos) else {}
    shown = pictures[:, :1] if family.one_image else pictures
    nested = [list(sample) for sample in shown]
    images_options = _image_options(processor, family)
    inputs = processor(
        images=[sample[0] for sample in nested] if family.one_image else nested,
        text=texts,
        text_kwargs={"padding": True, **written},
        images_kwargs=images_options,
        return_tensors="pt",
    )
    device = pictures.device
    inputs = {name: value.to(device) for name, value in inputs.items() if name not in NOT_INPUTS}
    mask = inputs.pop("attention_mask").bool()
    columns, mask = pack({name: inputs.pop(name) for name in PER_TOKEN if name in inputs}, mask)
    if family.one_image and views > 1:
        inputs |= processor.image_processor(
            list(rearrange(pictures, "b v c h w -> (b v) c h w")), return_tensors="pt", **images_options
        ).to(device)
        columns, mask = _repeat_block(columns, mask, views)
    return Prompt(columns, mask, inputs)


def pack(columns: dict[str, Tensor], mask: Bool[Tensor, "b l"]) -> tuple[dict[str, Tensor], Bool[Tensor, "b l"]]:
    """Move real positions to the front, in their order, and cut off what is padding in every sample."""
    order = torch.argsort((~mask).int(), dim=1, stable=True)[:, : int(mask.sum(1).max())]
    return {name: column.gather(1, order) for name, column in columns.items()}, mask.gather(1, order)


def _layout(processor: Any, family: Family, views: int, prompt: str) -> str:
    if processor.chat_template:
        content = [*({"type": "image"} for _ in range(views)), {"type": "text", "text": prompt}]
        return processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
    images = getattr(processor, "image_token", "") * (views - family.own_images)
    return family.bare.replace("{images}", images).replace("{prompt}", prompt)


def _image_options(processor: Any, family: Family) -> dict[str, Any]:
    """Pictures come in [0, 1] already; they are not enlarged before they are shrunk."""
    size = {"size": getattr(processor.image_processor, family.resize_to)} if family.resize_to else {}
    return {"do_rescale": False, **family.images, **size}


def _repeat_block(columns: dict[str, Tensor], mask: Tensor, views: int) -> tuple[dict[str, Tensor], Tensor]:
    """Repeat the positions of the one picture, with the tokens that open and close it, for every view (Kosmos-2)."""
    where = columns["image_embeds_position_mask"][0].nonzero()
    block = slice(int(where[0]) - 1, int(where[-1]) + 2)

    def repeated(column: Tensor) -> Tensor:
        return torch.cat([column[:, : block.stop], *[column[:, block]] * (views - 1), column[:, block.stop :]], 1)

    return {name: repeated(column) for name, column in columns.items()}, repeated(mask)
