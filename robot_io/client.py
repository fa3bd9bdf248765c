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
from typing import Any

from websockets.sync.client import ClientConnection, connect

from robot_io.handshake import (
    LOST,
    RETRY_SECONDS,
    ServerLost,
    losses_explained,
    read_answer,
    read_metadata,
    refusals_explained,
    require_answer_to,
    unreachable,
    url_of,
)
from robot_io.messages import check_observation, decode_chunk, encode_observation, encode_prefix
from robot_io.specs import RobotSpec, require_compatible
from robot_io.types import ActionChunk, Observation, Underway
from robot_io.wire import MAX_BYTES, packb

__all__ = ["PolicyClient", "ServerLost"]


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
        self.url = url_of(address)
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
        message = encode_observation(observation, self.spec.observation) | {"deadline_ms": 1e3 * self._timeout}
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
            with losses_explained(self.url, self._timeout):
                metadata = read_answer(self._socket.recv(timeout=self._timeout), self.url, self._max_bytes)
            spec = read_metadata(metadata, self.url)
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
                with refusals_explained(self.url):
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
            except LOST as error:
                if time.monotonic() > deadline:
                    raise unreachable(self.url, error) from None
                time.sleep(RETRY_SECONDS)

    def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send one message, return the server's answer to it."""
        request_id = next(self._request_ids)
        frame = packb(message | {"request_id": request_id}, max_bytes=self._max_bytes)
        if self._socket is None:
            self._connect()
        try:
            with losses_explained(self.url, self._timeout):
                self._socket.send(frame)
                answer = self._socket.recv(timeout=self._timeout)
        except BaseException:
            # Interrupted between request and answer: hang up, or the next request would be given this one's answer.
            self.close()
            raise
        reply = read_answer(answer, self.url, self._max_bytes)
        try:
            return require_answer_to(request_id, reply, self.url)
        except ServerLost:
            self.close()
            raise
