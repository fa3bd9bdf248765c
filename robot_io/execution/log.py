"""Writing a run down as it happens, on a thread of its own, so that neither encoding nor the disk ever holds up the arm.

What is logged is the beginning of the run up to the first problem, without a gap. A disk that runs full is noticed while there is
room to finish the episode: what was recorded is saved, and the robot goes on without a log, or not, as the runner decides.
"""

from __future__ import annotations

import contextlib
import queue
import shutil
import threading
from pathlib import Path

import numpy as np

from robot_io.dataset import Recorder
from robot_io.types import Observation

RESERVE = 64 * 2**20
"""Bytes kept free to finish an episode in: trailers, tables, statistics."""


class Log:
    """Records one episode at a time. Only `begin` and `end` wait.

    Args:
        recorder: of the data set; its thread is this log's from now on.
        reserve: free bytes below which the episode is closed.
        backlog: frames that may wait for the disk; more mean that it is too slow.

    Attributes:
        problem: why nothing more is written, None while all is well.
        frames: taken by the recorder, of this episode.
        saved: of those, on disk for good.
    """

    def __init__(self, recorder: Recorder, *, reserve: int = RESERVE, backlog: int = 200) -> None:
        self._recorder, self._reserve = recorder, reserve
        self._waiting: queue.Queue[tuple[Observation, np.ndarray] | None] = queue.Queue(backlog)
        self._thread: threading.Thread | None = None
        self.problem: str | None = None
        self.frames = self.saved = 0

    def begin(self) -> None:
        if self.problem is not None:
            self._recorder = self._recorder.reopened()
        self._recorder.discard_episode()
        self.problem, self.frames, self.saved = None, 0, 0
        self._thread = threading.Thread(target=self._write, daemon=True, name="log")
        self._thread.start()

    def add(self, observation: Observation, action: np.ndarray) -> None:
        """Take a step; returns at once. After a problem it does nothing."""
        if self.problem is None:
            try:
                self._waiting.put_nowait((observation, np.array(action, np.float32)))
            except queue.Full:
                self.problem = f"the disk is too slow: {self._waiting.maxsize} frames are waiting"

    def end(self, success: bool, timeout: float = 60.0) -> bool:
        """Write what is waiting and save the episode. Returns whether it is on disk, `problem` why not or not all of it."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=timeout)
            self._thread.join(timeout)
        if self._thread.is_alive():
            self.problem = f"the disk did not take the rest within {timeout:g} s"
            return False
        if not self.frames:
            return False
        try:
            self._recorder.save_episode(success)
        except Exception as error:
            self.problem = f"the episode could not be saved ({error}); those before it are safe"
            with contextlib.suppress(Exception):
                self._recorder.discard_episode()
            return False
        self.saved = self.frames
        return True

    def finish(self) -> None:
        """Nothing more is going to come: put the data set's statistics right."""
        try:
            self._recorder.finish()
        except Exception as error:
            self.problem = f"the statistics could not be written ({error}); the episodes are safe"

    def _write(self) -> None:
        written = True
        while (step := self._waiting.get()) is not None:
            written = written and self._record(*step)

    def _record(self, observation: Observation, action: np.ndarray) -> bool:
        if (free := shutil.disk_usage(self._existing()).free) < self._reserve:
            self.problem = f"the disk is nearly full: {free / 2**20:.0f} MiB left, {self._reserve / 2**20:.0f} are kept to finish in"
            return False
        try:
            self._recorder.add(observation, action)
        except Exception as error:
            self.problem = f"frame {self.frames} could not be recorded ({error})"
            return False
        self.frames += 1
        return True

    def _existing(self) -> Path:
        folder = self._recorder.root
        while not folder.exists():
            folder = folder.parent
        return folder
