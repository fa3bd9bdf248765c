"""One thread that computes, and the queue before it: requests that wait at the same time are computed together.

The thread takes the oldest request and, with it, those of other robots for the same policy that look alike (the same optional
pictures and poses; nobody's running chunk). While it computes, the next ones gather, so a busy server batches by itself;
besides, a request waits a few milliseconds if other robots have lately asked too (`Limits.batch_wait`). Every robot gets what it would
have got alone: its own seed, its own memory (`vla.policy.infer_together`). A request whose deadline has passed is not computed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import inf
from typing import Any

from robot_io import ActionChunk, Observation, Underway, UserError
from robot_io.robot import Driver
from vla.serve.limits import Limits
from vla.serve.metrics import Metrics

RECENT = 1.0
"""Seconds for which a robot that has asked is expected to ask again."""


class Late(UserError):
    """A request that nobody needs any more."""


class Busy(UserError):
    """A request too many."""


@dataclass(eq=False)
class Request:
    """An observation that waits for its chunk. `future` gets `(chunk, milliseconds of inference)`.

    `deadline` and `arrived` are on `time.perf_counter`'s clock.
    """

    name: str
    policy: Any
    session: Driver
    observation: Observation
    prefix: Underway | None = None
    deadline: float = inf
    arrived: float = field(default_factory=time.perf_counter)
    future: Future[tuple[ActionChunk, float]] = field(default_factory=Future)

    def __post_init__(self) -> None:
        together = self.prefix is None and hasattr(self.policy, "infer_together")
        self.alike: Hashable = (id(self.policy), _given(self.observation)) if together else id(self)


@dataclass(eq=False)
class Call:
    """Anything else that must happen in the inference thread, in turn."""

    work: Callable[[], Any]
    future: Future[Any] = field(default_factory=Future)


class Batcher:
    """See the module's text."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits, self.metrics = limits, metrics
        self._waiting: deque[Request | Call] = deque()
        self._changed = threading.Condition()
        self._seen: dict[Hashable, dict[int, float]] = {}
        self._closed = True
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
        self._thread.start()

    def submit(self, item: Request | Call) -> Future[Any]:
        """Queue an item.

        Raises:
            Busy: too many are waiting.
        """
        with self._changed:
            if self._closed or len(self._waiting) >= self.limits.max_waiting:
                raise Busy("policy server", f"{len(self._waiting)} requests are waiting", f"at most {self.limits.max_waiting}",
                           "ask again later, or serve the policy from more machines")
            self._waiting.append(item)
            if isinstance(item, Request):
                self._seen.setdefault(item.alike, {})[id(item.session)] = item.arrived
            self._changed.notify()
        return item.future

    def close(self) -> None:
        """End the thread after what it is doing; what still waits is cancelled."""
        with self._changed:
            self._closed = True
            for item in self._waiting:
                item.future.cancel()
            self._waiting.clear()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            if isinstance(taken, Call):
                _carry_out(taken)
            else:
                self._infer(taken)
            del taken  # a policy that was exchanged must not live on in this thread

    def _take(self) -> list[Request] | Call | None:
        """What is due next: a call, or requests to be computed together; None when closed."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            first = self._waiting[0]
            if isinstance(first, Call):
                return self._waiting.popleft()
            until = first.arrived + self.limits.batch_wait
            while (len(group := self._group(first)) < self._expected(first) and not self._closed
                   and (left := until - time.perf_counter()) > 0):
                self._changed.wait(left)
            for request in group:
                self._waiting.remove(request)
            return group

    def _group(self, first: Request) -> list[Request]:
        alike = [item for item in self._waiting if isinstance(item, Request) and item.alike == first.alike]
        return alike[: self.limits.max_batch] or [first]

    def _expected(self, first: Request) -> int:
        """How many robots are likely to ask for the same policy about now."""
        oldest = time.perf_counter() - RECENT
        for alike, sessions in list(self._seen.items()):
            self._seen[alike] = {session: asked for session, asked in sessions.items() if asked > oldest}
            if not self._seen[alike]:
                del self._seen[alike]
        return min(self.limits.max_batch, len(self._seen.get(first.alike, ())))

    def _infer(self, group: list[Request]) -> None:
        started, live = time.perf_counter(), []
        for request in group:
            if not request.future.set_running_or_notify_cancel():
                continue  # its robot has hung up
            waited = started - request.arrived
            self.metrics.wait.labels(request.name).observe(waited)
            if started > request.deadline:
                allowed = request.deadline - request.arrived
                request.future.set_exception(Late("request", f"it waited {1e3 * waited:.0f} ms for other robots' and was not computed",
                                                  f"an answer within its deadline of {1e3 * allowed:.0f} ms",
                                                  "hold the robot and ask anew; lower the load or raise the deadline"))
            else:
                live.append(request)
        if len(live) > 1 and not self._together(live, started):
            for request in live:
                self._alone(request)
        elif len(live) == 1:
            self._alone(live[0])

    def _together(self, live: list[Request], started: float) -> bool:
        """Compute them in one batch; False if that failed, and then each is tried alone: one must not spoil the others'."""
        try:
            chunks = live[0].policy.infer_together([r.session for r in live], [r.observation for r in live])
        except Exception:
            return False
        self._answer(live, chunks, started)
        return True

    def _alone(self, request: Request) -> None:
        started = time.perf_counter()
        options = {} if request.prefix is None else {"prefix": request.prefix}
        try:
            chunk = request.session.infer(request.observation, **options)
        except Exception as error:
            request.future.set_exception(error)
        else:
            self._answer([request], [chunk], started)

    def _answer(self, requests: list[Request], chunks: list[ActionChunk], started: float) -> None:
        seconds = time.perf_counter() - started
        self.metrics.infer.labels(requests[0].name).observe(seconds)
        self.metrics.batch.labels(requests[0].name).observe(len(requests))
        for request, chunk in zip(requests, chunks, strict=True):
            request.future.set_result((chunk, 1e3 * seconds))


def _carry_out(call: Call) -> None:
    if call.future.set_running_or_notify_cancel():
        try:
            result = call.work()
        except Exception as error:
            call.future.set_exception(error)
        else:
            call.future.set_result(result)


def _given(observation: Observation) -> tuple[tuple[str, bool, bool, bool], ...]:
    """Which of the optional parts are there: a batch has a part only if all of its observations do."""
    return tuple((name, frame.depth is not None, frame.intrinsics is not None, frame.world_from_camera is not None)
                 for name, frame in sorted(observation.cameras.items()))
