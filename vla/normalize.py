"""The one place where numbers are scaled: robot units ↔ the roughly [-1, 1] that networks like.

Statistics are measured on the training data, once, and travel inside the policy folder as `stats.safetensors`; nobody passes
them by hand. Every mode is an affine map, one centre and one spread per dimension:

    quantile   q01 → -1, q99 → 1     actions: a few wild samples do not squeeze the rest (Pertsch et al., FAST, arXiv 2501.09747)
    minmax     min → -1, max → 1     grippers and absolute targets, whose extremes are meant
    mean_std   mean → 0, std → 1     state

A dimension that never changes has spread 0: it becomes 0 and comes back as its constant. A missing statistic is an error,
never an identity.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from robot_io import ActionSpec, RobotSpec, UserError

Mode = Literal["quantile", "minmax", "mean_std"]
NEEDED = {"quantile": ("q01", "q99", "min", "max"), "minmax": ("min", "max"), "mean_std": ("mean", "std", "min", "max")}


@dataclass(frozen=True)
class Statistics:
    """What was measured of one column: `values[name]` is `float32 [D]`, name in mean, std, min, max, q01, q99."""

    values: dict[str, Float[np.ndarray, " d"]]
    names: tuple[str, ...]

    @classmethod
    def measure(cls, column: Float[np.ndarray, "n d"], names: tuple[str, ...], what: str) -> Statistics:
        """Exact statistics of a whole column.

        Raises:
            UserError: no rows, a wrong number of dimensions, NaN or infinite values.
        """
        if column.ndim != 2 or column.shape[1] != len(names) or not len(column):
            raise UserError(what, f"an array {column.shape}", f"[frames, {len(names)}] ({', '.join(names)})",
                            "record the data with the specification they claim")
        if not np.isfinite(column).all():
            row, dim = np.argwhere(~np.isfinite(column))[0]
            raise UserError(what, f"NaN or infinite '{names[dim]}' in frame {row}", "finite numbers",
                            "remove or repair that episode")
        exact = column.astype(np.float64)
        q01, q99 = np.quantile(exact, [0.01, 0.99], axis=0)
        values = {"mean": exact.mean(0), "std": exact.std(0), "min": exact.min(0), "max": exact.max(0), "q01": q01, "q99": q99}
        return cls({name: value.astype(np.float32) for name, value in values.items()}, names)

    def require(self, name: str, what: str) -> Float[np.ndarray, " d"]:
        if name not in self.values:
            raise UserError(f"statistics of the {what}", f"'{name}' is missing; there are {', '.join(self.values) or 'none'}",
                            f"{', '.join(NEEDED)} need theirs", "measure them again from the training data")
        return self.values[name]


class Affine(nn.Module):
    """`(x - centre) / spread` and back, per dimension, for `float [..., D]`. Spread 0 marks a constant dimension."""

    def __init__(self, statistics: Statistics, modes: tuple[Mode, ...], what: str) -> None:
        super().__init__()
        self.statistics, self.modes = statistics, modes
        centre, spread = (np.zeros(len(modes), np.float32) for _ in range(2))
        for dim, mode in enumerate(modes):
            measured = {name: float(statistics.require(name, what)[dim]) for name in NEEDED[mode]}
            centre[dim], spread[dim] = _centre_and_spread(mode, measured)
        # Not persistent: stats.safetensors is the only copy, so the two can never disagree.
        self.register_buffer("centre", torch.from_numpy(centre), persistent=False)
        self.register_buffer("spread", torch.from_numpy(spread), persistent=False)

    def normalize(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        constant = self.spread == 0
        return ((x - self.centre) / self.spread.masked_fill(constant, 1)).masked_fill(constant, 0)

    def restore(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """The inverse of `normalize`."""
        return x * self.spread + self.centre


def _centre_and_spread(mode: Mode, measured: dict[str, float]) -> tuple[float, float]:
    low, high = measured["min"], measured["max"]
    if high - low <= 1e-6 * max(abs(low), abs(high)):  # constant, but for the rounding of float32
        return (low + high) / 2, 0.0
    if mode == "mean_std":
        return measured["mean"], measured["std"]
    if mode == "quantile" and measured["q99"] > measured["q01"]:  # else nearly always the same value: keep the full range
        low, high = measured["q01"], measured["q99"]
    return (low + high) / 2, (high - low) / 2


class Normalizer(nn.Module):
    """The scaling of a policy's `action` and `state` (None for a robot without one)."""

    def __init__(self, action: Affine, state: Affine | None) -> None:
        super().__init__()
        self.action, self.state = action, state

    @classmethod
    def measure(cls, spec: RobotSpec, actions: Float[np.ndarray, "n a"], state: Float[np.ndarray, "n s"], *,
                action_mode: Mode = "quantile", state_mode: Mode = "mean_std") -> Normalizer:
        """From the training frames. Grippers and absolute targets keep their full range whatever `action_mode`."""
        names = spec.observation.state
        return cls(
            Affine(Statistics.measure(actions, spec.action.names, "actions"), action_modes(spec.action, action_mode), "action"),
            Affine(Statistics.measure(state, names, "state"), (state_mode,) * len(names), "state") if names else None,
        )

    def save(self, path: Path) -> None:
        parts = {"action": self.action, **({"state": self.state} if self.state is not None else {})}
        tensors = {f"{part}.{name}": torch.from_numpy(value)
                   for part, affine in parts.items() for name, value in affine.statistics.values.items()}
        described = {part: {"names": affine.statistics.names, "modes": affine.modes} for part, affine in parts.items()}
        save_file(tensors, path, {"statistics": json.dumps(described)})

    @classmethod
    def load(cls, path: Path) -> Normalizer:
        """Raises `UserError` if the file is missing, unreadable, or lacks a statistic that its modes need."""
        try:
            with safe_open(path, "np") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            parts = {part: Affine(
                Statistics(_with_prefix(f"{part}.", tensors), tuple(described["names"])), tuple(described["modes"]), part)
                for part, described in json.loads(metadata["statistics"]).items()}
            return cls(parts["action"], parts.get("state"))
        except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise UserError(f"statistics {path}", f"cannot be read ({error})", "a file written with the policy",
                            "copy the whole policy folder again") from None


def _with_prefix(prefix: str, table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in table.items() if name.startswith(prefix)}


def action_modes(spec: ActionSpec, mode: Mode) -> tuple[Mode, ...]:
    return tuple("minmax" if dim == spec.gripper or spec.modes[dim] == "absolute" else mode for dim in range(spec.dim))
