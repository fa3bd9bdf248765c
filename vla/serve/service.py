"""The policies that a server offers, by name, and a `Seat` for each robot that uses one. Knows no protocol.

A seat keeps the episode of one robot: its seed, what trackers follow. Policies may be exchanged while robots are seated: a
request that is being computed ends with the old one, the next begins with the new one, on the same connection.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from math import inf
from typing import Any, Protocol

from robot_io import ActionChunk, Observation, RobotSpec, Underway, UserError
from robot_io.errors import nearest
from robot_io.robot import Driver
from robot_io.specs import require_compatible
from vla.serve.batcher import Batcher, Busy, Call, Late, Request
from vla.serve.limits import Limits
from vla.serve.metrics import Metrics

LOG = logging.getLogger("vla.serve")
LONGEST_ERROR = 1000


class ServedRecipe(Protocol):
    """What the first message says about how a policy was made."""

    name: str
    hash: str
    horizon: int
    execute: int


class ServedPolicy(Protocol):
    """What can be served: a `vla.Policy`, or anything that knows its robot and its chunk lengths and opens drivers.

    One that also has `infer_together(sessions, observations)` is asked for several robots at once; one whose sessions have a true
    `takes_prefix` is told what the robot does meanwhile, and in a batch is given `prefixes`, one for each of its robots or none at all.
    One of several `lanes` is asked for as many batches side by side, each of sessions of the same `lane` (`vla.serve.replicas`).
    """

    spec: RobotSpec
    recipe: ServedRecipe

    def session(self) -> Driver:
        """A driver for one connection."""
        ...


class Service:
    """See the module's text. The first policy is the one that a client gets who names none."""

    def __init__(self, policies: Mapping[str, ServedPolicy], limits: Limits) -> None:
        """Check the policies; nothing runs before `start`.

        Raises:
            UserError: a policy that reads a simulator's ground truth; a name that does not go into an address.
        """
        for name, policy in policies.items():
            if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
                raise UserError(f"policy '{name}'", "its name does not fit into an address", "letters, digits, - _ .", "rename it")
            _require_served(policy)
        self.policies, self.limits, self.metrics = dict(policies), limits, Metrics()
        self._batchers = [Batcher(limits, self.metrics) for _ in range(max(getattr(policy, "lanes", 1) for policy in policies.values()))]
        self.draining = False
        self._answering, self._silent = 0, asyncio.Event()

    @property
    def default(self) -> str:
        return next(iter(self.policies))

    def seat(self, name: str | None = None) -> Seat:
        """A place for one robot.

        Raises:
            UserError: no policy of that name.
        """
        name = self.default if name is None else name
        if name not in self.policies:
            raise UserError(f"policy '{name}'", "is not served here", "one of the policies served", nearest(name, self.policies))
        return Seat(self, name)

    def reload(self, name: str, policy: ServedPolicy) -> None:
        """Exchange a policy. Robots stay connected, so the new one must keep what the old one promised them.

        Raises:
            UserError: another robot, other chunk lengths; the old one goes on.
        """
        old = self.policies[name]
        try:
            _require_served(policy)
            require_compatible(policy.spec, old.spec, thing=f"the new policy '{name}'")
            lengths = [(p.recipe.horizon, p.recipe.execute) for p in (old, policy)]
            if lengths[0] != lengths[1]:
                raise UserError(f"the new policy '{name}'", "horizon {}, execute {}".format(*lengths[1]),
                                "horizon {}, execute {}, as the robots were told".format(*lengths[0]), "serve it under another name")
        except UserError:
            self.metrics.reloads.labels(name, "refused").inc()
            raise
        self.policies[name] = policy
        self.metrics.reloads.labels(name, "done").inc()
        LOG.info("policy '%s' is now recipe %s", name, policy.recipe.hash)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Around a request from its arrival until its answer is on the wire; `silence` waits for these."""
        self._answering += 1
        try:
            yield
        finally:
            self._answering -= 1
            if not self._answering:
                self._silent.set()

    async def silence(self) -> None:
        """Return when nothing is being answered, or after `limits.drain` seconds."""
        self.draining = True
        if self._answering:
            self._silent.clear()
            try:
                await asyncio.wait_for(self._silent.wait(), self.limits.drain)
            except TimeoutError:
                LOG.warning("%d requests were not answered within %g s of being asked to stop", self._answering, self.limits.drain)

    def start(self) -> None:
        """From here on requests are computed."""
        self.draining = False
        for batcher in self._batchers:
            batcher.start()

    def close(self) -> None:
        for batcher in self._batchers:
            batcher.close()

    def batcher(self, session: Driver) -> Batcher:
        """Whose requests are computed with this session's."""
        return self._batchers[getattr(session, "lane", 0) % len(self._batchers)]


class Seat:
    """One robot's place at a policy, whatever protocol it speaks. Used from the event loop, one call at a time."""

    def __init__(self, service: Service, name: str) -> None:
        self.service, self.name, self._seed = service, name, 0
        self._policy = service.policies[name]
        self._session = self._policy.session()

    @property
    def policy(self) -> ServedPolicy:
        """The policy that the next request will get."""
        return self.service.policies[self.name]

    @property
    def metadata(self) -> dict[str, Any]:
        """What is served here, as openpi's first message says it."""
        recipe, spec = self.policy.recipe, self.policy.spec
        return {
            "robot_spec": spec.to_dict(), "spec_hash": spec.hash, "policy": recipe.name, "recipe_hash": recipe.hash,
            "horizon": recipe.horizon, "execute": recipe.execute,
            "takes_prefix": bool(getattr(self._session, "takes_prefix", False)),
            "policies": list(self.service.policies), "server_version": _version(),
        }

    async def reset(self, seed: int = 0) -> None:
        """Begin an episode."""
        self._seed = seed
        session = self._current()
        await asyncio.wrap_future(self.service.batcher(session).submit(Call(lambda: session.reset(seed))))

    async def infer(self, observation: Observation, *, prefix: Underway | None = None,
                    deadline: float = inf) -> tuple[ActionChunk, float]:
        """Actions, and the milliseconds of the inference that made them.

        Args:
            prefix: what the robot does meanwhile; only for a policy that takes it.
            deadline: on `time.perf_counter`'s clock; after it the request is not begun.

        Raises:
            UserError: too busy, too late, or refused by the policy.
        """
        session = self._current()
        if prefix is not None and not getattr(session, "takes_prefix", False):
            raise UserError("'prefix_actions'", f"policy '{self.name}' cannot go on from a running chunk",
                            "a policy whose first message says takes_prefix", "leave it out, or serve such a policy")
        outcome = "failed"
        try:
            request = Request(self.name, self._policy, session, observation, prefix, deadline)
            answer = await asyncio.wrap_future(self.service.batcher(session).submit(request))
            outcome = "answered"
            return answer
        except UserError as error:
            outcome = "late" if isinstance(error, Late) else "busy" if isinstance(error, Busy) else "refused"
            raise
        finally:
            self.service.metrics.of(self.name).requests[outcome].inc()

    def refused(self) -> None:
        """Count a request that never got as far as `infer`."""
        self.service.metrics.of(self.name).requests["refused"].inc()

    def _current(self) -> Driver:
        """The session; a new one, of the same seed, after the policy was exchanged."""
        if self._policy is not (policy := self.policy):
            self._policy, self._session = policy, policy.session()
            self._session.reset(self._seed)
        return self._session


def what_to_tell(error: Exception) -> str:
    """One line for the peer; what is not its own mistake goes to the log."""
    if isinstance(error, UserError):
        return str(error)[:LONGEST_ERROR]
    LOG.error("the policy failed on an observation", exc_info=error)
    return "the policy failed on this observation; the server's log has the details"


def milliseconds_since(start: float) -> float:
    return 1e3 * (time.perf_counter() - start)


def _require_served(policy: ServedPolicy) -> None:
    if getattr(policy, "oracle", False):
        raise UserError("policy", "its perception is an oracle that reads a simulator's ground truth",
                        "perception that a robot has", "use a detector: see `vla list perception`")


def _version() -> str:
    try:
        return version("swapvla")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"
