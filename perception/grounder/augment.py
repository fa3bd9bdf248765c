"""Other tables, lamps and cameras for rendered pictures, so that the grounder does not learn one room by heart.

Background pixels, which the renderer tells apart exactly, get another texture; then light, colour cast, noise and blur change.
Everything is drawn from one `torch.Generator`. Shapes: B pictures of H×W.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

RETEXTURED = 0.5
BLURRED = 0.3


def uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator)


def texture(generator: torch.Generator, shape: tuple[int, int]) -> Float[Tensor, "3 h w"]:
    """Any muted or bright texture: coloured clouds of a random grain, stripes or tiles of two colours, blended with one colour."""
    height, width = shape
    grain = int(2 ** uniform(generator, 1, 5.5, 1).item())
    clouds = F.interpolate(torch.rand(1, 3, grain, grain, generator=generator), shape, mode="bicubic", align_corners=False)[0]
    angle, step = uniform(generator, 0, torch.pi, 1), uniform(generator, 0.1, 1.2, 1)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    waves = (along * step).sin()[None]
    tiles = ((along * step).sin() * (across * step).sin())[None]
    first, second = torch.rand(2, 3, 1, 1, generator=generator)
    pattern = (waves, tiles, clouds, clouds)[int(torch.randint(4, (1,), generator=generator))]
    if pattern is not clouds:
        pattern = first + (second - first) * (pattern > 0)
    strength = torch.rand(1, generator=generator)
    return torch.lerp(torch.lerp(first, second, y[None] / height), pattern, strength).clamp(0, 1)


def retexture(images: Float[Tensor, "b 3 h w"], background: Bool[Tensor, "b h w"], generator: torch.Generator) -> Tensor:
    """Give half of the pictures another background under the same shading."""
    images = images.clone()
    for image, behind in zip(images, background, strict=True):
        if torch.rand(1, generator=generator) < RETEXTURED and behind.any():
            new = texture(generator, behind.shape)
            shade = image.mean(0)
            shade = (shade / shade[behind].mean().clamp_min(0.05)).clamp(0.3, 1.6)
            image[:, behind] = (new * shade)[:, behind].clamp(0, 1)
    return images


def relight(images: Float[Tensor, "b 3 h w"], generator: torch.Generator) -> Tensor:
    """Gain, colour cast, gamma, offset, noise; some pictures a little blurred."""
    count = len(images)
    gain = uniform(generator, 0.65, 1.3, count, 1, 1, 1) * uniform(generator, 0.93, 1.07, count, 3, 1, 1)
    gamma = uniform(generator, 0.8, 1.25, count, 1, 1, 1)
    images = (images.clamp_min(1e-3) ** gamma * gain + uniform(generator, -0.06, 0.06, count, 1, 1, 1)).clamp(0, 1)
    blurred = F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    share = uniform(generator, 0, 1, count, 1, 1, 1) * (torch.rand(count, 1, 1, 1, generator=generator) < BLURRED)
    noise = torch.randn(images.shape, generator=generator) * uniform(generator, 0, 0.03, count, 1, 1, 1)
    return (torch.lerp(images, blurred, share) + noise).clamp(0, 1)
