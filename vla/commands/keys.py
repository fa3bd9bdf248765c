"""The keyboard as the human's hand on the robot: space pauses and continues, q stops. Where there is no terminal it does nothing."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading

from robot_io import UserError
from robot_io.execution.human import Human


class Keys:
    """Listens while it is entered."""

    def __init__(self, human: Human) -> None:
        self._human = human
        self._done = threading.Event()
        self._answer = threading.Event()
        self._thread: threading.Thread | None = None
        self._settings: list | None = None

    def __enter__(self) -> Keys:
        if sys.stdin.isatty():
            import termios
            import tty

            self._settings = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)
            self._thread = threading.Thread(target=self._listen, daemon=True, name="keys")
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        if self._thread is not None:
            import termios

            self._thread.join(1.0)
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._settings)

    def confirm(self, question: str) -> None:
        """Wait for Enter; q stops instead.

        Raises:
            UserError: there is no terminal to ask on.
        """
        if self._thread is None:
            raise UserError("robot", "is going to move, and there is no terminal to ask on", "a human's word", "pass --yes")
        print(question, file=sys.stderr, end="", flush=True)
        self._answer.clear()
        while not self._answer.wait(0.1) and not self._human.stopped:
            pass
        print(file=sys.stderr)

    def _listen(self) -> None:
        while not self._done.is_set():
            with contextlib.suppress(OSError):
                if select.select([sys.stdin], [], [], 0.1)[0]:
                    self.press(os.read(sys.stdin.fileno(), 1).decode(errors="replace"))

    def press(self, key: str) -> None:
        if key == "q":
            self._human.stop()
        elif key == " ":
            self._human.release() if self._human.in_charge else self._human.pause()
        elif key in "\r\n":
            self._answer.set()
