"""Independent jobs on several processes, handed out one by one, results in the order they finish.

Evaluation runs trials, collection records demonstrations and `vla precompute` looks at frames through this. Every job runs in a spawned
process on one thread, so that what it computes depends on the job alone: not on how many workers there are nor on who got which, nor
where they are: within `vla.ray_workers.on_ray` they are actors of a Ray cluster. A job that raises, or a worker that dies, ends the whole
run with one error that names the job.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from robot_io import UserError

ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}


class WorkerError(RuntimeError):
    """A job failed in a way that is not the user's mistake. `job` says which."""

    def __init__(self, job: str, cause: str) -> None:
        self.job, self.cause = job, cause
        super().__init__(f"{job} failed: {cause}")


@dataclass
class _Worker:
    process: BaseProcess
    job: Any


Executor = Callable[..., Iterator[tuple[Any, Any]]]
"""Something with `parallel`'s signature."""

_executors: list[Executor] = []


@contextmanager
def executing(executor: Executor) -> Iterator[None]:
    """Within this, `parallel` of this process is `executor`; of its workers it is not."""
    _executors.append(executor)
    try:
        yield
    finally:
        _executors.remove(executor)


def elsewhere() -> bool:
    """Whether jobs run anywhere but in processes of this one's own."""
    return bool(_executors)


def parallel(setup: Callable[..., Callable[[Any], Any]], arguments: tuple, jobs: Iterable[Any], *, workers: int,
             noun: str = "job") -> Iterator[tuple[Any, Any]]:
    """Call `setup(*arguments)` once in each worker, then what it returned on every job; yield `(job, result)`.

    Args:
        setup: a module-level function (it is imported by name in the worker), given `arguments`.
        jobs: picklable, taken one by one (an endless iterator is fine: stop by closing the generator); an error is named
            `{noun} {job}`.

    Raises:
        UserError: as raised in the worker.
        WorkerError: anything else that went wrong there, the death of the process included.
    """
    execute = _executors[-1] if _executors else in_processes
    return execute(setup, arguments, jobs, workers=workers, noun=noun)


def in_processes(setup: Callable[..., Callable[[Any], Any]], arguments: tuple, jobs: Iterable[Any], *, workers: int,
                 noun: str = "job") -> Iterator[tuple[Any, Any]]:
    """`parallel` on this machine."""
    queue = iter(jobs)
    crew: dict[Connection, _Worker] = {}
    try:
        for job in itertools.islice(queue, workers):
            pipe, process = start(setup, arguments)
            crew[pipe] = _Worker(process, job)
            pipe.send(job)
        while crew:
            for pipe in wait(list(crew)):
                worker = crew[pipe]
                finished, result = worker.job, _receive(pipe, worker, noun)
                try:
                    worker.job = next(queue)
                    pipe.send(worker.job)
                except StopIteration:
                    pipe.close()
                    worker.process.join()
                    del crew[pipe]
                yield finished, result
    finally:
        for worker in crew.values():
            worker.process.terminate()
            worker.process.join()


def start(setup: Callable[..., Callable[[Any], Any]], arguments: tuple) -> tuple[Connection, BaseProcess]:
    """A process that answers every job sent through the pipe (`taken` reads the answers) until the pipe is closed."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    process.start()
    theirs.close()  # the worker holds the only other end, so its death reads as an end of file
    ours.send((setup, arguments))
    return ours, process


def _receive(pipe: Connection, worker: _Worker, noun: str) -> Any:
    try:
        answer = pipe.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join()
        raise WorkerError(f"{noun} {worker.job}", f"its process died (exit code {worker.process.exitcode})") from None
    return taken(answer, f"{noun} {worker.job}")


def _work(pipe: Connection) -> None:
    """The worker's side: one thread, then jobs until the parent hangs up."""
    os.environ.update(ONE_THREAD)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    with suppress(EOFError, BrokenPipeError):
        desk = Desk(*pipe.recv())
        while True:
            pipe.send(desk.answer(pipe.recv()))


Answer = tuple[Any, UserError | str | None]
"""A job's result and None, or None and what went wrong: the user's mistake, or a traceback."""


class Desk:
    """What a worker works at, wherever it is; `setup` is called for the first job."""

    def __init__(self, setup: Callable[..., Callable[[Any], Any]], arguments: tuple) -> None:
        self._setup, self._arguments = setup, arguments
        self._run: Callable[[Any], Any] | None = None

    def answer(self, job: Any) -> Answer:
        try:
            self._run = self._run or self._setup(*self._arguments)
            return self._run(job), None
        except UserError as error:
            return None, error
        except Exception:
            return None, traceback.format_exc()


def taken(answer: Answer, job: str) -> Any:
    """The result in a worker's answer, or its error raised here."""
    value, error = answer
    if isinstance(error, UserError):
        raise error
    if error is not None:
        raise WorkerError(job, error)
    return value
