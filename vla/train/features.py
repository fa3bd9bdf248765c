"""Frozen perception, computed once per frame and kept: after that a training step costs only fusion and head.

Possible when every front-end is frozen and so is the backbone's vision tower; `obstacle` says what stands in the way. The
cache's key holds the digests of the data and of the frozen weights, so it is found again by every run and ablation cell that
shares them.

    features.npy     float [N, V, P, D]   what `Backbone.see` made of V views, P cells each
    tokens.npy, token_mask.npy, text.json   what front-ends added, if they did
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from perception.percept import Percept
from vla.cache import cache_root, cached_folder, key_of, open_arrays, weights_digest
from vla.data import Demonstrations
from vla.frames import Track
from vla.policy import Policy

FRAMES_AT_ONCE = 64


def obstacle(policy: Policy) -> str | None:
    """Why perception cannot be cached for this policy; None if it can."""
    for config, front_end in zip(policy.recipe.perception, policy.front_ends, strict=True):
        if not front_end.frozen:
            return f"front-end '{config.kind}' is not frozen"
    backbone = policy.plain_backbone
    if not backbone.vision:
        return f"backbone '{policy.recipe.backbone.kind}' has no vision tower of its own"
    if any(parameter.requires_grad for parameter in backbone.get_submodule(backbone.vision).parameters()):
        return f"the vision tower is trained (tuning.vision is '{policy.recipe.tuning.vision}')"
    return None


class Features:
    """Random access to cached percepts."""

    def __init__(self, policy: Policy, demonstrations: Demonstrations, track: Track) -> None:
        recipe, vision = policy.recipe, policy.plain_backbone.get_submodule(policy.plain_backbone.vision)
        key = "features-" + key_of(
            data=demonstrations.digest, cameras=policy.cameras, dtype=recipe.train.feature_dtype, device=policy.device.type,
            perception=[config.model_dump(mode="json") for config in recipe.perception],
            weights=[weights_digest(module) for module in (policy.front_ends, vision)],
            backbone=recipe.backbone.model_dump(mode="json"),
        )
        folder = cached_folder(cache_root(recipe.data.cache), key, lambda folder: _compute(policy, demonstrations, folder, track))
        self.arrays = open_arrays(folder)
        text = folder / "text.json"
        self.text: list[str] = json.loads(text.read_text()) if text.exists() else []

    def percept(self, index: np.ndarray, device: torch.device) -> Percept:
        """What was perceived in frames `index [B]`."""
        tensors = {name: torch.from_numpy(array[index]).to(device) for name, array in self.arrays.items()}
        return Percept(**{name: tensor if tensor.dtype == torch.bool else tensor.float() for name, tensor in tensors.items()},
                       text=[self.text[i] for i in index] if self.text else [])


@torch.no_grad()
def _compute(policy: Policy, demonstrations: Demonstrations, folder: Path, track: Track) -> None:
    frames = demonstrations.open_frames(track)
    policy.eval()
    total, stores, text = len(demonstrations.actions), {}, []
    dtype = np.dtype(policy.recipe.train.feature_dtype)
    for start in track(range(0, total, FRAMES_AT_ONCE), "caching perception"):
        index = np.arange(start, min(start + FRAMES_AT_ONCE, total))
        batch = frames.add_to(demonstrations.columns(index, policy.device).batch, index)
        percept = policy.backbone.see(policy.perceive(batch))
        text += percept.text
        for name in ("features", "tokens", "token_mask"):
            values: Tensor | None = getattr(percept, name)
            if values is None:
                continue
            if name not in stores:
                kept = np.bool_ if values.dtype == torch.bool else dtype
                stores[name] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kept, (total, *values.shape[1:]))
            stores[name][index] = values.cpu().numpy()
    for store in stores.values():
        store.flush()
    if text:
        (folder / "text.json").write_text(json.dumps(text))
