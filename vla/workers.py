"""Independent jobs on several processes, handed out one by one, results in the order they finish.

Evaluation runs trials and collection records demonstrations through this. Every job runs in a spawned process on one
thread, so that what it computes depends on the job alone: not on how many workers there are nor on who got which.
A job that raises, or a worker that dies, ends the whole run with one error that names the job.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from robot_io import UserError


class WorkerError(RuntimeError):
    """A job failed in a way that is not the user's mistake. `job` says which."""

    def __init__(self, job: str, cause: str) -> None:
        self.job, self.cause = job, cause
        super().__init__(f"{job} failed: {cause}")


@dataclass
class _Worker:
    process: BaseProcess
    job: Any


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
    queue = iter(jobs)
    crew: dict[Connection, _Worker] = {}
    try:
        for job in itertools.islice(queue, workers):
            pipe, process = _start(setup, arguments)
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


def _start(setup: Callable, arguments: tuple) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    process.start()
    theirs.close()  # the worker holds the only other end, so its death reads as an end of file
    ours.send((setup, arguments))
    return ours, process


def _receive(pipe: Connection, worker: _Worker, noun: str) -> Any:
    try:
        value, error = pipe.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join()
        raise WorkerError(f"{noun} {worker.job}", f"its process died (exit code {worker.process.exitcode})") from None
    if isinstance(error, UserError):
        raise error
    if error is not None:
        raise WorkerError(f"{noun} {worker.job}", error)
    return value


def _work(pipe: Connection) -> None:
    """The worker's side: one thread, then jobs until the parent hangs up."""
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    try:
        setup, arguments = pipe.recv()
        run = setup(*arguments)
        while True:
            pipe.send((run(pipe.recv()), None))
    except (EOFError, BrokenPipeError):
        return
    except UserError as error:
        pipe.send((None, error))
    except Exception:
        pipe.send((None, traceback.format_exc()))
