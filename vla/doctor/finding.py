"""One thing that the doctor found; and what everybody looks for first, whether two specifications agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from robot_io import RobotSpec
from robot_io.specs import differences


@dataclass(frozen=True)
class Finding:
    """Attributes:
    level: `error` (do not run), `warning` (look first) or `ok`.
    check: what was looked at.
    text: what was found, in words.
    remedy: what to do.
    """

    level: Literal["error", "warning", "ok"]
    check: str
    text: str
    remedy: str = ""


def good(check: str, text: str) -> Finding:
    return Finding("ok", check, text)


def odd(check: str, text: str, remedy: str = "") -> Finding:
    return Finding("warning", check, text, remedy)


def bad(check: str, text: str, remedy: str = "") -> Finding:
    return Finding("error", check, text, remedy)


def compare_specs(what: str, ours: RobotSpec, theirs: RobotSpec) -> Iterator[Finding]:
    """A finding for every difference, or one that says that there is none."""
    lines = differences(ours, theirs)
    for line in lines:
        yield bad("specification", f"{what}: {line}", "use what belongs together, or configure the robot to match")
    if not lines:
        yield good("specification", f"{what}: cameras, state, actions, units, rate and gripper are the same")
