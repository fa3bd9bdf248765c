"""Drive a robot with a policy that runs on another machine. Needs NumPy, msgpack and websockets; no torch.

    with PolicyClient("gpu-box:8000", robot_spec=robot.spec) as driver:
        chunk = driver.infer(robot.observe())

The client is a `robot_io.robot.Driver`, so whatever runs a policy in this process runs a served one. It opens a
websocket that speaks openpi's protocol (`robot_io.messages`), reads the server's first message and refuses a policy
that was made for another robot before anything moves. Each observation is checked before it is sent and each reply
before it is returned. Requests and replies alternate; use one client per thread.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect

from robot_io.errors import UserError
from robot_io.messages import check_observation, decode_chunk, encode_observation, encode_prefix
from robot_io.specs import RobotSpec, require_compatible
from robot_io.types import ActionChunk, Observation, Underway
from robot_io.wire import MAX_BYTES, packb, unpackb

DEFAULT_PORT = 8000
RETRY_SECONDS = 0.25


class ServerLost(UserError):
    """The server did not answer: hold the robot. The next request connects anew."""


class PolicyClient:
    """A served policy, used like one in this process.

    Attributes:
        url: where the server is.
        spec: the robot the policy was made for, from the server's first message.
        metadata: that message: also `policy`, `recipe_hash`, `horizon`, `execute`, `server_version`.
    """

    def __init__(
        self,
        address: str,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        wait: float = 10.0,
        robot_spec: RobotSpec | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Connect.

        Args:
            address: `host`, `host:port` (8000 if none is given), or a `ws://` or `wss://` URL.
            api_key: the server's key, if it wants one.
            timeout: seconds to wait for each reply; the first may include warming up.
            wait: seconds to go on trying while the server is not there yet.
            robot_spec: the robot to be driven; a policy that does not fit it is refused.
            max_bytes: the largest message sent or accepted.

        Raises:
            SpecMismatch: the policy was made for another robot; lists every difference.
            UserError: nobody answers, the key is wrong, or it is another kind of server.
        """
        self.url = _url(address)
        self.metadata: dict[str, Any] = {}
        self._headers = {"Authorization": f"Api-Key {api_key}"} if api_key else None
        self._timeout, self._wait, self._max_bytes = timeout, wait, max_bytes
        self._robot_spec = robot_spec
        self._request_ids = itertools.count(1)
        self._socket: ClientConnection | None = None
        self._connect()

    @property
    def takes_prefix(self) -> bool:
        """Whether the policy can go on from what the robot is doing meanwhile (`infer(…, prefix=…)`)."""
        return self.metadata.get("takes_prefix") is True

    def infer(self, observation: Observation, prefix: Underway | None = None) -> ActionChunk:
        """Actions for an observation, and for what the robot is doing meanwhile.

        Raises:
            ServerLost: no answer in time, or the connection broke.
            UserError: the observation does not fit the policy, or the server refused it or failed; says why.
        """
        check_observation(observation, self.spec.observation)
        started = time.perf_counter()
        message = encode_observation(observation, self.spec.observation)
        reply = self._exchange(message if prefix is None else message | encode_prefix(prefix))
        chunk = decode_chunk(
            reply, self.spec.action, shortest=self.metadata["execute"], longest=self.metadata["horizon"]
        )
        chunk.info["round_trip_ms"] = 1e3 * (time.perf_counter() - started)
        return chunk

    def reset(self, seed: int = 0) -> None:
        """Tell the policy that a new episode starts; what it draws from then on follows from `seed`."""
        self._exchange({"reset": True, "seed": seed})

    def close(self) -> None:
        """Hang up. A later request would connect again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _connect(self) -> None:
        """Open the connection, read the first message, and refuse a policy for another robot."""
        self._socket = self._open()
        try:
            with self._losses_explained():
                metadata = self._read(self._socket.recv(timeout=self._timeout))
            spec = _read_metadata(metadata, self.url)
            # After a broken connection another policy may be served there: it must fit as the first one did.
            robot = self._robot_spec or (self.spec if self.metadata else spec)
            require_compatible(spec, robot, thing=f"policy '{metadata.get('policy', '?')}' at {self.url}")
        except BaseException:
            self.close()
            raise
        self.metadata, self.spec = metadata, spec

    def _open(self) -> ClientConnection:
        deadline = time.monotonic() + self._wait
        while True:
            try:
                # The server may think for longer than a ping waits; `timeout` decides when a reply is too late.
                # The way to a robot is direct, whatever web proxy the environment names.
                return connect(
                    self.url,
                    additional_headers=self._headers,
                    compression=None,
                    max_size=self._max_bytes,
                    open_timeout=max(self._wait, 1.0),
                    close_timeout=1.0,
                    ping_timeout=None,
                    proxy=None,
                )
            except (OSError, EOFError) as error:
                if time.monotonic() > deadline:
                    raise ServerLost(
                        f"policy server at {self.url}",
                        f"cannot be reached ({error})",
                        "a running server",
                        "start it with `vla serve`, and check host, port and firewall",
                    ) from None
                time.sleep(RETRY_SECONDS)
            except InvalidStatus as error:
                raise _refused(self.url, error.response.status_code) from None
            except (InvalidHandshake, InvalidURI) as error:
                raise UserError(
                    f"server at {self.url}",
                    f"does not speak the websocket protocol ({error})",
                    "a policy server",
                    "check host and port",
                ) from None

    def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send one message, return the server's answer to it."""
        request_id = next(self._request_ids)
        frame = packb(message | {"request_id": request_id}, max_bytes=self._max_bytes)
        if self._socket is None:
            self._connect()
        try:
            with self._losses_explained():
                self._socket.send(frame)
                answer = self._socket.recv(timeout=self._timeout)
        except BaseException:
            # Interrupted between request and answer: hang up, or the next request would be given this one's answer.
            self.close()
            raise
        reply = self._read(answer)
        if not isinstance(reply, dict) or reply.get("request_id") != request_id:
            self.close()
            raise ServerLost(
                f"policy server at {self.url}", "answered another request", f"request {request_id}", "hold the robot"
            )
        return reply

    def _read(self, answer: bytes | str) -> Any:
        """Decode an answer. Text is openpi's way to report an error; the connection stays usable."""
        if isinstance(answer, str):
            raise UserError(f"policy server at {self.url}", f"it answered: {answer}")
        return unpackb(answer, max_bytes=self._max_bytes)

    @contextmanager
    def _losses_explained(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise ServerLost(
                f"policy server at {self.url}",
                f"no answer within {self._timeout:g} s",
                "one in time",
                "hold the robot; check the server, or raise the timeout",
            ) from None
        except ConnectionClosed as error:
            raise ServerLost(
                f"policy server at {self.url}",
                f"the connection was lost ({error})",
                "an open connection",
                "hold the robot; see the server's log",
            ) from None


def _url(address: str) -> str:
    if "://" in address:
        parts = urlsplit(address)
        if parts.scheme in ("ws", "wss") and parts.hostname:
            return address
        raise UserError(f"policy server '{address}'", f"scheme '{parts.scheme}'", "ws:// or wss://", "write host:port")
    parts = urlsplit(f"//{address}")
    try:
        port = parts.port or DEFAULT_PORT
    except ValueError:
        port = None
    if not parts.hostname or port is None:
        raise UserError(
            f"policy server '{address}'", "not an address", "host or host:port", "for example 127.0.0.1:8000"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"ws://{host}:{port}"


def _read_metadata(metadata: Any, url: str) -> RobotSpec:
    """The robot spec in a server's first message."""
    if not isinstance(metadata, dict) or "robot_spec" not in metadata:
        raise UserError(
            f"policy server at {url}",
            "does not say which robot its policy was made for",
            "a server of this project",
            "serve the policy with `vla serve`",
        )
    lengths = metadata.get("execute"), metadata.get("horizon")
    if not all(type(length) is int for length in lengths) or not 1 <= lengths[0] <= lengths[1]:
        raise UserError(
            f"policy server at {url}",
            f"announces execute {lengths[0]!r}, horizon {lengths[1]!r}",
            "1 <= execute <= horizon",
            "serve the policy with `vla serve`",
        )
    return RobotSpec.from_dict(metadata["robot_spec"])


def _refused(url: str, status: int) -> UserError:
    if status == 401:
        return UserError(
            f"policy server at {url}",
            "the API key is missing or wrong",
            "the server's own",
            "pass api_key, the key the server was started with",
        )
    return UserError(f"server at {url}", f"refused with HTTP status {status}", "a policy server", "check host and port")
