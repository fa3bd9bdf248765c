"""Networks that estimate depth from one picture, through transformers' own classes.

    depth_anything_v2   Yang et al., arXiv 2406.09414; metres from checkpoints trained for them ("Metric-Indoor"), else relative
    zoedepth            Bhat et al., arXiv 2302.12288; metres
    dpt                 Ranftl et al., arXiv 2103.13413; relative

A relative network says a·(1/depth) + b with an a and b of its own for every picture; `perception.depth_plane` finds them. A checkpoint is a hub
repository (`HF_HUB_OFFLINE` is respected) or a local folder with `config.json`, `model.safetensors` and `preprocessor_config.json`.

Images in `float [B, V, 3, H, W]` in [0, 1], out `float [B, V, H, W]`, at least 0.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from robot_io import UserError

FILES = "config.json, model.safetensors and preprocessor_config.json"


@dataclass(frozen=True)
class Family:
    """How transformers calls it: the model type of its configuration, its classes, and a published checkpoint."""

    model_type: str
    model: str
    processor: str
    published: str


FAMILIES = {
    "depth_anything_v2": Family("depth_anything", "DepthAnythingForDepthEstimation", "DPTImageProcessor",
                                "depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf"),
    "zoedepth": Family("zoedepth", "ZoeDepthForDepthEstimation", "ZoeDepthImageProcessor", "Intel/zoedepth-nyu-kitti"),
    "dpt": Family("dpt", "DPTForDepthEstimation", "DPTImageProcessor", "Intel/dpt-large"),
}


class DepthNetwork(nn.Module):
    """Pictures to depth. Frozen, and kept out of the module tree: no policy folder carries it, only its digest.

    Attributes:
        metric: whether it gives metres; else inverse depth up to scale and shift.
    """

    def __init__(self, source: str, checkpoint: str | None, input_size: int | None) -> None:
        super().__init__()
        self.source, self.checkpoint = source, checkpoint or FAMILIES[source].published
        model, self.processor, self.metric = load_checkpoint(source, self.checkpoint)
        self._outside = (model,)
        self.size = None if input_size is None else {"height": input_size, "width": input_size}
        self._digest = digest(model)
        self.register_buffer("fingerprint", torch.tensor(list(self._digest), dtype=torch.uint8))

    def forward(self, images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v h w"]:
        """Raises `UserError` if the checkpoint is another than the policy was trained with."""
        if bytes(self.fingerprint.tolist()) != self._digest:
            raise UserError(f"depth checkpoint '{self.checkpoint}'", "its weights are not those the policy was trained with",
                            "the same checkpoint", "put the original back, or train again")
        batch, sizes = images.shape[0], [tuple(images.shape[-2:])] * (images.shape[0] * images.shape[1])
        inputs = self.processor(list(rearrange(images, "b v c h w -> (b v) c h w")), do_rescale=False, return_tensors="pt",
                                **({} if self.size is None else {"size": self.size}))
        with torch.no_grad():
            outputs = self._outside[0](inputs["pixel_values"].to(images.device))
        padded = {"source_sizes": sizes} if self.source == "zoedepth" else {}  # it pads pictures, and has to take that off again
        resized = self.processor.post_process_depth_estimation(outputs, target_sizes=sizes, **padded)
        depth = torch.stack([one["predicted_depth"] for one in resized]).clamp(min=0)
        return rearrange(depth, "(b v) h w -> b v h w", b=batch)

    def _apply(self, move: Any, recurse: bool = True) -> DepthNetwork:
        """So that `to(device)` also moves what is outside the tree."""
        self._outside[0]._apply(move, recurse)
        return super()._apply(move, recurse)


def load_checkpoint(source: str, checkpoint: str) -> tuple[nn.Module, Any, bool]:
    """Model, image processor, and whether it gives metres. Raises `UserError` saying which files to fetch, or that this is another
    model."""
    import transformers

    family = FAMILIES[source]
    fetch = f"run: hf download {family.published} --local-dir DIR, and set checkpoint: DIR"
    thing = f"depth checkpoint '{checkpoint}'"
    try:
        config = transformers.AutoConfig.from_pretrained(checkpoint)
        if config.model_type != family.model_type:
            raise UserError(thing, f"it holds a {config.model_type} model", f"a {family.model_type} model, for source: {source}", fetch)
        model, report = getattr(transformers, family.model).from_pretrained(
            checkpoint, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True)
        processor = getattr(transformers, family.processor).from_pretrained(checkpoint)
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(thing, f"cannot be loaded ({str(error).splitlines()[0]})", f"a folder or hub repository with {FILES}",
                        fetch) from error
    if wrong := [*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])]:
        raise UserError(thing, f"weights are missing or of another shape: {', '.join(sorted(wrong)[:3])}",
                        "the weights that its config.json describes", fetch)
    metric = source == "zoedepth" or getattr(config, "depth_estimation_type", "relative") == "metric"
    return model.eval().requires_grad_(False), processor, metric


def digest(model: nn.Module) -> bytes:
    """SHA-256 of all weights with their names."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.digest()
