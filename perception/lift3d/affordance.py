"""Where in a picture an instruction points, by CLIP: the affordance map that `mae` masks by (Lift3D, arXiv 2411.18623, sec. 3.2).

Each patch's feature goes through CLIP's own projection into the space that it shares with text; its cosine with the instruction,
stretched to [0, 1] over the picture, is the map. `clip` is transformers' `CLIPModel` and its processor, from a hub repository or a folder.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from robot_io import UserError

PUBLISHED = "openai/clip-vit-base-patch32"


def load_clip(checkpoint: str = PUBLISHED) -> tuple[nn.Module, Any]:
    """Model and processor. Raises `UserError` saying what to fetch."""
    from transformers import CLIPModel, CLIPProcessor

    try:
        return CLIPModel.from_pretrained(checkpoint, use_safetensors=True).eval(), CLIPProcessor.from_pretrained(checkpoint)
    except (OSError, ValueError) as error:
        raise UserError(f"CLIP checkpoint '{checkpoint}'", f"cannot be loaded ({str(error).splitlines()[0]})",
                        "a folder or hub repository with config.json, model.safetensors and the tokenizer",
                        f"run: hf download {PUBLISHED} --local-dir DIR, and name DIR") from error


@torch.no_grad()
def clip_affordance(model: nn.Module, pixels: Float[Tensor, "b 3 h w"], words: dict[str, Tensor]) -> Float[Tensor, "b g g"]:
    """How much each patch is about the words of its picture, 0 the least and 1 the most of that picture.

    Args:
        pixels: as CLIP's processor makes them.
        words: `input_ids` and `attention_mask`, `[B, L]`, likewise.
    """
    vision = model.vision_model
    hidden = vision(pixel_values=pixels).last_hidden_state[:, 1:]
    patches = model.visual_projection(vision.post_layernorm(hidden))
    text = model.text_projection(model.text_model(**words).pooler_output)
    alike = torch.einsum("bnd,bd->bn", nn.functional.normalize(patches, dim=-1), nn.functional.normalize(text, dim=-1))
    low, high = alike.amin(1, keepdim=True), alike.amax(1, keepdim=True)
    side = round(alike.shape[1] ** 0.5)
    return ((alike - low) / (high - low).clamp(min=1e-6)).unflatten(1, (side, side))
