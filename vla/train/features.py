"""Frozen perception, computed once per frame and kept: after that a training step costs only what is trained.

How far it can be computed ahead depends on what is frozen; `reach` says it:

    "features"   front-ends and the backbone's vision tower: a step costs fusion and head
    "images"     front-ends only, where there are any: a step costs the backbone and head

Of front-ends those before the first trained one are cached, if the rest is content with that (`FrontEnd.after_cache`).

The cache's key holds the digests of the data and of the frozen weights, so it is found again by every run and ablation cell
that shares them. Behind an augmenting front-end there are `train.cached_views` such caches, each of one augmentation of every frame, and
one without any, which is the same as without that front-end.

    features.npy            float [N, V, P, D]        what `Backbone.see` made of V views, P cells each
    images.npy              uint8 [N, V, 3, H, W]     what front-ends made of the pictures, if the tower is trained
    tokens.npy, token_mask.npy, text.json             what front-ends added, if they did
    maps.NAME.npy             float [N, ...]          what they made for trained ones
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from perception.percept import FrontEnd, Percept, perceive
from robot_io.registry import ComponentConfig
from vla.cache import cache_root, cached_folder, key_of, open_arrays, weights_digest
from vla.data import Demonstrations
from vla.frames import Frames, Track
from vla.policy import Policy
from vla.recipe import Recipe
from vla.seeds import mix
from vla.workers import parallel

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
    """Random access to cached percepts: in `views[0]` nothing is augmented, in the others everything is.

    Args:
        workers: processes that compute what is missing. With more than one, the policy must be `Policy.build`'s.
    """

    def __init__(self, policy: Policy, demonstrations: Demonstrations, track: Track, *, workers: int = 1) -> None:
        count = policy.recipe.train.cached_views if any(f.augments for f in policy.frozen_front_ends) else 0
        self.views = [View(policy, demonstrations, track, number, workers) for number in range(count + 1)]

    def draw(self, size: int, *seed: int) -> np.ndarray:
        """Which view each of `size` samples is seen in: any of the augmented ones, if there are any."""
        if len(self.views) == 1:
            return np.zeros(size, int)
        return np.random.default_rng(seed).integers(1, len(self.views), size)

    def percept(self, index: np.ndarray, device: torch.device, views: np.ndarray | None = None) -> Percept:
        """What was perceived in frames `index [B]`, each in its view of `views [B]`; as they are, if not told."""
        rows = np.zeros(len(index), int) if views is None else views
        tensors = {}
        for name, first in self.views[0].arrays.items():
            values = first[index] if not rows.any() else np.empty((len(index), *first.shape[1:]), first.dtype)
            for number in np.unique(rows) if rows.any() else ():
                values[rows == number] = self.views[number].arrays[name][index[rows == number]]
            tensors[name] = _restored(torch.from_numpy(values).to(device))
        maps = {name.removeprefix(MAPS): tensors.pop(name) for name in list(tensors) if name.startswith(MAPS)}
        text = [self.views[view].text[i] for i, view in zip(index, rows, strict=True)] if self.views[0].text else []
        return Percept(**tensors, maps=maps, text=text)


class View:
    """The percepts of all frames: `number` 0 without augmentation, others with the draws that belong to that number."""

    def __init__(self, policy: Policy, demonstrations: Demonstrations, track: Track, number: int, workers: int) -> None:
        recipe, how_far = policy.recipe, reach(policy)
        ahead = _ahead(policy, number)
        frozen: list[nn.Module] = [nn.ModuleList(front_end for _, front_end in ahead)]
        more: dict[str, Any] = {"view": number} if number else {}
        if how_far == "features":
            frozen.append(policy.plain_backbone.get_submodule(policy.plain_backbone.vision))
            more |= {"backbone": recipe.backbone.model_dump(mode="json")}
        key = f"{how_far}-" + key_of(
            data=demonstrations.digest, cameras=policy.cameras, dtype=recipe.train.feature_dtype, device=policy.device.type,
            perception=[config.model_dump(mode="json") for config, _ in ahead],
            weights=[weights_digest(module) for module in frozen], **more,
        )
        self.folder = cached_folder(cache_root(recipe.data.cache), key, lambda folder: _compute(
            policy, demonstrations, folder, track, number, workers), verify=recipe.data.verify)
        self.arrays = open_arrays(self.folder)
        text = self.folder / "text.json"
        self.text: list[str] = json.loads(text.read_text()) if text.exists() else []


Piece = tuple[dict[str, np.ndarray], list[str]]
"""Of some frames: what the cache holds, by the name of its file, and text."""


def _compute(policy: Policy, demonstrations: Demonstrations, folder: Path, track: Track, view: int, workers: int) -> None:
    frames = demonstrations.open_frames(track, depth=policy.needs_depth)
    starts = range(0, len(demonstrations.actions), FRAMES_AT_ONCE)
    if workers > 1:
        results = parallel(perceiver, (demonstrations.recipe.to_yaml(), policy.device.type, view), starts, workers=workers, noun="frame")
    else:
        results = ((start, _perceived(policy, demonstrations, frames, start, view)) for start in starts)
    stores: dict[str, np.ndarray] = {}
    texts: dict[int, list[str]] = {}
    for _ in track(starts, f"caching perception, view {view}" if view else "caching perception"):
        start, (arrays, texts[start]) = next(results)
        for name, values in arrays.items():
            if name not in stores:
                shape = (len(demonstrations.actions), *values.shape[1:])
                stores[name] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", values.dtype, shape)
            stores[name][start : start + len(values)] = values
    for store in stores.values():
        store.flush()
    if text := [words for start in starts for words in texts[start]]:
        (folder / "text.json").write_text(json.dumps(text))


def perceiver(recipe_yaml: str, device: str, view: int) -> Callable[[int], Piece]:
    """Runs in a worker: percepts of the frames from a given one on."""
    recipe = Recipe.from_dict(yaml.safe_load(recipe_yaml))
    demonstrations = Demonstrations(recipe)
    policy = Policy.build(recipe, demonstrations.spec, demonstrations.normalizer()).to(device)
    frames = demonstrations.open_frames(lambda items, _: items, depth=policy.needs_depth)
    return lambda start: _perceived(policy, demonstrations, frames, start, view)


@torch.no_grad()
def _perceived(policy: Policy, demonstrations: Demonstrations, frames: Frames, start: int, view: int) -> Piece:
    index = np.arange(start, min(start + FRAMES_AT_ONCE, len(demonstrations.actions)))
    batch = frames.add_to(demonstrations.columns(index, policy.device).batch, index)
    sees, front_ends = reach(policy) == "features", [front_end for _, front_end in _ahead(policy, view)]
    policy.eval()
    for front_end in front_ends:
        front_end.train(front_end.augments)
    with torch.random.fork_rng([policy.device] if policy.device.type == "cuda" else []):
        torch.manual_seed(mix(view, start))
        percept = perceive(front_ends, batch)
    if sees and percept.images is not None:
        percept = policy.backbone.see(percept)
    dtype = np.dtype(policy.recipe.train.feature_dtype)
    return {name: _storable(name, values, dtype) for name, values in _kept(percept, sees).items()}, list(percept.text)


def _ahead(policy: Policy, view: int) -> list[tuple[ComponentConfig, FrontEnd]]:
    """Those that are computed ahead, and their configurations; view 0 is not augmented."""
    pairs = zip(policy.recipe.perception, policy.frozen_front_ends, strict=False)
    return [(config, front_end) for config, front_end in pairs if view or not front_end.augments]


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
