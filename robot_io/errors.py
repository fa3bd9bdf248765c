"""The one way this project tells a user that something is wrong.

A `UserError` names the thing, what was found, what was expected and what to do. The command line prints it
without a traceback; a library caller sees an ordinary `ValueError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


class UserError(ValueError):
    """A mistake in the input, not in the program: `thing: found …; expected …. To fix it, …`."""

    def __init__(self, thing: str, found: str, expected: str = "", remedy: str = "") -> None:
        self.thing, self.found, self.expected, self.remedy = thing, found, expected, remedy
        message = f"{thing}: {found}"
        if expected:
            message += f"; expected {expected}"
        if remedy:
            message += f". To fix it, {remedy}"
        super().__init__(message)

    def __reduce__(self) -> tuple[type, tuple[str, str, str, str]]:
        """So that it crosses a process border (a worker's mistake is shown by the parent)."""
        return type(self), (self.thing, self.found, self.expected, self.remedy)


class SpecMismatch(UserError):
    """Two sides of a hand-over (data set, policy, robot, server) disagree about what they exchange."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`"did you mean 'horizon'? Known: execute, horizon"`, for the remedy of an unknown-name error."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}known: {', '.join(known) or 'none'}"


def misfits(expected: Mapping[str, object], found: Mapping[str, object], labels: Mapping[str, str] | None = None) -> list[str]:
    """What of `found` (shape by name: the tensors of a file) is missing, left over or of another shape, a phrase for each.

    Args:
        labels: what the user knows the found names as, where that differs.
    """
    label = labels or {}
    wrong = [f"'{name}' is missing" for name in sorted(expected.keys() - found.keys())]
    wrong += [f"'{label.get(name, name)}' belongs nowhere" for name in sorted(found.keys() - expected.keys())]
    wrong += [f"'{label.get(name, name)}' is {found[name]}, not {expected[name]}" for name in sorted(expected.keys() & found.keys())
              if found[name] != expected[name]]
    return wrong
