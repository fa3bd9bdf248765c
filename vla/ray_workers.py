"""Workers on a Ray cluster: within `on_ray(ADDRESS)`, everything that goes through `vla.workers.parallel` runs there.

    with on_ray("local"):                            # this machine's cores; `vla --ray local evaluate …` does the same
        evaluate("runs/pick/policy", robot, seeds("test", 100), workers=8, out="runs/pick/test.jsonl")

A worker is an actor on one core and one thread, so results are those of processes here. It works in the folder that this process works in:
every node must see the same files, as it must for torchrun, and have the same packages. Ray's messages are pickles and its ports stand open:
a local cluster asks for a token drawn anew, a cluster of yours should ask for one too (RAY_AUTH_MODE=token) and have
a network of its own. Installed by `pip install 'swapvla[ray]'`.
"""

from __future__ import annotations

import itertools
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from robot_io import UserError
from vla.workers import ONE_THREAD, Answer, Desk, WorkerError, executing, taken


@contextmanager
def on_ray(address: str) -> Iterator[None]:
    """Join the cluster at `address` (`local` starts one on this machine, `auto` finds the one that this node is part of).

    Raises:
        UserError: there is no cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == "local" and "ray" not in sys.modules:  # which reads these once
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    surroundings = {"env_vars": {**ONE_THREAD, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}}
    try:
        ray.init(address=address, runtime_env=surroundings, log_to_driver=False, logging_level="ERROR",
                 **({"include_dashboard": False} if address == "local" else {}))
    except ConnectionError as error:
        raise UserError(f"Ray cluster '{address}'", f"does not answer ({error})", "HOST:PORT of `ray start --head`, auto or local",
                        "start the cluster, or use --ray local") from None
    try:
        with executing(in_actors):
            yield
    finally:
        ray.shutdown()


def in_actors(setup: Callable[..., Callable[[Any], Any]], arguments: tuple, jobs: Iterable[Any], *, workers: int,
              noun: str = "job") -> Iterator[tuple[Any, Any]]:
    """`vla.workers.parallel` on the cluster that this process has joined; no more workers than it has cores."""
    import ray

    queue = iter(jobs)
    actor = ray.remote(num_cpus=1, max_restarts=0)(_Seat)
    busy: dict[Any, tuple[Any, Any]] = {}  # a promised answer → who gives it, to which job
    try:
        for job in itertools.islice(queue, min(workers, int(ray.cluster_resources().get("CPU", 1)))):
            seat = actor.remote(os.getcwd(), setup, arguments)
            busy[seat.answer.remote(job)] = seat, job
        while busy:
            (answered,), _ = ray.wait(list(busy), num_returns=1)
            seat, job = busy[answered]
            try:
                result = taken(ray.get(answered), f"{noun} {job}")
            except ray.exceptions.RayActorError as error:
                raise WorkerError(f"{noun} {job}", f"its process died ({error})") from None
            del busy[answered]
            try:
                following = next(queue)
                busy[seat.answer.remote(following)] = seat, following
            except StopIteration:
                ray.kill(seat)
            yield job, result
    finally:
        for seat, _ in busy.values():
            ray.kill(seat)


class _Seat:
    """The actor: a desk in the folder that the others work in."""

    def __init__(self, folder: str, setup: Callable[..., Callable[[Any], Any]], arguments: tuple) -> None:
        self._folder, self._desk = folder, Desk(setup, arguments)

    def answer(self, job: Any) -> Answer:
        try:
            os.chdir(self._folder)
        except OSError:
            return None, UserError(f"folder {self._folder}", f"is not there on node {os.uname().nodename}", "the same files on every node",
                                   "share the file system, or work in a folder that is shared")
        return self._desk.answer(job)
