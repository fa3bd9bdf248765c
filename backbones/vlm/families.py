"""What the adapter must know about a family of vision-language models, and nothing that transformers knows already.

An entry names the parts of the family's transformers class (the tower that sees, the projector, the language model), the linear
layers that LoRA adapts, and how a prompt is laid out where the checkpoint brings no chat template. Plain data: importing it
needs neither torch nor transformers. To add a family, add an entry, its sizes to `published`, and a tiny one to its tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from robot_io import UserError
from robot_io.errors import nearest

QUESTION = "What action should the robotic arm take to {instruction}?"
"""The prompt of VLM4VLA (arXiv 2601.03309, sec. 3)."""
LLAMA = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
SIGLIP = "q_proj|k_proj|v_proj|out_proj|fc1|fc2"


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        model_types: `model_type` in the checkpoint's config.json.
        vision, projector, language: where its parts are in the transformers model without its language-model head.
        lora: the linear layers of all three parts, by the last piece of their names, as a regular expression.
        decoder: where the decoder is, if the prompt goes to an encoder.
        sees: the fields of the vision tower's output that are read after it.
        prompt: the instruction in words, `{instruction}` being replaced.
        bare: the prompt with its pictures where there is no chat template; `{images}` stands for one placeholder per view.
        own_images: placeholders that the processor writes by itself.
        one_image: the processor knows one picture per prompt: its block of positions is repeated for the other views.
        continuing: values of per-token inputs for what follows the prompt, if not 0.
        images: options for the image processor: one picture is one picture, not a mosaic of crops.
        resize_to: the image processor's attribute that holds the size it ends up with, if it would enlarge pictures before.
        image_size: the side in pixels that pictures are scaled to, for families that take any; None: their own.
    """

    name: str
    model_types: tuple[str, ...]
    vision: str
    projector: str
    language: str
    lora: str
    decoder: str = ""
    sees: tuple[str, ...] = ("last_hidden_state",)
    prompt: str = QUESTION
    bare: str = "{images}{prompt}"
    own_images: int = 0
    one_image: bool = False
    continuing: Mapping[str, int] = field(default_factory=dict)
    images: Mapping[str, Any] = field(default_factory=dict)
    resize_to: str = ""
    image_size: int | None = None

    @property
    def lora_targets(self) -> str:
        """A regular expression over the adapter's module names."""
        return rf"model\.(?:{self.vision}|{self.projector}|{self.language})\.(?:.+\.)?(?:{self.lora})"


_LLAVA = {"vision": "vision_tower", "projector": "multi_modal_projector", "language": "language_model"}
_IDEFICS = {
    "vision": "vision_model",
    "projector": "connector",
    "language": "text_model",
    "lora": f"{LLAMA}|out_proj|fc1|fc2|proj",
    "images": {"do_image_splitting": False},
    "resize_to": "max_image_size",
}
_QWEN = {
    "vision": "visual",
    "projector": "visual.merger",
    "language": "language_model",
    "image_size": 224,
    "images": {"do_resize": False},
}

FAMILIES = {
    family.name: family
    for family in (
        # Its prompt is a bidirectional prefix; what follows (type 1) is causal, as an answer would be.
        Family("paligemma", ("paligemma",), **_LLAVA, lora=f"{LLAMA}|{SIGLIP}|linear", prompt="{instruction}",
               continuing={"token_type_ids": 1}),
        Family("smolvlm", ("smolvlm", "idefics3"), **_IDEFICS),
        Family("qwen2_5_vl", ("qwen2_5_vl",), **_QWEN, lora=rf"{LLAMA}|qkv|attn\.proj|mlp\.[02]", sees=("pooler_output",)),
        # Some layers of its tower feed the first layers of the language model directly (DeepStack, arXiv 2406.04334).
        Family("qwen3_vl", ("qwen3_vl",), **_QWEN, lora=rf"{LLAMA}|qkv|attn\.proj|linear_fc[12]",
               sees=("pooler_output", "deepstack_features")),
        Family("internvl", ("internvl",), **_LLAVA, lora=rf"{LLAMA}|projection_layer|fc1|fc2|linear_[12]",
               images={"crop_to_patches": False}),
        Family("llava_onevision", ("llava_onevision",), **_LLAVA, lora=rf"{LLAMA}|{SIGLIP}|linear_[12]",
               sees=("hidden_states",)),
        Family("florence2", ("florence2",), **_LLAVA, lora=rf"{SIGLIP}|qkv|proj|image_projection",
               decoder="language_model.decoder", own_images=1),
        Family("kosmos2", ("kosmos-2", "kosmos_2"), vision="vision_model", projector="image_to_text_projection",
               language="text_model", lora=rf"{SIGLIP}|dense", prompt="<grounding><phrase>{instruction}</phrase>",
               bare="{prompt}", one_image=True),
        # A convolutional tower of timm: its output is a map, which the model itself lays out in a row.
        Family("fastvlm", ("fast_vlm",), **_LLAVA, lora=rf"{LLAMA}|linear_[12]|conv_pwl?|qkv|proj|fc[12]"),
        Family("gemma3", ("gemma3",), **_LLAVA, lora=rf"{LLAMA}|{SIGLIP}", images={"do_pan_and_scan": False}),
    )
}  # fmt: skip


def family_of(model_type: str, asked: str | None = None) -> Family:
    """The family of a checkpoint.

    Raises:
        UserError: no family reads it, or the one that was `asked` for does not.
    """
    if asked is not None and asked not in FAMILIES:
        raise UserError(
            f"backbone family '{asked}'", "not known", "a family of `vla list backbones`", nearest(asked, FAMILIES)
        )
    for family in FAMILIES.values():
        if model_type in family.model_types:
            if asked in (None, family.name):
                return family
            raise UserError(
                "backbone vlm",
                f"the checkpoint is of family '{family.name}'",
                f"'{asked}', as backbone.family says",
                "correct backbone.family or leave it out",
            )
    types = {kind for family in FAMILIES.values() for kind in family.model_types}
    hint = "take the checkpoint's transformers version, whose name ends in -HF. " if "internvl" in model_type else ""
    raise UserError(
        "backbone vlm",
        f"a checkpoint of type '{model_type}'",
        "a family of `vla list backbones`",
        hint + nearest(model_type, types),
    )
