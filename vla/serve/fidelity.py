"""How far a quantised policy is from the one it came from: its actions on held-out frames, its time, and which blocks suffer.

Both policies see the same frames and draw the same noise, so every difference is the rounding's. Errors are in the robot's own units; as one
number, the root mean square of what each dimension is off, in shares of its range.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from perception.percept import Batch
from robot_io import ActionSpec, UserError
from vla.data import Demonstrations, rows
from vla.policy import Policy
from vla.recipe import Recipe
from vla.serve.quantize import LINEAR, Layer, layer_bytes, layers, replaced

SEED = 0
BLOCK_FORMATS = ("bf16", "int8", "int4", "nf4")


def held_out(policy: Policy, count: int, root: Path | None = None) -> list[Batch]:
    """`count` frames of the episodes that training held out, evenly spread, in batches of 8.

    Args:
        root: the data set, where it is not where the recipe says.
    """
    recipe = policy.recipe
    if root is not None:
        recipe = Recipe.from_dict(recipe.to_dict() | {"data": recipe.to_dict()["data"] | {"root": str(root)}})
    data = Demonstrations(recipe)
    frames = data.validation if len(data.validation) else data.training
    index = frames[np.linspace(0, len(frames) - 1, min(count, len(frames))).astype(int)]
    pictures = data.open_frames(lambda items, _: items, depth=policy.needs_depth)
    parts = np.array_split(index, max(1, len(index) // 8))
    return [pictures.add_to(data.columns(part, policy.device).batch, part) for part in parts]


def chunks(policy: Policy, batches: Iterable[Batch]) -> Float[np.ndarray, "n t a"]:
    """What the policy does there, always with the same noise."""
    found = []
    with torch.inference_mode(), _seeded(policy.device):
        for batch in batches:
            found.append(policy.sample(batch)[:, 0].float().cpu().numpy())
    return np.concatenate(found)


def mean_error(a: Float[np.ndarray, "n t a"], b: Float[np.ndarray, "n t a"]) -> Float[np.ndarray, " a"]:
    """Mean absolute difference of each action dimension, in its unit."""
    return np.abs(a - b).mean((0, 1))


def relative_error(a: Float[np.ndarray, "n t a"], b: Float[np.ndarray, "n t a"], spec: ActionSpec) -> float:
    """Root mean square over everything, each dimension in shares of its range."""
    reach = np.maximum(np.array(spec.high) - np.array(spec.low), 1e-9)
    return float(np.sqrt(np.mean(np.square((a - b) / reach))))


@dataclass(frozen=True)
class Latency:
    """Of one observation, milliseconds: by the clock, and computed by this thread (which does not depend on other programs)."""

    p50: float
    p99: float
    cpu: float


def latency(policies: dict[str, Policy], batch: Batch, repeats: int = 60) -> dict[str, Latency]:
    """The policies take turns, so that a busy machine is busy for all of them."""
    one = _first(batch)
    clock: dict[str, list[tuple[float, float]]] = {name: [] for name in policies}
    for repeat in range(repeats + 3):
        for name, policy in policies.items():
            began, cpu = time.perf_counter(), time.process_time()
            chunks(policy, [one])
            if repeat >= 3:
                clock[name].append((1e3 * (time.perf_counter() - began), 1e3 * (time.process_time() - cpu)))
    return {name: Latency(*np.percentile([wall for wall, _ in times], (50, 99)).tolist(), float(np.median([cpu for _, cpu in times])))
            for name, times in clock.items()}


@dataclass(frozen=True)
class Option:
    """One block in one format.

    Attributes:
        error: `relative_error` with this block alone in this format.
        milliseconds: that its layers take for one observation.
    """

    block: str
    format: str
    bytes: int
    milliseconds: float
    error: float


def options(policy: Policy, batches: list[Batch], formats: Iterable[str] = BLOCK_FORMATS) -> Iterator[Option]:
    """Every block that can have one of the formats, in full precision and in each, one after the other; `policy` is as before in the end.

    Raises:
        UserError: an unknown format.
    """
    for how in (formats := list(formats)):
        if how not in LINEAR:
            raise UserError(f"format '{how}'", "not known", ", ".join(LINEAR), "choose among these")
    full, seen = chunks(policy, batches), _inputs(policy, _first(batches[0]))
    blocks: dict[str, list[Layer]] = {}
    for layer in layers(policy):
        if not set(formats).isdisjoint(layer.formats):
            blocks.setdefault(layer.block, []).append(layer)
    for block, inside in blocks.items():
        names = [layer.name for layer in inside]
        yield Option(block, "full", *_cost(policy, names, seen), 0.0)
        for how in formats:
            if not (takers := [layer.name for layer in inside if how in layer.formats]):
                continue
            with replaced(policy, dict.fromkeys(takers, how)):
                error = relative_error(chunks(policy, batches), full, policy.spec.action)
                yield Option(block, how, *_cost(policy, names, seen), error)


def search(found: Iterable[Option], budget: float, cost: str) -> dict[str, str]:
    """A format for every block, so that their costs fit the budget and the actions move least.

    Squared errors are taken to add up, as those of independent roundings do. Starting from full precision, always the change that costs
    the least error for what it saves is made (the knapsack's greedy solution on each block's convex hull).

    Args:
        cost: `bytes` or `milliseconds`, of all the blocks together.

    Raises:
        UserError: not even the cheapest formats fit.
    """
    table: dict[str, list[Option]] = {}
    for option in found:
        table.setdefault(option.block, []).append(option)
    chosen = {block: min(choices, key=lambda option: (option.error, getattr(option, cost))) for block, choices in table.items()}

    def total() -> float:
        return sum(getattr(option, cost) for option in chosen.values())

    while total() > budget:
        steps = [(max(other.error**2 - chosen[block].error**2, 0.0) / saved, -saved, block, other)
                 for block, choices in table.items() for other in choices
                 if (saved := getattr(chosen[block], cost) - getattr(other, cost)) > 0]
        if not steps:
            raise UserError(f"budget of {budget:g} {cost}", f"the layers take {total():g} at least", "a budget that the formats can reach",
                            "raise the budget, or allow formats of fewer bits")
        _, _, block, other = min(steps, key=lambda step: step[:3])
        chosen[block] = other
    return {block: option.format for block, option in chosen.items()}


def _cost(policy: Policy, names: list[str], seen: dict[str, list[Tensor]]) -> tuple[int, float]:
    """Bytes and milliseconds of those layers, at the inputs they were seen with."""
    total, milliseconds = 0, 0.0
    with torch.inference_mode():
        for name in names:
            layer = policy.get_submodule(name)
            total += layer_bytes(layer)
            for x in seen.get(name, ()):
                times = []
                for _ in range(4):
                    began = time.process_time()
                    layer(x)
                    times.append(time.process_time() - began)
                milliseconds += 1e3 * min(times[1:])
    return total, milliseconds


def _inputs(policy: Policy, batch: Batch) -> dict[str, list[Tensor]]:
    """What each layer is given while the policy acts once."""
    seen: dict[str, list[Tensor]] = {}

    def note(name: str) -> Any:
        return lambda module, given: seen.setdefault(name, []).append(given[0].detach())

    hooks = [policy.get_submodule(layer.name).register_forward_pre_hook(note(layer.name)) for layer in layers(policy)]
    try:
        chunks(policy, [batch])
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _first(batch: Batch) -> Batch:
    """Its first observation alone."""
    return rows(batch, slice(0, 1))


@contextmanager
def _seeded(device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(SEED)
        yield
