"""Lift3D's first stage: a task-aware masked autoencoder that teaches a 2D transformer depth (arXiv 2411.18623, sec. 3.2).

    picture ──patches──▶ masked where the instruction points, and at random elsewhere ──▶ encoder (visible ones) ──▶ decoder ──▶ depth

    L = |E(visible) − E₀(visible)|  +  |D(E(visible), mask tokens) − depth|                               (eqs. 1 and 2)

E is the pretrained transformer with LoRA, E₀ the same one frozen. With `target: rgb`, full tuning, no affordance and no distillation it is
a plain masked autoencoder (He et al., arXiv 2111.06377), which is how the embedded transformer was made. The paper does not publish this
stage's code, nor the decoder's size: two layers as wide as the encoder here.

Shapes: B pictures, n patches of p×p pixels in reading order, v of them visible, D channels.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from perception.lift3d.pretrained import Transformer

Target = Literal["depth", "rgb", "rgbd"]
CHANNELS = {"depth": 1, "rgb": 3, "rgbd": 4}
RATIO = 0.75


def affordance_patches(maps: Float[Tensor, "b h w"], side: int, threshold: float = 0.5) -> Bool[Tensor, "b n"]:
    """Patches whose mean of an affordance map in [0, 1] is above `threshold`, of side×side patches."""
    return F.adaptive_avg_pool2d(maps[:, None], side).flatten(1) > threshold


def visible_patches(afforded: Bool[Tensor, "b n"], ratio: float = RATIO, generator: torch.Generator | None = None) -> Int[Tensor, "b v"]:
    """The patches that stay, in order: `ratio` of all are masked, afforded ones first, then others at random."""
    order = torch.rand(afforded.shape, generator=generator, device=afforded.device) - afforded.float()
    keep = afforded.shape[1] - round(ratio * afforded.shape[1])
    return order.topk(keep, 1).indices.sort(1).values


class MaskedAutoencoder(nn.Module):
    """Encoder and decoder. `encoder` is trained as its parameters say (`requires_grad`); `original` is a frozen copy, or None.

    Args:
        side: of a patch in pixels.
    """

    def __init__(self, encoder: Transformer, original: Transformer | None, side: int, target: Target, depth: int = 2) -> None:
        super().__init__()
        from timm.models.vision_transformer import Block

        width, patches = encoder.width, encoder.grid.shape[0] ** 2
        self.encoder, self.original = encoder, original
        self.side, self.target = side, target
        self.enter = nn.Linear(width, width)
        self.hidden = nn.Parameter(torch.randn(width) * 0.02)
        self.position = nn.Parameter(torch.randn(patches, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, max(1, width // 32)) for _ in range(depth)))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, CHANNELS[target] * side**2))

    def encode(self, encoder: Transformer, images: Float[Tensor, "b 3 h w"], visible: Int[Tensor, "b v"] | None) -> Float[Tensor, "b v d"]:
        """The visible patches (all of them, if None) as `encoder` sees them, its class token left out."""
        tokens = encoder.patches(encoder.normalise(images)) + encoder.positions[1:]
        if visible is not None:
            tokens = tokens.gather(1, visible[..., None].expand(-1, -1, tokens.shape[-1]))
        return encoder(torch.cat([encoder.start.expand(len(tokens), 1, -1), tokens], 1))[:, 1:]

    def decode(self, seen: Float[Tensor, "b v d"], visible: Int[Tensor, "b v"]) -> Float[Tensor, "b n c"]:
        """Pixels of every patch, visible or not."""
        tokens = self.hidden.expand(len(seen), len(self.position), -1)
        tokens = tokens.scatter(1, visible[..., None].expand(-1, -1, tokens.shape[-1]), self.enter(seen).to(tokens.dtype))
        return self.leave(self.blocks(tokens + self.position))

    def forward(self, images: Float[Tensor, "b 3 h w"], depth: Float[Tensor, "b h w"], visible: Int[Tensor, "b v"]) -> dict[str, Tensor]:
        """The losses by name: `reconstruction`, and `distillation` if there is an original. `depth` in metres."""
        seen = self.encode(self.encoder, images, visible)
        truth = {"depth": depth[:, None], "rgb": images, "rgbd": torch.cat([images, depth[:, None]], 1)}[self.target]
        losses = {"reconstruction": (self.decode(seen, visible) - patchwise(truth, self.side)).abs().mean()}
        if self.original is not None:
            with torch.no_grad():
                before = self.encode(self.original, images, visible)
            losses["distillation"] = (seen - before).abs().mean()
        return losses

    def train(self, mode: bool = True) -> MaskedAutoencoder:
        super().train(mode)
        if self.original is not None:
            self.original.eval()
        return self


def patchwise(images: Float[Tensor, "b c h w"], side: int) -> Float[Tensor, "b n c"]:
    """The pixels of each patch."""
    return rearrange(images, "b c (r y) (q x) -> b (r q) (c y x)", y=side, x=side)


def plain_weights(transformer: Transformer) -> dict[str, Tensor]:
    """A copy of the library model's weights with the adapters added in; the model keeps both apart."""
    from peft.tuners.lora import LoraLayer

    weights = {name.replace(".base_layer.", "."): tensor.detach().clone()
               for name, tensor in transformer.model.state_dict().items() if ".lora_" not in name}
    for name, module in transformer.model.named_modules():
        if isinstance(module, LoraLayer):
            for adapter in module.active_adapters:
                weights[f"{name}.weight"] += module.get_delta_weight(adapter).detach()
    return weights
