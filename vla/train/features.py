"""Frozen perception, computed once per frame and kept: after that a training step costs only what is trained.

How far it can be computed ahead depends on what is frozen; `reach` says it:

    "features"   front-ends and the backbone's vision tower: a step costs fusion and head
    "images"     front-ends only, where there are any: a step costs the backbone and head

Of front-ends those before the first trained one are cached, if the rest is content with that (`FrontEnd.after_cache`).

The cache's key holds the digests of the data and of the frozen weights, so it is found again by every run and ablation cell
that shares them.

    features.npy            float [N, V, P, D]        what `Backbone.see` made of V views, P cells each
    images.npy              uint8 [N, V, 3, H, W]     what front-ends made of the pictures, if the tower is trained
    tokens.npy, token_mask.npy, text.json             what front-ends added, if they did
    maps.NAME.npy             float [N, ...]          what they made for trained ones
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from perception.percept import Percept, perceive
from vla.cache import cache_root, cached_folder, key_of, open_arrays, weights_digest
from vla.data import Demonstrations
from vla.frames import Track
from vla.policy import Policy

FRAMES_AT_ONCE = 64
MAPS = "maps."

Reach = Literal["features", "images"]


def reach(policy: Policy) -> Reach | None:
    """How far perception can be cached for this policy; None if caching gains nothing."""
    if not all(front_end.after_cache for front_end in policy.trained_front_ends):
        return None
    if obstacle(policy) is None:
        return "features"
    return "images" if policy.frozen_front_ends else None


def obstacle(policy: Policy) -> str | None:
    """Why features cannot be cached for this policy; None if they can."""
    first = len(policy.frozen_front_ends)
    for config, front_end in zip(policy.recipe.perception[first:], policy.trained_front_ends, strict=True):
        if not front_end.after_cache:
            return f"front-end '{config.kind}' " + ("comes after a trained one" if front_end.frozen else "is not frozen")
    backbone = policy.plain_backbone
    if not backbone.vision:
        return f"backbone '{policy.recipe.backbone.kind}' has no vision tower of its own"
    if any(parameter.requires_grad for parameter in backbone.get_submodule(backbone.vision).parameters()):
        return f"the vision tower is trained (tuning.vision is '{policy.recipe.tuning.vision}')"
    return None


class Features:
    """Random access to cached percepts."""

    def __init__(self, policy: Policy, demonstrations: Demonstrations, track: Track) -> None:
        recipe, how_far = policy.recipe, reach(policy)
        front_ends = policy.frozen_front_ends
        frozen: list[nn.Module] = [nn.ModuleList(front_ends)]
        sees = {}
        if how_far == "features":
            frozen.append(policy.plain_backbone.get_submodule(policy.plain_backbone.vision))
            sees = {"backbone": recipe.backbone.model_dump(mode="json")}
        key = f"{how_far}-" + key_of(
            data=demonstrations.digest, cameras=policy.cameras, dtype=recipe.train.feature_dtype, device=policy.device.type,
            perception=[config.model_dump(mode="json") for config in recipe.perception[: len(front_ends)]],
            weights=[weights_digest(module) for module in frozen], **sees,
        )
        folder = cached_folder(cache_root(recipe.data.cache), key, lambda folder: _compute(policy, demonstrations, folder, track))
        self.arrays = open_arrays(folder)
        text = folder / "text.json"
        self.text: list[str] = json.loads(text.read_text()) if text.exists() else []

    def percept(self, index: np.ndarray, device: torch.device) -> Percept:
        """What was perceived in frames `index [B]`."""
        tensors = {name: _restored(torch.from_numpy(array[index]).to(device)) for name, array in self.arrays.items()}
        maps = {name.removeprefix(MAPS): tensors.pop(name) for name in list(tensors) if name.startswith(MAPS)}
        return Percept(**tensors, maps=maps, text=[self.text[i] for i in index] if self.text else [])


@torch.no_grad()
def _compute(policy: Policy, demonstrations: Demonstrations, folder: Path, track: Track) -> None:
    frames = demonstrations.open_frames(track, depth=policy.needs_depth)
    policy.eval()
    sees = reach(policy) == "features"
    total, stores, text = len(demonstrations.actions), {}, []
    for start in track(range(0, total, FRAMES_AT_ONCE), "caching perception"):
        index = np.arange(start, min(start + FRAMES_AT_ONCE, total))
        batch = frames.add_to(demonstrations.columns(index, policy.device).batch, index)
        percept = perceive(policy.frozen_front_ends, batch)
        if sees and percept.images is not None:
            percept = policy.backbone.see(percept)
        text += percept.text
        for name, values in _kept(percept, sees).items():
            stored = _storable(name, values, np.dtype(policy.recipe.train.feature_dtype))
            if name not in stores:
                stores[name] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", stored.dtype, (total, *stored.shape[1:]))
            stores[name][index] = stored
    for store in stores.values():
        store.flush()
    if text:
        (folder / "text.json").write_text(json.dumps(text))


def _kept(percept: Percept, sees: bool) -> dict[str, Tensor]:
    """What of a percept the cache holds, by the name of its file."""
    kept = {name: getattr(percept, name) for name in ("features" if sees else "images", "tokens", "token_mask")}
    kept |= {f"{MAPS}{name}": values for name, values in percept.maps.items()}
    return {name: values for name, values in kept.items() if values is not None}


def _storable(name: str, values: Tensor, dtype: np.dtype) -> np.ndarray:
    """Pictures in 8 bits, as cameras give them; masks as they are; the rest in the recipe's `feature_dtype`."""
    if name == "images":
        return (values * 255).round().clamp(0, 255).byte().cpu().numpy()
    array = values.cpu().numpy()
    return array if array.dtype == np.bool_ else array.astype(dtype)


def _restored(tensor: Tensor) -> Tensor:
    if tensor.dtype == torch.uint8:
        return tensor.float() / 255
    return tensor if tensor.dtype == torch.bool else tensor.float()
