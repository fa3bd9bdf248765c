"""What stands between a policy and a robot's motors: every action passes here, and none that breaks a limit passes unchanged.

What is not a number, lies beyond its limits by more than their whole range (wrong statistics, a damaged message), or comes while a joint
is at its limit is forbidden: the robot holds. Everything else is moved to what is
allowed, softest limit first: jerk (the change of acceleration), speed, the workspace, the range of the action. The later ones always hold;
at a wall the robot brakes harder than its jerk allows. A policy that pushes against a wall slides along it. Every intervention is
named and counted.

Speed and jerk are per dimension, in its unit per second and per second³; of an absolute dimension they are those of the sequence
of targets, the first seen from the measured position. The gripper is only held inside its range. None of this replaces the robot
controller's own safety functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32

from robot_io.errors import UserError, nearest
from robot_io.execution.schedule import hold
from robot_io.specs import RobotSpec

Numbers = tuple[float, ...]
XYZ = tuple[float, float, float]
TOOL = ("tool_x", "tool_y", "tool_z")


@dataclass(frozen=True)
class Limits:
    """What a robot may do. None leaves that open.

    Attributes:
        velocity: largest speed of each action dimension, unit / s.
        jerk: largest jerk of each action dimension, unit / s³.
        workspace: lowest and highest corner (m, base frame) of the box that the tool stays in.
        joints: lowest and highest value by name of a state entry.
        margin: how near a joint may come to its limit, in its unit.
    """

    velocity: Numbers | None = None
    jerk: Numbers | None = None
    workspace: tuple[XYZ, XYZ] | None = None
    joints: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    margin: float = 0.02


@dataclass(frozen=True)
class Verdict:
    """`action` may be carried out, or nothing may (None). `why` names what was changed or forbidden."""

    action: Float32[np.ndarray, " a"] | None
    why: tuple[str, ...] = ()


class Safety:
    """Passes, changes or forbids actions. One for each run: it remembers the last motion.

    Args:
        spec: the robot; its action limits always hold.
        limits: further ones.
        tool_after: where an action takes the tool, `(state, action) → xyz`; None reads it from Cartesian actions
            (named x, y, z) and the state (tool_x, tool_y, tool_z), where there are such.

    Raises:
        UserError: limits for another robot, or a workspace that cannot be watched.
    """

    def __init__(self, spec: RobotSpec, limits: Limits | None = None,
                 tool_after: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None) -> None:
        self.spec, self.limits = spec, limits or Limits()
        action = spec.action
        self._low, self._high = np.array(action.low), np.array(action.high)
        self._moves = np.array([i != action.gripper for i in range(action.dim)])
        self._absolute = np.array([mode == "absolute" for mode in action.modes])
        self._measured = [spec.observation.state.index(name) if name in spec.observation.state else -1 for name in action.names]
        self._xyz = [action.names.index(name) for name in "xyz"] if {"x", "y", "z"} <= set(action.names) else []
        self._tool_after = tool_after
        self._check()
        self._velocity_limit = self._per_dimension(self.limits.velocity)
        self._jerk_limit = self._per_dimension(self.limits.jerk)
        self.counts: Counter[str] = Counter()
        self.reset()

    def reset(self) -> None:
        """Forget the last motion: the robot stands."""
        self._last: np.ndarray | None = None
        self._velocity = self._acceleration = np.zeros(self.spec.action.dim)

    def check(self, action: Float32[np.ndarray, " a"], state: Float32[np.ndarray, " s"]) -> Verdict:
        """What may be done of `action` in the measured `state`. `carried_out` then tells what was."""
        if why := self._forbidden(np.asarray(action, float), np.asarray(state, float)):
            self.counts[why] += 1
            return Verdict(None, (why,))
        state, allowed, why = np.asarray(state, float), np.asarray(action, float), []
        for name, limit in (("jerk", self._smooth), ("speed", self._slow), ("workspace", self._in_workspace), ("range", self._in_range)):
            limited = limit(allowed, state)
            if not np.allclose(limited, allowed, rtol=0, atol=1e-6):
                why.append(name)
            allowed = limited
        self.counts.update(why)
        return Verdict(allowed.astype(np.float32), tuple(why))

    def carried_out(self, action: Float32[np.ndarray, " a"], state: Float32[np.ndarray, " s"]) -> None:
        """The action that was sent in `state`, be it the policy's, a human's or a stop."""
        velocity = self._velocity_of(np.asarray(action, float), state)
        self._acceleration = (velocity - self._velocity) * self.spec.action.rate_hz
        self._velocity = velocity
        self._last = np.asarray(action, float)

    def _forbidden(self, action: np.ndarray, state: np.ndarray) -> str | None:
        if action.shape != self._low.shape or not np.isfinite(action).all():
            return "not a number"
        span = self._high - self._low
        if (action < self._low - span).any() or (action > self._high + span).any():
            return "far out of range"
        if not np.isfinite(state).all():
            return "state not a number"
        for name, (low, high) in self.limits.joints.items():
            value = state[self.spec.observation.state.index(name)]
            if not low + self.limits.margin <= value <= high - self.limits.margin:
                return f"joint {name}"
        return None

    def _in_range(self, action: np.ndarray, state: np.ndarray) -> np.ndarray:
        return np.clip(action, self._low, self._high)

    def _in_workspace(self, action: np.ndarray, state: np.ndarray) -> np.ndarray:
        if self.limits.workspace is None:
            return action
        low, high = np.array(self.limits.workspace)
        if self._tool_after is not None:
            at = self._tool_after(state, action)
            return action if (low <= at).all() and (at <= high).all() else self._standing(state)
        tool = np.array([state[self.spec.observation.state.index(name)] for name in TOOL])
        start = np.zeros(3) if self._absolute[self._xyz].all() else tool
        # A tool that is outside already may come back, but not go further out.
        low, high = np.minimum(low, tool), np.maximum(high, tool)
        bounded = action.copy()
        bounded[self._xyz] = np.clip(start + action[self._xyz], low, high) - start
        return bounded

    def _slow(self, action: np.ndarray, state: np.ndarray) -> np.ndarray:
        velocity = self._velocity_of(action, state)
        return self._at_velocity(np.clip(velocity, -self._velocity_limit, self._velocity_limit), action, state)

    def _smooth(self, action: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Motions within the limit pass as they are. Others approach the wanted velocity with an acceleration that can still be
        taken back in time: √(2·jerk·what is missing) at most; without that the velocity would swing about its goal."""
        if self.limits.jerk is None:
            return action
        rate = self.spec.action.rate_hz
        missing = self._velocity_of(action, state) - self._velocity
        wanted, room = missing * rate, self._jerk_limit / rate
        gentle = np.sign(missing) * np.minimum(np.abs(wanted), np.sqrt(2 * self._jerk_limit * np.abs(missing)))
        gentle = np.clip(gentle, self._acceleration - room, self._acceleration + room)
        acceleration = np.where(np.abs(wanted - self._acceleration) <= room, wanted, gentle)
        return self._at_velocity(self._velocity + acceleration / rate, action, state)

    def _velocity_of(self, action: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Unit / s of each dimension; 0 for the gripper."""
        change = np.where(self._absolute, action - self._reference(action, state), action)
        return np.where(self._moves, change * self.spec.action.rate_hz, 0.0)

    def _at_velocity(self, velocity: np.ndarray, action: np.ndarray, state: np.ndarray) -> np.ndarray:
        """`action` with that velocity instead of its own."""
        change = velocity / self.spec.action.rate_hz
        return np.where(self._moves, np.where(self._absolute, self._reference(action, state) + change, change), action)

    def _reference(self, action: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Where absolute targets are seen from: the last ones, or the measured position, or (unmeasured) the action itself."""
        if self._last is not None:
            return self._last
        return np.array([state[at] if at >= 0 else action[i] for i, at in enumerate(self._measured)])

    def _standing(self, state: np.ndarray) -> np.ndarray:
        return hold(self.spec, state.astype(np.float32), self._last).astype(float)

    def _per_dimension(self, values: Numbers | None) -> np.ndarray:
        limit = np.full(self.spec.action.dim, np.inf) if values is None else np.array(values, float)
        return np.where(self._moves, limit, 0.0)

    def _check(self) -> None:
        dim, state = self.spec.action.dim, self.spec.observation.state
        for name in ("velocity", "jerk"):
            values = getattr(self.limits, name)
            if values is not None and (len(values) != dim or not np.greater(values, 0).all()):
                raise UserError(f"safety limit '{name}'", f"{values}", f"{dim} positive numbers: {', '.join(self.spec.action.names)}",
                                "give one per action dimension")
        for name in self.limits.joints:
            if name not in state:
                raise UserError(f"safety limit of joint '{name}'", f"robot '{self.spec.robot}' does not measure it", "an entry of its state",
                                nearest(name, state))
        if self.limits.workspace is not None and self._tool_after is None and not (self._xyz and set(TOOL) <= set(state)):
            raise UserError("safety limit 'workspace'", "nothing says where an action takes the tool",
                            "actions x, y, z and a state with tool_x, tool_y, tool_z, or tool_after",
                            "pass tool_after, the robot's forward kinematics")
