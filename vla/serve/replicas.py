"""One policy several times, each copy in a process of its own: more robots than one process of Python can answer.

A copy has robots of its own (each new one goes where the fewest are), batches them by itself (`Service` gives every copy a batcher), and keeps what
their trackers follow. On a CPU copies of one thread each use the cores that a small network, layer by layer, cannot share; with several GPUs
there is one on each. The server's own process then holds no network at all.

A copy that dies is started again. Until it is there its robots are told so; then they go on with the draws that they would have had, and with
trackers that begin anew.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_io import ActionChunk, Observation, RobotSpec, Underway, UserError
from vla.sealed import seal_of
from vla.workers import start, taken

LOG = logging.getLogger("vla.serve")
AGAIN = 5.0
"""Seconds at least between two starts of a copy that keeps dying."""
PATIENCE = 5.0
"""Seconds that a copy is given to end of itself."""


@dataclass(frozen=True)
class Described:
    """What a server says of a policy before it is asked (`vla.serve.service.ServedRecipe`, and what else it must know)."""

    name: str
    hash: str
    horizon: int
    execute: int
    spec: RobotSpec
    takes_prefix: bool
    oracle: bool
    seal: bytes | None


@dataclass(frozen=True)
class Turn:
    """What a copy is asked: a chunk for each observation. `robots` says whose they are: number, seed, calls since the episode began."""

    robots: list[tuple[int, int, int]]
    observations: list[Observation]
    prefixes: list[Underway] | None
    gone: list[int]


class Replicas:
    """A `ServedPolicy` of several copies of the policy at `folder`, one for each of `devices` ("cpu", "cpu" for two on the CPU).

    Raises:
        UserError: the folder is not a policy's, or cannot be opened.
    """

    def __init__(self, folder: Path | str, devices: Sequence[str], compile: bool = False) -> None:
        self.copies = [Copy(Path(folder), device, compile, len(devices), number) for number, device in enumerate(devices)]
        self.recipe, *_ = [copy.described() for copy in self.copies]
        self.spec, self.oracle, self.lanes = self.recipe.spec, self.recipe.oracle, len(self.copies)

    def close(self) -> None:
        """End the processes and wait until they have. Those of a policy that nothing refers to any more end by themselves."""
        for copy in self.copies:
            copy.hang_up()
        for copy in self.copies:
            copy.end()

    def session(self) -> Seated:
        return Seated(self, min(self.copies, key=lambda copy: len(copy.seated)))

    @staticmethod
    def infer_together(sessions: Sequence[Seated], observations: Sequence[Observation],
                       prefixes: Sequence[Underway] | None = None) -> list[ActionChunk]:
        """As `Policy.infer_together`; the sessions must be of one copy."""
        return sessions[0].copy.infer(sessions, observations, prefixes)


class Seated:
    """A robot's dealings with one copy: what `vla.policy.Session` is within one process.

    Attributes:
        lane: which copy; requests of different lanes are computed side by side.
    """

    def __init__(self, replicas: Replicas, copy: Copy) -> None:
        self.replicas, self.copy, self.lane = replicas, copy, copy.number
        self.takes_prefix = replicas.recipe.takes_prefix
        self.robot = copy.seat(self)
        self.reset()

    def reset(self, seed: int = 0) -> None:
        self._seed, self._calls = seed, 0

    def turn(self) -> tuple[int, int, int]:
        self._calls += 1
        return self.robot, self._seed, self._calls - 1

    def infer(self, observation: Observation, prefix: Underway | None = None) -> ActionChunk:
        return self.copy.infer([self], [observation], None if prefix is None else [prefix])[0]


class Copy:
    """One process, and the pipe to it. Used by one thread at a time but for `seat`."""

    def __init__(self, folder: Path, device: str, compile: bool, among: int, number: int) -> None:
        self.folder, self.number = folder, number
        self.seated: weakref.WeakSet[Seated] = weakref.WeakSet()
        self._arguments = (str(folder), device, compile, max(1, (os.cpu_count() or 1) // among))
        self._robots, self._gone = itertools.count(), []
        self._first: Described | None = None
        self._start()

    def seat(self, session: Seated) -> int:
        """The robot's number here; forgotten when its session is."""
        robot = next(self._robots)
        self.seated.add(session)
        weakref.finalize(session, self._gone.append, robot).atexit = False
        return robot

    def described(self) -> Described:
        """What it opened; waits for it. Raises `UserError` if it could not."""
        self._ready(None)
        return self._described

    def infer(self, sessions: Sequence[Seated], observations: Sequence[Observation], prefixes: Sequence[Underway] | None) -> list[ActionChunk]:
        """Raises `UserError`: the policy's own; or the process died, or is not there again."""
        if not self._ready(0.0):
            raise self._away("is being started again")
        gone, self._gone[:] = list(self._gone), []
        turn = Turn([session.turn() for session in sessions], list(observations), None if prefixes is None else list(prefixes), gone)
        try:
            self._pipe.send(turn)
            answer = self._pipe.recv()
        except (EOFError, OSError):
            raise self._died() from None
        return taken(answer, f"a policy's copy on {self._arguments[1]}")

    def _ready(self, wait: float | None) -> bool:
        """Whether it has opened the policy; waits for so many seconds, or as long as it takes."""
        if self._described is not None:
            return True
        try:
            if not self._pipe.poll(wait):
                return False
            answer = self._pipe.recv()
        except (EOFError, OSError):
            raise self._died() from None
        try:
            self._described = self._as_before(taken(answer, f"opening policy '{self.folder}'"))
        except Exception:
            self.hang_up()  # and is tried again later
            raise
        return True

    def _as_before(self, found: Described) -> Described:
        self._first = self._first or found
        if found != self._first:
            raise UserError(f"policy '{self.folder}'", "it is not what was there when serving began", "the same, for a copy to be started again",
                            "start the server again, or serve with --reload")
        return found

    def _start(self) -> None:
        self._described: Described | None = None
        self._pipe, self._process = start(opened, self._arguments)
        self._pipe.send(None)
        self._since = time.monotonic()
        self.hang_up = weakref.finalize(self, self._pipe.close)  # at the end of its pipe the process ends

    def _died(self) -> UserError:
        """What to tell; and begin anew, but not too often."""
        if time.monotonic() - self._since < AGAIN:
            return self._away("died, and has only just been started")
        self.end()
        code = self._process.exitcode
        LOG.error("copy %d of policy '%s' died (exit code %s) and is started again", self.number, self.folder, code)
        self._start()
        return self._away(f"died (exit code {code}) and is started again")

    def end(self) -> None:
        self.hang_up()
        self._process.join(PATIENCE)
        self._process.terminate()
        self._process.join()

    def _away(self, what: str) -> UserError:
        return UserError("the policy's process", what, "one that answers", "hold the robot and ask again; the server's log says more")


def opened(folder: str, device: str, compile: bool, threads: int) -> Callable[[Turn | None], Any]:
    """In the copy's process: the policy, as something that answers turns; to None, what it is."""
    import torch

    from vla.serve.allocator import keep_memory

    torch.set_num_threads(threads)
    keep_memory()
    policy = serving_copy(Path(folder), [device], compile)
    sessions: dict[int, Any] = {}

    def session(robot: int, seed: int, calls: int) -> Any:
        if robot not in sessions or calls == 0:
            sessions[robot] = policy.session()
            sessions[robot].reset(seed, calls)
        return sessions[robot]

    def answer(turn: Turn | None) -> Described | list[ActionChunk]:
        if turn is None:
            recipe = policy.recipe
            return Described(recipe.name, recipe.hash, recipe.horizon, recipe.execute, policy.spec, policy.takes_prefix, policy.oracle,
                             seal_of(Path(folder)))
        for robot in turn.gone:
            sessions.pop(robot, None)
        return policy.infer_together([session(*robot) for robot in turn.robots], turn.observations, turn.prefixes)

    return answer


def serving_copy(folder: Path, devices: Sequence[str], compile: bool = False) -> Any:
    """The policy in this process, if it is one copy; else `Replicas`. Raises `UserError`: the folder is not a policy's."""
    if len(devices) > 1:
        return Replicas(folder, devices, compile)
    from vla.policy import Policy
    from vla.serve.compiled import compiled
    from vla.serve.quantize import for_serving

    policy = for_serving(Policy.load(folder, devices[0]))
    return compiled(policy) if compile else policy
