"""Carrying out chunks: what is done at which control step, how a stop looks, and the parts of which `robot_io.runner` is made.

A schedule decides which action of which chunk is carried out when. It knows no clock, so the same objects
drive a robot in real time (`robot_io.runner`) and a simulated one with injected latency (`vla.evaluate.episode`).
"""

from __future__ import annotations

from collections.abc import Callable

from robot_io.errors import UserError, nearest
from robot_io.execution.asynchronous import Asynchronous
from robot_io.execution.ensembling import TemporalEnsembling
from robot_io.execution.real_time import DelayEstimate, RealTimeChunking
from robot_io.execution.schedule import Schedule, hold
from robot_io.execution.synchronous import Synchronous
from robot_io.robot import Driver
from robot_io.specs import ActionSpec

SCHEDULES: dict[str, Callable[[int | None], Schedule]] = {
    "synchronous": Synchronous,
    "asynchronous": Asynchronous,
    "ensembling": lambda execute: TemporalEnsembling(),
    "real_time": RealTimeChunking,
}
"""By name: made from `execute`, the steps carried out before the next prediction (ensembling predicts whenever it can)."""


def make_schedule(kind: str, execute: int | None, spec: ActionSpec) -> Schedule:
    """The schedule of that name for a robot.

    Raises:
        UserError: no such schedule, or one that mixes chunks whose actions start from different states.
    """
    if kind not in SCHEDULES:
        raise UserError(f"execution '{kind}'", "not known", "a way to carry out chunks", nearest(kind, SCHEDULES))
    if kind != "synchronous" and "relative" in spec.modes:
        raise UserError(f"execution '{kind}'", "joins chunks, but this robot's actions are relative to each chunk's first state",
                        "absolute or delta actions", "use execution 'synchronous'")
    return SCHEDULES[kind](execute)


def require_prefix(driver: Driver, schedule: Schedule) -> None:
    """Refuse a schedule that tells the policy what is underway, if the policy cannot make anything of it."""
    if schedule.needs_prefix and not getattr(driver, "takes_prefix", False):
        raise UserError("execution 'real_time'", "the policy cannot go on from a chunk that is being carried out",
                        "a head that honours 'prefix' (see `vla list heads`), served by a server that passes it on",
                        "train such a head, or use execution 'asynchronous'")


__all__ = ["SCHEDULES", "Asynchronous", "DelayEstimate", "RealTimeChunking", "Schedule", "Synchronous", "TemporalEnsembling", "hold",
           "make_schedule", "require_prefix"]
