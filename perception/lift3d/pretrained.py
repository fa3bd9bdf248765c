"""Pretrained 2D transformers as Lift3D runs them: over tokens of its own, with the pretrained positional embedding at hand.

    weights: tabletop                          shipped here (see weights/README.md); also the path of such a .safetensors file
    weights: openai/clip-vit-base-patch32      transformers' CLIP or DINOv2, a hub repository or a local folder
    weights: timm:vit_base_patch14_dinov2      timm's vision transformers by name, or timm:local-dir:FOLDER
    weights: null                              the shipped architecture with random weights

`HF_HUB_OFFLINE` is respected. Only safetensors are read. A `Transformer` is built from the architecture alone; `load` fetches the weights,
which a saved policy does not need any more: it carries them.

Shapes: B clouds, T tokens, D channels, g×g patches of the pretrained picture.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor, nn

from robot_io import UserError

SHIPPED = Path(__file__).parent / "weights"
SMALL: dict[str, Any] = {"img_size": 128, "patch_size": 16, "embed_dim": 96, "depth": 4, "num_heads": 4}
"""The embedded transformer: 0.5 M parameters, an 8×8 grid."""
TIMM = "timm:"
CONFIG = "config.json"


class Transformer(nn.Module):
    """The blocks of a vision transformer between its norms. `model` is the library's own, in the tree under that name.

    Attributes:
        width: D.
        grid: `float [g, g, D]`, the positional embedding of the patches.
        start: `float [D]`, class token and its position together.
    """

    attention = r".*\.(q_proj|k_proj|v_proj)"
    """A regular expression for the layers that LoRA adapts."""
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    """Of the pictures it was pretrained on."""

    def __init__(self, model: nn.Module, width: int) -> None:
        super().__init__()
        self.model, self.width = model, width

    def normalise(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (images - mean) / std

    def patches(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        """A picture's patches before positions are added, for `perception.lift3d.mae`."""
        raise NotImplementedError

    @property
    def positions(self) -> Float[Tensor, "n d"]:
        """Of the class token, then of the patches row by row."""
        raise NotImplementedError

    @property
    def class_token(self) -> Float[Tensor, " d"]:
        raise NotImplementedError

    @property
    def grid(self) -> Float[Tensor, "g g d"]:
        side = round((len(self.positions) - 1) ** 0.5)
        return self.positions[1:].unflatten(0, (side, side))

    @property
    def start(self) -> Float[Tensor, " d"]:
        return self.class_token + self.positions[0]

    def forward(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Tokens with their positions added, through norms and blocks."""
        raise NotImplementedError

    def norms(self) -> list[nn.Module]:
        return [module for module in self.modules() if isinstance(module, nn.LayerNorm)]

    @property
    def side(self) -> int:
        """Of a patch, pixels."""
        return next(module for module in self.modules() if isinstance(module, nn.Conv2d)).kernel_size[0]

    @torch.no_grad()
    def patch_statistics(self) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
        """Mean and standard deviation of patches before positions are added, of noise that falls off like pictures (amplitude ~ 1 / frequency;
        Field 1987): no picture has to be at hand, and the same transformer always says the same."""
        size = self.side * self.grid.shape[0]
        frequency = torch.fft.fftfreq(size)
        distance = (frequency[:, None] ** 2 + frequency**2).sqrt().clamp(min=1 / size)
        white = torch.randn(16, 3, size, size, generator=torch.Generator().manual_seed(0))
        pictures = torch.fft.ifft2(torch.fft.fft2(white) / distance).real
        patches = self.patches((pictures / pictures.std()).to(self.positions)).flatten(0, 1)
        return patches.mean(0), patches.std(0)


class Clip(Transformer):
    """transformers' `CLIPVisionModel`."""

    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

    @property
    def positions(self) -> Tensor:
        return self.model.embeddings.position_embedding.weight

    @property
    def class_token(self) -> Tensor:
        return self.model.embeddings.class_embedding

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.model.encoder(inputs_embeds=self.model.pre_layrnorm(tokens)).last_hidden_state
        return self.model.post_layernorm(hidden)

    def patches(self, images: Tensor) -> Tensor:
        return self.model.embeddings.patch_embedding(images).flatten(2).mT


class Dino(Transformer):
    """transformers' `Dinov2Model`."""

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    @property
    def positions(self) -> Tensor:
        return self.model.embeddings.position_embeddings[0]

    @property
    def class_token(self) -> Tensor:
        return self.model.embeddings.cls_token[0, 0]

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model.layernorm(self.model.encoder(tokens).last_hidden_state)

    def patches(self, images: Tensor) -> Tensor:
        return self.model.embeddings.patch_embeddings(images)


class Timm(Transformer):
    """timm's `VisionTransformer` with a class token and learnt positions."""

    attention = r".*\.qkv"

    @property
    def positions(self) -> Tensor:
        return self.model.pos_embed[0]

    @property
    def class_token(self) -> Tensor:
        return self.model.cls_token[0, 0]

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model.norm(self.model.blocks(self.model.norm_pre(tokens)))

    def patches(self, images: Tensor) -> Tensor:
        return self.model.patch_embed(images)


FAMILIES = {"clip": (Clip, "CLIPVisionModel"), "clip_vision_model": (Clip, "CLIPVisionModel"), "dinov2": (Dino, "Dinov2Model")}


def build(weights: str | None, assets: Path | None = None) -> Transformer:
    """The architecture that `weights` names, its weights undefined.

    Args:
        assets: a folder that `save_assets` wrote, to do without the checkpoint.

    Raises:
        UserError: nothing is there, or it is another kind of model.
    """
    if shipped(weights):
        return small()
    if weights.startswith(TIMM):
        made = Timm(*_timm(weights, pretrained=False))
        made.mean, made.std = made.model.pretrained_cfg["mean"], made.model.pretrained_cfg["std"]
        return made
    import transformers

    config = _config(weights, assets)
    family, name = FAMILIES[config.model_type]
    config = getattr(config, "vision_config", config)
    return family(getattr(transformers, name)(config), config.hidden_size)


def load(transformer: Transformer, weights: str | None) -> None:
    """Fill `transformer`, with or without adapters in it, with the pretrained weights.

    Raises:
        UserError: they cannot be had, or do not fit.
    """
    if weights is None:
        return
    if shipped(weights):
        found = _read(_file(weights))
    elif weights.startswith(TIMM):
        found = _timm(weights, pretrained=True)[0].state_dict()
    else:
        found = _transformers(weights).state_dict()
    own = {name.replace(".base_layer.", "."): tensor for name, tensor in transformer.model.state_dict().items() if ".lora_" not in name}
    if wrong := sorted(name for name in own.keys() | found.keys() if name not in own or name not in found
                       or own[name].shape != found[name].shape):
        raise UserError(f"lift3d.weights '{weights}'", f"missing, left over or of another shape: {', '.join(wrong[:3])}",
                        "the weights of that architecture", "name another checkpoint")
    for name, tensor in own.items():  # these share memory with the transformer's own
        with torch.no_grad():
            tensor.copy_(found[name])


def save_assets(transformer: Transformer, folder: Path) -> None:
    """What `build` needs to do without the checkpoint."""
    if hasattr(transformer.model, "config"):
        folder.mkdir(parents=True)
        (folder / CONFIG).write_text(transformer.model.config.to_json_string(use_diff=False))


def shipped(weights: str | None) -> bool:
    """Whether it is the embedded transformer, shipped or from a file."""
    return weights is None or (SHIPPED / f"{weights}.safetensors").is_file() or weights.endswith(".safetensors")


def small() -> Timm:
    from timm.models.vision_transformer import VisionTransformer

    return Timm(VisionTransformer(**SMALL, num_classes=0), SMALL["embed_dim"])


def _file(weights: str) -> Path:
    path = SHIPPED / f"{weights}.safetensors"
    path = path if path.is_file() else Path(weights)
    if not path.is_file():
        raise _missing(weights, "there is no such file")
    return path


def _read(path: Path) -> dict[str, Tensor]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118


def _timm(weights: str, pretrained: bool) -> tuple[nn.Module, int]:
    import timm
    from timm.models.vision_transformer import VisionTransformer

    name = weights.removeprefix(TIMM)
    try:
        model = timm.create_model(name, pretrained=pretrained, num_classes=0)
    except Exception as error:  # timm and the hub raise their own kinds
        raise _missing(weights, str(error).splitlines()[0]) from error
    plain = isinstance(model, VisionTransformer) and model.cls_token is not None and model.pos_embed is not None
    if not plain or model.pos_embed.shape[1] != model.patch_embed.num_patches + 1:
        raise UserError(f"lift3d.weights '{weights}'", f"it is a {type(model).__name__} without one learnt position per patch and a class token",
                        "a plain vision transformer", "name a ViT of CLIP or DINOv2, without registers")
    return model, model.embed_dim


def _config(weights: str, assets: Path | None) -> Any:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(assets if assets is not None else weights)
    except (OSError, ValueError, json.JSONDecodeError) as error:
        raise _missing(weights, str(error).splitlines()[0]) from error
    if config.model_type not in FAMILIES:
        raise UserError(f"lift3d.weights '{weights}'", f"it holds a {config.model_type} model", f"one of {', '.join(FAMILIES)}",
                        "name a CLIP or DINOv2 checkpoint, or timm:NAME")
    return config


def _transformers(weights: str) -> nn.Module:
    import transformers

    config = _config(weights, None)
    try:
        return getattr(transformers, FAMILIES[config.model_type][1]).from_pretrained(
            weights, config=getattr(config, "vision_config", config), use_safetensors=True)
    except (OSError, ValueError) as error:
        raise _missing(weights, str(error).splitlines()[0]) from error


def _missing(weights: str, found: str) -> UserError:
    names = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.safetensors"))) or "none yet"
    return UserError(f"lift3d.weights '{weights}'", f"cannot be loaded ({found})",
                     f"shipped weights ({names}), a .safetensors file of them, a folder or hub repository with config.json and "
                     "model.safetensors, or timm:NAME",
                     "fetch one where the network allows: hf download openai/clip-vit-base-patch32 --local-dir DIR, and set weights: DIR")
