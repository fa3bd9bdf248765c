"""One thread that computes, and the queue before it: requests that wait at the same time are computed together.

The thread takes the oldest request and, with it, those of other robots for the same policy that look alike (the same optional
pictures and poses; in the middle of a chunk or not). While it computes, the next ones gather, so a busy server batches by itself;
besides, a request waits a few milliseconds if other robots have lately asked too (`Limits.batch_wait`). Every robot gets what it would
have got alone: its own seed, its own memory, its own running chunk (`vla.policy.infer_together`). A request whose deadline has passed is
not computed.

The way to the thread and back is most of what a server adds to a fast policy, so it is one queue written in C, without a lock that both sides
want: what waits belongs to the thread alone.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import inf
from queue import Empty, SimpleQueue
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

    `deadline` and `arrived` are on `time.perf_counter`'s clock. Requests that are equal in `alike` may be computed together; None: alone.
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
        together = hasattr(self.policy, "infer_together")
        self.alike: Hashable = (id(self.policy), getattr(self.session, "lane", 0), self.prefix is None,
                                _given(self.observation)) if together else None


@dataclass(eq=False)
class Call:
    """Anything else that must happen in the inference thread, in turn."""

    work: Callable[[], Any]
    future: Future[Any] = field(default_factory=Future)


class Batcher:
    """See the module's text."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits, self.metrics = limits, metrics
        self._arriving: SimpleQueue[Request | Call | None] = SimpleQueue()
        self._waiting: deque[Request | Call] = deque()
        self._seen: dict[Hashable, dict[int, float]] = {}
        self._answered = -inf
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
        waiting = self._arriving.qsize() + len(self._waiting)
        if self._closed or waiting >= self.limits.max_waiting:
            raise Busy("policy server", f"{waiting} requests are waiting", f"at most {self.limits.max_waiting}",
                       "ask again later, or serve the policy from more machines")
        self._arriving.put(item)
        return item.future

    def close(self) -> None:
        """End the thread after what it is doing; what still waits is cancelled."""
        self._closed = True
        self._arriving.put(None)
        if self._thread is not None:
            self._thread.join()
        while not self._arriving.empty():
            if (item := self._arriving.get()) is not None:
                item.future.cancel()
        while self._waiting:
            self._waiting.popleft().future.cancel()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            if isinstance(taken, Call):
                _carry_out(taken)
            else:
                self._infer(taken)
            del taken  # a policy that was exchanged must not live on in this thread

    def _take(self) -> list[Request] | Call | None:
        """What is due next: a call, or requests to be computed together; None when closed."""
        if not self._waiting:
            self._receive(inf)
        while not self._closed and self._receive(0.0):
            pass
        if self._closed:
            return None
        first = self._waiting[0]
        if isinstance(first, Call):
            return self._waiting.popleft()
        group = self._gathered(first)
        for request in group:
            self._waiting.remove(request)
        return group

    def _receive(self, seconds: float) -> bool:
        """Move one item from the queue to what waits; False if none comes within so many seconds, or the batcher is closed."""
        try:
            item = self._arriving.get(seconds > 0, None if seconds == inf else max(seconds, 0.0))
        except Empty:
            return False
        if item is None:
            return False
        self._waiting.append(item)
        if isinstance(item, Request) and item.alike is not None:
            self._seen.setdefault(item.alike, {})[id(item.session)] = item.arrived
        return True

    def _gathered(self, first: Request) -> list[Request]:
        """The oldest request, and what is computed with it, after a short wait for more."""
        if first.alike is None:
            return [first]
        # Whoever has just been answered asks again soon. Waiting from then on, too, lets robots that have come apart fall into step.
        until = max(first.arrived, self._answered) + self.limits.batch_wait
        while len(group := self._group(first)) < self._expected(first) and self._receive(until - time.perf_counter()):
            pass
        return group

    def _group(self, first: Request) -> list[Request]:
        alike = [item for item in self._waiting if isinstance(item, Request) and item.alike == first.alike]
        return alike[: self.limits.max_batch]

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
            self.metrics.of(request.name).wait.observe(waited)
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
        prefixes = [request.prefix for request in live if request.prefix is not None]
        options = {"prefixes": prefixes} if prefixes else {}
        try:
            chunks = live[0].policy.infer_together([r.session for r in live], [r.observation for r in live], **options)
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
        metrics = self.metrics.of(requests[0].name)
        metrics.infer.observe(seconds)
        metrics.batch.observe(len(requests))
        for request, chunk in zip(requests, chunks, strict=True):
            request.future.set_result((chunk, 1e3 * seconds))
        self._answered = time.perf_counter()


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
