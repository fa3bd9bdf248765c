"""A Robotiq two-finger gripper through the socket that Robotiq's URCap opens on the UR's controller (port 63352).

Lines of ASCII: `SET POS 120` is answered `ack`, `GET POS` by `POS 120`; positions go from 0 (open) to 255 (closed).
"""

from __future__ import annotations

import socket
import time

from robot_io.errors import UserError

PORT = 63352
ACTIVE = 3  # STA, once the fingers have found their ends


class Robotiq:
    """Opens and closes a gripper.

    Args:
        speed, force: 0 to 255.

    Raises:
        UserError: nobody answers there.
    """

    def __init__(self, host: str, port: int = PORT, speed: int = 255, force: int = 80) -> None:
        self._where = f"gripper at {host}:{port}"
        self._sent: int | None = None
        try:
            self._socket = socket.create_connection((host, port), timeout=2.0)
            self._activate()
            self._set("SPE", speed)
            self._set("FOR", force)
            self._set("GTO", 1)
        except OSError as error:
            raise UserError(self._where, f"cannot be reached ({error})", "Robotiq's URCap, running on the controller",
                            "install the URCap, power the gripper on the pendant, check the address") from None

    def move(self, opening: float) -> None:
        """Go to an opening, 0 closed … 1 open. Returns at once; sends nothing if that is where it is going already."""
        position = round(255 * (1 - min(max(opening, 0.0), 1.0)))
        if position != self._sent:
            self._set("POS", position)
            self._sent = position

    def opening(self) -> float:
        """As measured."""
        return 1 - self._get("POS") / 255

    def close(self) -> None:
        self._socket.close()

    def _activate(self, timeout: float = 10.0) -> None:
        if self._get("STA") == ACTIVE:
            return
        self._set("ACT", 1)
        deadline = time.monotonic() + timeout
        while self._get("STA") != ACTIVE:
            if time.monotonic() > deadline:
                raise UserError(self._where, "does not become active", f"status {ACTIVE}", "look at its light and at the pendant")
            time.sleep(0.1)

    def _set(self, name: str, value: int) -> None:
        answer = self._ask(f"SET {name} {value}")
        if answer != "ack":
            raise UserError(self._where, f"answered {answer!r} to SET {name} {value}", "'ack'", "look at the gripper and the pendant")

    def _get(self, name: str) -> int:
        answer = self._ask(f"GET {name}").split()
        if len(answer) != 2 or answer[0] != name or not answer[1].isdigit():
            raise UserError(self._where, f"answered {answer} to GET {name}", f"'{name} NUMBER'", "look at the gripper and the pendant")
        return int(answer[1])

    def _ask(self, line: str) -> str:
        # The URCap ends some of its answers with a line feed and others not at all; it sends each in one piece.
        self._socket.sendall(f"{line}\n".encode("ascii"))
        return self._socket.recv(1024).decode("ascii", "replace").strip()
