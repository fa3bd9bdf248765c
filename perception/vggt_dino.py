"""What VO-DP (arXiv 2510.15530, sec. III) sees: semantic tokens of DINOv2 and geometric tokens of VGGT, from pictures alone. Frozen.

    pictures ──eye────────▶ semantic   what is where: patches of DINOv2, or of VGGT's own patch embedding (`semantics: own`, as in the paper)
             ──aggregator─▶ geometric  how far and how it fits together: patches of VGGT's last layer, all views together

A `fuser` after it, which is trained with the policy, makes tokens of them; training caches what is made here. With one of the two off
(null) the ablations of the paper are the same front-end. Both are averaged down to `dim` channels without parameters, the two halves of the
geometric ones (within frames, across frames) apart, as the paper does. Defaults are the small networks shipped here, described in
`perception/vggt/weights/README.md`. Published ones:

    {kind: vggt_dino, geometry: checkpoints/VGGT-1B, semantics: own, dim: 1024}
    {kind: vggt_dino, geometry: null, semantics: facebook/dinov2-with-registers-large, dim: 1024}

Images in `float [B, V, 3, H, W]` in [0, 1]; out `Percept.maps` "semantic" and "geometric" `[B, V, dim, h, w]`, h×w patches.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from perception.grounding.published import Published, load_model
from perception.percept import Batch, FrontEnd, Percept
from perception.vggt.aggregator import normalised
from perception.vggt.checkpoint import load_eye, load_vggt, shipped
from perception.vggt.model import Vggt, fitted
from robot_io import UserError
from robot_io.registry import ComponentConfig

OWN = "own"
PUBLISHED_EYE = "facebook/dinov2-with-registers-large"
SEMANTIC, GEOMETRIC = "semantic", "geometric"


class VggtDino(FrontEnd):
    """See the module's text."""

    class Config(ComponentConfig):
        kind: Literal["vggt_dino"] = "vggt_dino"
        geometry: str | None = Field("tabletop", description="VGGT: shipped weights by name, a folder, a hub repository, or null for none")
        semantics: str | None = Field("tabletop", description="DINOv2: likewise; `own` for VGGT's own patch embedding")
        dim: int = Field(64, ge=4, multiple_of=4, description="channels of both maps; 1024 for the published networks")
        width: int | None = Field(None, ge=14, description="pixels across that the networks see; null for the pictures' own, but no more "
                                  "than they were trained at")
        pictures: bool = Field(False, description="the policy sees the pictures too, not only what is made of them")
        depth: bool = Field(False, description="also fill in depth as VGGT estimates it")
        metres: float = Field(1.0, gt=0, description="metres per unit of VGGT's depth: 1 for the small one; the published one has no scale")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.hides_pictures, self.estimates_depth = not config.pictures, config.depth
        if config.geometry is None and (config.semantics in (None, OWN) or config.depth):
            found = "null, and depth is VGGT's" if config.depth else "null, and nothing is left to look with"
            raise UserError("vggt_dino.geometry", found, "weights of VGGT, or semantics of an eye", "name weights, such as geometry: tabletop")
        self.geometry = None if config.geometry is None else Published(load_vggt(config.geometry, "vggt_dino.geometry"))
        self.eye = None if config.semantics in (None, OWN) else Published(Eye.open(config.semantics))
        for name, part in (("geometry", self.geometry), ("eye", self.eye)):
            digest = [] if part is None else list(fingerprint(part.model))
            self.register_buffer(f"{name}_fingerprint", torch.tensor(digest, dtype=torch.uint8))
        self._digests = {name: getattr(self, f"{name}_fingerprint").clone() for name in ("geometry", "eye")}

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        """Raises `UserError`: weights other than those that a saved policy was trained with."""
        self._check_weights()
        maps, depth = {}, percept.depth
        with torch.no_grad():
            if self.geometry is not None:
                semantic, geometric, found = self._geometry(percept.images)
                maps[GEOMETRIC] = torch.cat([averaged(half, self.config.dim // 2) for half in geometric.chunk(2, 2)], 2)
                depth = depth if found is None else found
                if self.config.semantics == OWN:
                    maps[SEMANTIC] = averaged(semantic, self.config.dim)
            if self.eye is not None:
                maps[SEMANTIC] = averaged(self._eye(percept.images), self.config.dim)
        evidence = {} if depth is percept.depth else {"vggt_dino/depth": depth}
        return percept.replace(images=percept.images if self.config.pictures else None, depth=depth, maps={**percept.maps, **maps},
                               evidence={**percept.evidence, **evidence})

    def _geometry(self, images: Float[Tensor, "b v 3 h w"]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Maps `[B, V, D, h, w]` of the patch embedding and `[B, V, 2D, h, w]` of the aggregator; depth at the pictures' size, if asked for."""
        vggt: Vggt = self.geometry.model
        pictures = fitted(images, self._width(images, vggt.sizes.image_size), vggt.sizes.patch)
        rows = pictures.shape[-2] // vggt.sizes.patch
        layers = (*vggt.sizes.depth_layers, -1) if self.config.depth else (-1,)
        patches, (*layers, last) = vggt.aggregator(pictures, layers)
        depth = None
        if self.config.depth:
            depth, _ = vggt.depth_of(layers, pictures.shape[-2:])
            depth = F.interpolate(depth, images.shape[-2:], mode="bilinear", align_corners=False) * self.config.metres
        last = last[:, :, vggt.aggregator.first_patch:]
        semantic, geometric = (rearrange(tokens, "b v (h w) d -> b v d h w", h=rows) for tokens in (patches, last))
        return semantic, geometric, depth

    def _eye(self, images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v d h w"]:
        eye: Eye = self.eye.model
        return eye(fitted(images, self._width(images, eye.image_size), eye.patch))

    def _width(self, images: Tensor, trained: int) -> int:
        return self.config.width or min(trained, images.shape[-1])

    def _check_weights(self) -> None:
        for name, digest in self._digests.items():
            if not torch.equal(getattr(self, f"{name}_fingerprint").cpu(), digest):
                source = self.config.geometry if name == "geometry" else self.config.semantics
                raise UserError(f"vggt_dino weights '{source}'", "they are not those the policy was trained with", "the same weights",
                                "put the original back, or train again")


class Eye(nn.Module):
    """DINOv2: pictures → a grid of its normalised patch tokens.

    Args:
        first: number of tokens before the patches in what a transformers model puts out; None for ours, which puts out patches.
    """

    def __init__(self, model: nn.Module, patch: int, image_size: int, first: int | None) -> None:
        super().__init__()
        self.model, self.patch, self.image_size, self.first = model, patch, image_size, first

    @classmethod
    def open(cls, source: str) -> Eye:
        """Ours by name or file, a published one through transformers. Raises `UserError` for anything else."""
        thing = "vggt_dino.semantics"
        if shipped(source, "eye") is not None or source.endswith(".safetensors"):
            ours = load_eye(source, thing)
            return cls(ours, ours.patch, ours.grid * ours.patch, None)
        from transformers import Dinov2Model, Dinov2WithRegistersModel

        kinds = {"dinov2": Dinov2Model, "dinov2_with_registers": Dinov2WithRegistersModel}
        theirs = load_model(_Either(kinds), source, thing, PUBLISHED_EYE)
        return cls(theirs, theirs.config.patch_size, theirs.config.image_size, 1 + getattr(theirs.config, "num_register_tokens", 0))

    def forward(self, images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v d h2 w2"]:
        batch, rows = images.shape[0], images.shape[-2] // self.patch
        seen = self.model(normalised(rearrange(images, "b v c h w -> (b v) c h w")))
        tokens = seen if self.first is None else seen.last_hidden_state[:, self.first:]
        return rearrange(tokens, "(b v) (h w) d -> b v d h w", b=batch, h=rows)


class _Either:
    """Whichever of several transformers classes a checkpoint's `config.json` names."""

    def __init__(self, kinds: dict[str, Any]) -> None:
        self.kinds = kinds

    def from_pretrained(self, source: str, **options: Any) -> Any:
        from transformers import AutoConfig

        kind = AutoConfig.from_pretrained(source).model_type
        if kind not in self.kinds:
            raise ValueError(f"it is a '{kind}' checkpoint, not one of {', '.join(self.kinds)}")
        return self.kinds[kind].from_pretrained(source, **options)


def averaged(maps: Float[Tensor, "b v d h w"], dim: int) -> Float[Tensor, "b v d2 h w"]:
    """Fewer channels, each the mean of neighbouring ones."""
    if maps.shape[2] == dim:
        return maps
    cells = maps.movedim(2, -1)  # [B, V, h, w, D]
    return F.adaptive_avg_pool1d(cells.flatten(0, 2), dim).unflatten(0, cells.shape[:3]).movedim(-1, 2)


def fingerprint(model: nn.Module) -> bytes:
    """SHA-256 of all weights with their names."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.digest()
