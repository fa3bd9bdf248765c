"""Depth for every view, from the sensor or from a network: fills `Percept.depth`, which later front-ends read.

The network is Depth Anything V2 in its metric form (Yang et al., arXiv 2406.09414), as OBEYED-VLA uses it (arXiv
2512.22519, ViT-L trained on Hypersim, pictures of 518 pixels), through transformers. Its checkpoint is a hub
repository (`HF_HUB_OFFLINE` is respected) or a local folder with `config.json`, `model.safetensors` and
`preprocessor_config.json`. A policy folder holds the checkpoint's SHA-256, not the checkpoint; another one is
refused.

Images in `float [B, V, 3, H, W]` in [0, 1], out `Percept.depth float [B, V, H, W]` in metres, 0 where unknown.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from perception.lifting import known, sensor_depth
from perception.percept import Batch, FrontEnd, Percept
from robot_io import UserError
from robot_io.registry import ComponentConfig

PUBLISHED = "depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf"
FILES = "config.json, model.safetensors and preprocessor_config.json"


class Depth(FrontEnd):
    """See the module's text."""

    class Config(ComponentConfig):
        kind: Literal["depth"] = "depth"
        source: Literal["sensor", "depth_anything_v2"] = "sensor"
        keep_sensor: bool = Field(False, description="estimate only for cameras without depth of their own")
        checkpoint: str = Field(PUBLISHED, description="metric Depth Anything V2: a folder or a hub repository")
        input_size: int | None = Field(None, ge=14, description="pixels that the network sees; null for the checkpoint's 518. "
                                       "Smaller is faster and coarser")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.needs_depth = config.source == "sensor"
        self.estimates_depth = not self.needs_depth
        self.estimator = None if self.needs_depth else DepthAnything(config.checkpoint, config.input_size)

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        if self.estimator is None:
            depth = sensor_depth(observations, "depth")
        elif self.config.keep_sensor:
            depth = self._fill(observations)
        else:
            depth = self.estimator(pictures(observations, observations.cameras))
        return percept.replace(depth=depth, evidence={**percept.evidence, "depth/depth": depth})

    def _fill(self, batch: Batch) -> Float[Tensor, "b v h w"]:
        found = {name: torch.where(known(depth), depth.float(), 0) for name, depth in batch.depth.items()}
        if lacking := [name for name in batch.cameras if name not in found]:
            found |= zip(lacking, self.estimator(pictures(batch, lacking)).unbind(1), strict=True)
        return torch.stack([found[name] for name in batch.cameras], 1)


class DepthAnything(nn.Module):
    """Depth Anything V2, metric: pictures to metres. Frozen, and kept out of the module tree: no policy folder carries it."""

    def __init__(self, checkpoint: str, input_size: int | None) -> None:
        super().__init__()
        model, self.processor = load_checkpoint(checkpoint)
        self._outside = (model,)
        self.size = None if input_size is None else {"height": input_size, "width": input_size}
        self.checkpoint, self._digest = checkpoint, digest(model)
        self.register_buffer("fingerprint", torch.tensor(list(self._digest), dtype=torch.uint8))

    def forward(self, images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v h w"]:
        if bytes(self.fingerprint.tolist()) != self._digest:
            raise UserError(f"depth checkpoint '{self.checkpoint}'", "its weights are not those the policy was trained with",
                            "the same checkpoint", "put the original back, or train again")
        batch = images.shape[0]
        inputs = self.processor(list(rearrange(images, "b v c h w -> (b v) c h w")), do_rescale=False, return_tensors="pt",
                                **({} if self.size is None else {"size": self.size}))
        with torch.no_grad():
            outputs = self._outside[0](inputs["pixel_values"].to(images.device))
        resized = self.processor.post_process_depth_estimation(outputs, [tuple(images.shape[-2:])] * len(outputs.predicted_depth))
        depth = torch.stack([one["predicted_depth"] for one in resized]).clamp(min=0)
        return rearrange(depth, "(b v) h w -> b v h w", b=batch)

    def _apply(self, move: Any, recurse: bool = True) -> DepthAnything:
        """So that `to(device)` also moves what is outside the tree."""
        self._outside[0]._apply(move, recurse)
        return super()._apply(move, recurse)


def pictures(batch: Batch, cameras: Any) -> Float[Tensor, "b v 3 h w"]:
    """The cameras' own pictures in [0, 1], whatever front-ends before made of them."""
    return torch.stack([batch.rgb[name] for name in cameras], 1).permute(0, 1, 4, 2, 3).float() / 255


def load_checkpoint(checkpoint: str) -> tuple[nn.Module, Any]:
    """Model and image processor. Raises `UserError` saying which files to fetch, or that this is another model."""
    from transformers import AutoConfig, DepthAnythingForDepthEstimation, DPTImageProcessor

    fetch = f"run: hf download {PUBLISHED} --local-dir DIR, and set checkpoint: DIR"
    thing = f"depth checkpoint '{checkpoint}'"
    try:
        config = AutoConfig.from_pretrained(checkpoint)
        if config.model_type != "depth_anything" or config.depth_estimation_type != "metric":
            kind = getattr(config, "depth_estimation_type", "")
            raise UserError(thing, f"it holds a {kind} {config.model_type} model".replace("  ", " "),
                            "Depth Anything V2 trained for metric depth", fetch)
        model, report = DepthAnythingForDepthEstimation.from_pretrained(
            checkpoint, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True)
        processor = DPTImageProcessor.from_pretrained(checkpoint)
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(thing, f"cannot be loaded ({str(error).splitlines()[0]})", f"a folder or hub repository with {FILES}",
                        fetch) from error
    if wrong := [*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])]:
        raise UserError(thing, f"weights are missing or of another shape: {', '.join(sorted(wrong)[:3])}",
                        "the weights that its config.json describes", fetch)
    return model.eval().requires_grad_(False), processor


def digest(model: nn.Module) -> bytes:
    """SHA-256 of all weights with their names."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.digest()
