"""Train `mae` on rendered scenes: `python -m perception.lift3d.train DIR --out weights.safetensors`.

    # the embedded 2D transformer, from nothing: a plain masked autoencoder of pictures
    python -m perception.lift3d.train DIR --start null --target rgb --mask random --tuning full --out tabletop.safetensors
    # Lift3D's first stage on top of it
    python -m perception.lift3d.train DIR --start tabletop.safetensors --out tabletop_mae.safetensors

`--start` may name anything that `perception.lift3d.pretrained` reads; a transformers checkpoint is written as a folder. Where the renderer's mask
of the target is the affordance, a patch counts from a tenth on (`--threshold`): things are smaller than patches. `--clip CHECKPOINT` asks
CLIP instead, with the paper's threshold of one half.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from rich.console import Console
from safetensors.torch import save_file
from timm.layers import build_sincos2d_pos_embed
from torch import Tensor, nn

from perception import teaching
from perception.lift3d import pretrained
from perception.lift3d.affordance import clip_affordance, load_clip
from perception.lift3d.front_end import Lift3D
from perception.lift3d.mae import MaskedAutoencoder, Target, affordance_patches, plain_weights, visible_patches
from perception.lift3d.scenes import ARRAYS

FAR = 1.5
"""Depth beyond this is drawn as this far, metres."""
WEIGHT = {"reconstruction": 1.0, "distillation": 1.0}
PROBE = 400


@dataclass(frozen=True)
class Options:
    """See the module's text and `main`."""

    start: str | None = "tabletop"
    target: Target = "depth"
    mask: str = "affordance"
    distil: bool = True
    tuning: Literal["lora", "full"] = "lora"
    rank: int = 8
    steps: int = 2000
    batch: int = 64
    rate: float = 1e-3
    threshold: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Pictures:
    """Pictures with depth and affordance, drawn at random from rendered scenes."""

    arrays: dict[str, np.ndarray]
    size: int

    def draw(self, generator: np.random.Generator, count: int) -> tuple[Tensor, Tensor, Tensor, list[str]]:
        """Images `[B, 3, h, w]` in [0, 1], depth `[B, h, w]` in metres, the target `[B, h, w]`, and the words."""
        rows = np.sort(generator.choice(len(self.arrays["words"]), count, replace=count > len(self.arrays["words"])))
        views = generator.integers(self.arrays["images"].shape[1], size=count)
        images, depth, target = (torch.from_numpy(np.ascontiguousarray(self.arrays[name][rows, views])).float()
                                 for name in ("images", "depth", "target"))
        images = self._resize(images.permute(0, 3, 1, 2) / 255)
        depth, target = (self._resize(values[:, None])[:, 0] for values in (depth.clamp(max=FAR), target))
        return images, depth, target, [str(self.arrays["words"][row]) for row in rows]

    def _resize(self, values: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c s s"]:
        if values.shape[-1] == self.size:
            return values
        return F.interpolate(values, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True)


def make(options: Options) -> tuple[MaskedAutoencoder, int]:
    """The model as `options` want it trained, and the side of its pictures in pixels. The encoder is what `Lift3D` lifts, adapters and all.

    Positions begin as sines and cosines of the place, as in masked autoencoders: small random ones, which have to be learnt first, stayed small.
    """
    torch.manual_seed(options.seed)
    front_end = Lift3D(Lift3D.Config(weights=options.start, tuning=options.tuning, rank=options.rank, alpha=options.rank**0.5, dropout=0.0))
    front_end.load_pretrained()
    encoder = front_end.transformer
    if options.tuning == "lora":
        for norm in encoder.norms():
            norm.requires_grad_(False)  # the first stage trains the adapters alone
    original = None
    if options.distil:
        original = pretrained.build(options.start)
        pretrained.load(original, options.start)
        original.requires_grad_(False)
    model = MaskedAutoencoder(encoder, original, encoder.side, options.target)
    with torch.no_grad():
        waves = build_sincos2d_pos_embed(list(encoder.grid.shape[:2]), encoder.width)
        model.position.copy_(waves)
        if options.start is None:
            encoder.positions[1:].copy_(waves)
    return model, encoder.side * encoder.grid.shape[0]


def fit(model: MaskedAutoencoder, pictures: Pictures, options: Options, report: Callable[[int, dict[str, float]], None],
        afford: Callable[[Tensor, list[str]], Tensor] | None = None) -> None:
    """Minimise the sum of the losses. `afford(images, words)` gives affordance maps in place of the renderer's target."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.rate, weight_decay=0.05, betas=(0.9, 0.95))
    running: dict[str, float] = {}
    grid = model.encoder.grid.shape[0]
    model.train()
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = teaching.rate(step, options.steps, options.rate, warm=max(1, options.steps // 20))
        images, depth, target, words = pictures.draw(np.random.default_rng((options.seed, step)), options.batch)
        afforded = torch.zeros(len(images), grid**2, dtype=torch.bool)
        if options.mask == "affordance":
            afforded = affordance_patches(target if afford is None else afford(images, words), grid, options.threshold)
        losses = model(images, depth, visible_patches(afforded, generator=torch.Generator().manual_seed(step)))
        optimizer.zero_grad(set_to_none=True)
        sum(WEIGHT[name] * value for name, value in losses.items()).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        for name, value in losses.items():
            running[name] = 0.98 * running.get(name, value.item()) + 0.02 * value.item()
        if (step + 1) % 50 == 0 or step + 1 == options.steps:
            report(step + 1, {name: round(value, 5) for name, value in running.items()})


@dataclass(frozen=True)
class Probed:
    """What a linear probe found on pictures never trained on: mean error of a patch's depth in mm, by picture `[N]`; the share of depth's
    variance that is explained; how far features are from another transformer's (mean absolute difference), by picture `[N]`."""

    depth_error_mm: Tensor
    depth_r2: float
    drift: Tensor | None = None

    def to_dict(self) -> dict[str, float]:
        found = {"depth_error_mm": round(self.depth_error_mm.mean().item(), 2), "depth_r2": round(self.depth_r2, 4)}
        return found if self.drift is None else found | {"drift": round(self.drift.mean().item(), 4)}


@torch.no_grad()
def probe(model: MaskedAutoencoder, learn: Pictures, exam: Pictures, original: nn.Module | None) -> Probed:
    """What the whole picture's patch features say of depth linearly, and how far they are from the `original`'s, if one is given."""
    model.eval()
    features, depths = [], []
    for pictures in (learn, exam):
        images, depth, _, _ = pictures.draw(np.random.default_rng(7), min(PROBE, len(pictures.arrays["words"])))  # each scene once
        encoded = torch.cat([model.encode(model.encoder, part, None) for part in images.split(50)])
        features.append(encoded)
        depths.append(F.adaptive_avg_pool2d(depth[:, None], model.encoder.grid.shape[0]).flatten(1))
    (x, x_exam), (y, y_exam) = ([F.pad(f, (0, 1), value=1.0).double() for f in features], [d.double() for d in depths])
    x, y = x.flatten(0, 1), y.flatten()
    weights = torch.linalg.solve(x.mT @ x + 1e-2 * torch.eye(x.shape[1], dtype=torch.double), x.mT @ y)
    wrong = x_exam @ weights - y_exam
    drift = None
    if original is not None:
        before = torch.cat([model.encode(original, part, None) for part in images.split(50)])
        drift = (features[1] - before).abs().mean(dim=(1, 2))
    return Probed(1000 * wrong.abs().mean(dim=1), 1 - (wrong.square().mean() / y_exam.var()).item(), drift)


def save(model: MaskedAutoencoder, start: str | None, out: Path) -> None:
    """The encoder with its adapters added in: a file for the embedded transformer, a folder for one of transformers."""
    weights = plain_weights(model.encoder)
    if pretrained.shipped(start) or start.startswith(pretrained.TIMM):
        out.parent.mkdir(parents=True, exist_ok=True)
        beside = out.with_name(f".{out.name}")
        save_file({name: tensor.half() for name, tensor in weights.items()}, beside)
        beside.replace(out)
        return
    bare = pretrained.build(start).model
    bare.load_state_dict(weights)
    bare.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path)
    parser.add_argument("--exam", type=Path, help="scenes never trained on, for the linear probe")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", default=Options.start, help="what to start from; null for random weights")
    parser.add_argument("--target", choices=("depth", "rgb", "rgbd"), default=Options.target)
    parser.add_argument("--mask", choices=("affordance", "random"), default=Options.mask)
    parser.add_argument("--no-distil", action="store_true")
    parser.add_argument("--tuning", choices=("lora", "full"), default=Options.tuning)
    parser.add_argument("--steps", type=int, default=Options.steps)
    parser.add_argument("--batch", type=int, default=Options.batch)
    parser.add_argument("--rate", type=float, default=Options.rate)
    parser.add_argument("--threshold", type=float, default=Options.threshold)
    parser.add_argument("--clip", help="a CLIP checkpoint that says where the words point")
    given = parser.parse_args()
    start = None if given.start == "null" else given.start
    options = Options(start, given.target, given.mask, not given.no_distil and start is not None, given.tuning, steps=given.steps,
                      batch=given.batch, rate=given.rate, threshold=0.5 if given.clip else given.threshold)
    torch.set_num_threads(1)
    model, size = make(options)
    pictures = Pictures(teaching.open_arrays(given.scenes, ARRAYS), size)
    began, console = time.monotonic(), Console()

    def report(step: int, losses: dict[str, float]) -> None:
        console.print_json(json.dumps({"step": step, "seconds": round(time.monotonic() - began), **losses}), indent=None)

    fit(model, pictures, options, report, _clip(given.clip) if given.clip else None)
    save(model, start, given.out)
    if given.exam is not None:
        found = probe(model, pictures, Pictures(teaching.open_arrays(given.exam, ARRAYS), size), model.original)
        console.print_json(json.dumps(found.to_dict()), indent=None)


def _clip(checkpoint: str) -> Callable[[Tensor, list[str]], Tensor]:
    clip, processor = load_clip(checkpoint)

    def afford(images: Tensor, words: list[str]) -> Tensor:
        inputs = processor(text=words, images=list(images), do_rescale=False, padding=True, truncation=True, return_tensors="pt")
        return clip_affordance(clip, inputs.pop("pixel_values"), dict(inputs))

    return afford


if __name__ == "__main__":
    main()
