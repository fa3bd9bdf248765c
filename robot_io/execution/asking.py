"""Asking a driver without waiting for it: one request at a time, on a thread of its own.

Whatever goes wrong there (a lost server, a bad reply, a crash of the policy) comes back as an answer that says so; it never
raises into the control loop.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from robot_io.robot import Driver
from robot_io.types import ActionChunk, Observation, Underway


@dataclass(frozen=True)
class Answer:
    """What came of a request: a chunk, or the error.

    Attributes:
        asked: control step of the observation.
        seconds: how long it took.
    """

    asked: int
    seconds: float
    chunk: ActionChunk | None = None
    error: Exception | None = None


class Asking:
    """One outstanding request to a driver, each on a thread that lives as long as the call."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._lock = threading.Lock()
        self._answered = threading.Condition(self._lock)
        self._request = 0
        self._open: tuple[int, int, float] | None = None  # number, control step, when
        self._answer: Answer | None = None
        self._busy = False  # a thread is inside the driver, perhaps with a request that was given up

    @property
    def idle(self) -> bool:
        """Whether a request can be made now."""
        with self._lock:
            return self._open is None and not self._busy

    def ask(self, observation: Observation, prefix: Underway | None, step: int) -> None:
        with self._lock:
            self._request += 1
            self._open, self._busy, self._answer = (self._request, step, time.monotonic()), True, None
        threading.Thread(target=self._call, args=(observation, prefix, self._open), daemon=True, name="asking").start()

    def poll(self, patience: float) -> Answer | None:
        """The answer once it is there. After `patience` seconds the request is given up, and its answer thrown away if it still comes."""
        with self._lock:
            if self._open is None:
                return None
            _, step, since = self._open
            answer, waited = self._answer, time.monotonic() - since
            if answer is None and waited > patience:
                answer = Answer(step, waited, error=TimeoutError(f"no answer within {patience:g} s"))
            if answer is not None:
                self._open = None
            return answer

    def wait(self, seconds: float) -> None:
        """Until there is an answer, but no longer than that."""
        with self._lock:
            if self._open is not None and self._answer is None:
                self._answered.wait(seconds)

    def forget(self) -> None:
        """The answer that is on its way is not wanted any more."""
        with self._lock:
            self._open = None

    def _call(self, observation: Observation, prefix: Underway | None, request: tuple[int, int, float]) -> None:
        _, step, since = request
        chunk = error = None
        try:
            chunk = self._driver.infer(observation) if prefix is None else self._driver.infer(observation, prefix=prefix)
        except Exception as raised:
            error = raised
        with self._lock:
            self._busy = False
            if self._open == request:
                self._answer = Answer(step, time.monotonic() - since, chunk, error)
                self._answered.notify_all()
