"""What the numbers of a data set betray: the kind of its actions, its gripper's sign, frames in which nothing happens, wild values, its
rate and its statistics. Each check reads arrays and yields findings; none decodes a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from robot_io import RobotSpec
from robot_io.dataset import Dataset, infer_spec
from robot_io.dataset.stats import Stats
from vla.doctor.finding import Finding, bad, good, odd

IDLE = 0.2
"""Share of frames without motion that is worth a word."""
WILD = 2.0
"""How far outside its 1 % to 99 % range, in lengths of that range, a value is an outlier."""
SHORT = 8


@dataclass(frozen=True)
class Columns:
    """The numbers of a data set.

    Attributes:
        actions, state: `[frames, A]` and `[frames, S]`.
        starts: first frame of every episode, and the number of frames.
        declared: whether the data set says itself what its actions mean.
        stats: `meta/stats.json`, if there is one.
        seconds: the recorded time of every frame.
    """

    spec: RobotSpec
    actions: Float[np.ndarray, "n a"]
    state: Float[np.ndarray, "n s"]
    starts: tuple[int, ...]
    fps: float
    declared: bool = True
    stats: dict[str, Stats] | None = None
    seconds: Float[np.ndarray, " n"] | None = None
    data: Dataset | None = None

    @classmethod
    def of(cls, data: Dataset) -> Columns:
        frames = len(data)
        state = data.column("observation.state").reshape(frames, -1) if "observation.state" in data.info["features"] else np.empty((frames, 0))
        seconds = data.column("timestamp").astype(float) if "timestamp" in data.info["features"] else None
        return cls(data.spec or infer_spec(data), data.column("action").reshape(frames, -1).astype(float), state.astype(float),
                   (*(episode.start for episode in data.episodes), frames), data.fps, data.spec is not None, data.stats, seconds, data)

    def following(self) -> np.ndarray:
        """Frames that have a next one in their episode."""
        last = np.array(self.starts[1:]) - 1
        return np.setdiff1d(np.arange(len(self.actions)), last)

    def measured(self, action: str) -> int | None:
        """The state entry that measures what an action commands."""
        names = self.spec.observation.state
        return next((names.index(name) for name in (action, f"tool_{action}", f"{action}.pos", f"ee_{action}") if name in names), None)


def check_kind(columns: Columns) -> Iterator[Finding]:
    """Absolute or delta: an absolute action is where the state soon is, a delta how far it soon has moved."""
    frames, spec = columns.following(), columns.spec.action
    agreeing = []
    for i, (name, mode) in enumerate(zip(spec.names, spec.modes, strict=True)):
        place = columns.measured(name)
        if place is None or i == spec.gripper or mode == "relative" or not len(frames):
            continue
        action, now, then = columns.actions[frames, i], columns.state[frames, place], columns.state[frames + 1, place]
        if np.ptp(action) == 0 or np.ptp(now) == 0:
            continue
        as_target, as_move = (float(np.abs(action - value).mean()) for value in (then, then - now))
        looks = "absolute" if as_target < 0.5 * as_move else "delta" if as_move < 0.5 * as_target else None
        if looks is None:
            continue
        evidence = f"it differs by {as_target:.3g} on average from the next state, by {as_move:.3g} from its change"
        if not columns.declared:
            yield odd("delta or absolute", f"the data set does not say what action '{name}' means; it looks {looks}: {evidence}",
                      f"train with data.action_mode={looks}")
        elif looks != mode:
            yield bad("delta or absolute", f"action '{name}' is declared {mode} and looks {looks}: {evidence}",
                      "correct the specification, or convert the actions")
        else:
            agreeing.append(name)
        if looks == "absolute" and np.isclose(action, now, rtol=0, atol=1e-6 * np.ptp(now)).mean() > 0.99:
            yield odd("delta or absolute", f"action '{name}' equals the state of the same frame: a policy learns to stay where it is",
                      "record the command, or shift the actions by one frame")
    if agreeing:
        yield good("delta or absolute", f"actions {', '.join(agreeing)} are what they are declared to be")


def check_gripper(columns: Columns) -> Iterator[Finding]:
    """Whether the gripper does what its sign says, and whether episodes begin open."""
    spec = columns.spec.action
    if spec.gripper is None:
        return
    command = columns.actions[:, spec.gripper]
    opened = (command - spec.gripper_closed) / (spec.gripper_open - spec.gripper_closed)
    if np.ptp(command) == 0:
        yield odd("gripper", f"its command never changes (always {command[0]:.3g})", "check that it was recorded")
        return
    if opened.min() < -0.05 or opened.max() > 1.05:
        yield bad("gripper", f"commands go from {command.min():.3g} to {command.max():.3g}, but open is {spec.gripper_open:g} and closed "
                  f"{spec.gripper_closed:g}", "correct the specification, or scale the commands")
    measured = [i for i, name in enumerate(columns.spec.observation.state) if "grip" in name or "opening" in name]
    if len(measured) == 1 and np.ptp(columns.state[:, measured[0]]) > 0:
        frames = columns.following()
        agreement = np.corrcoef(opened[frames], columns.state[frames + 1, measured[0]])[0, 1]
        name = columns.spec.observation.state[measured[0]]
        if agreement < -0.3 and "clos" not in name:
            yield bad("gripper", f"state '{name}' falls when the command opens (correlation {agreement:.2f}): one side has them swapped",
                      "swap gripper_open and gripper_closed, or invert the state")
            return
    at_start = opened[list(columns.starts[:-1])]
    if (at_start < 0.5).mean() > 0.5:
        yield odd("gripper", f"{100 * (at_start < 0.5).mean():.0f} % of the episodes begin with the gripper closed",
                  "if it was open, swap gripper_open and gripper_closed")
    else:
        yield good("gripper", "opens and closes as its sign says, and begins open")


def check_idle(columns: Columns) -> Iterator[Finding]:
    """Frames in which nothing is commanded: a policy that learns them hesitates, or never starts."""
    spec = columns.spec.action
    span = np.maximum(np.array(spec.high) - np.array(spec.low), 1e-9)
    change = np.zeros_like(columns.actions)
    inside = columns.following()
    absolute = np.array([mode != "delta" for mode in spec.modes])
    change[inside + 1] = np.diff(columns.actions, axis=0)[inside]
    motion = np.where(absolute, change, columns.actions) / span
    still = (np.abs(motion) < np.where(absolute, 0.0005, 0.01)).all(1)
    share = still.mean()
    leading = [int(np.argmin(still[a:b])) if not still[a:b].all() else b - a for a, b in pairwise(columns.starts)]
    text = f"nothing moves in {100 * share:.0f} % of the frames"
    if share > IDLE:
        yield odd("idle frames", f"{text}; {np.mean(leading):.1f} of them at the start of an episode on average",
                  "cut them: a policy that sees them learns to wait")
    else:
        yield good("idle frames", text)


def check_outliers(columns: Columns) -> Iterator[Finding]:
    """Values far outside the bulk, or outside the limits; entries that never change."""
    spec = columns.spec
    found = False
    for what, values, names in (("action", columns.actions, spec.action.names), ("state", columns.state, spec.observation.state)):
        low, high = np.quantile(values, [0.01, 0.99], axis=0) if values.size else (np.empty(0), np.empty(0))
        for i, name in enumerate(names):
            span = high[i] - low[i]
            if np.ptp(values[:, i]) == 0:
                found = True
                yield odd("outliers", f"{what} '{name}' never changes (always {values[0, i]:.4g})",
                          "check that it was recorded; a policy learns nothing from it")
                continue
            wild = np.flatnonzero((values[:, i] < low[i] - WILD * span) | (values[:, i] > high[i] + WILD * span))
            if span > 0 and wild.size:
                found = True
                yield odd("outliers", f"{what} '{name}' has {wild.size} wild values, {values[wild, i].min():.4g} to "
                          f"{values[wild, i].max():.4g}, where 98 % lie in {low[i]:.4g} to {high[i]:.4g}; first in frame {wild[0]}",
                          "look at these frames; remove the episode if a sensor failed")
    low, high = np.array(spec.action.low), np.array(spec.action.high)
    slack = 1e-4 * np.maximum(high - low, 1e-9)
    for i in np.flatnonzero(((columns.actions < low - slack) | (columns.actions > high + slack)).any(0)):
        found = True
        yield bad("outliers", f"action '{spec.action.names[i]}' goes from {columns.actions[:, i].min():.4g} to {columns.actions[:, i].max():.4g}, "
                  f"outside its limits {low[i]:.4g} to {high[i]:.4g}", "correct the limits, or the units")
    if not found:
        yield good("outliers", "no wild values, none outside the limits, none that never changes")


def check_rate(columns: Columns) -> Iterator[Finding]:
    """The rate of the frames against the rate of control, and the length of the episodes."""
    rate = columns.spec.action.rate_hz
    if abs(columns.fps - rate) > 0.01 * rate:
        yield bad("rate", f"frames come at {columns.fps:g} Hz, actions are for {rate:g} Hz",
                  "record at the control rate, or correct the specification")
    if columns.seconds is not None and len(frames := columns.following()):
        steps = columns.seconds[frames + 1] - columns.seconds[frames]
        if (wrong := np.abs(steps * columns.fps - 1) > 0.5).any():
            yield odd("rate", f"{wrong.sum()} of {len(steps)} frames do not come at {columns.fps:g} Hz (up to {steps.max():.3f} s apart)",
                      "frames were dropped: record again, or resample")
    lengths = np.diff(columns.starts)
    if (short := (lengths < SHORT).sum()):
        yield odd("rate", f"{short} of {len(lengths)} episodes are shorter than {SHORT} frames", "remove them: they are probably accidents")
    yield good("rate", f"{rate:g} Hz, episodes of {lengths.min()} to {lengths.max()} frames ({np.median(lengths) / rate:.1f} s in the middle)")


def check_statistics(columns: Columns) -> Iterator[Finding]:
    """`meta/stats.json` against the frames: whoever normalises with wrong statistics trains on nonsense."""
    if columns.stats is None:
        return
    wrong = []
    for key, values in (("action", columns.actions), ("observation.state", columns.state)):
        if key not in columns.stats or not values.size:
            continue
        scale = np.maximum(values.std(0), 1e-6 + 1e-3 * np.abs(values).max(0))
        for name, measured in (("mean", values.mean(0)), ("std", values.std(0)), ("min", values.min(0)), ("max", values.max(0))):
            off = np.abs(np.ravel(columns.stats[key][name]) - measured) / scale
            if off.max() > 0.05:
                wrong.append(f"'{key}' {name} (by {off.max():.2g} standard deviations)")
    if wrong:
        yield bad("statistics", f"meta/stats.json does not describe these frames: {', '.join(wrong)}",
                  "compute it again: Recorder.finish, or LeRobot's own tool")
    else:
        yield good("statistics", "meta/stats.json describes these frames")


COLUMN_CHECKS: tuple[Callable[[Columns], Iterator[Finding]], ...] = (
    check_kind, check_gripper, check_idle, check_outliers, check_rate, check_statistics)
