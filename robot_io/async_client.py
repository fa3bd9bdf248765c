"""The policy client for programs that run an event loop: the same protocol and the same refusals as `robot_io.client`.

    async with AsyncPolicyClient("gpu-box:8000", robot_spec=robot.spec) as policy:
        chunk = await policy.infer(observation)

Several tasks may ask at once; requests then wait for one another, as the protocol takes turns. A task that is cancelled while it waits
hangs up, and the next request connects anew.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from robot_io.handshake import (
    LOST,
    RETRY_SECONDS,
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


class AsyncPolicyClient:
    """A served policy. Arguments and attributes are `PolicyClient`'s; it connects when it is entered, or at the first request."""

    def __init__(self, address: str, *, api_key: str | None = None, timeout: float = 60.0, wait: float = 10.0,
                 robot_spec: RobotSpec | None = None, max_bytes: int = MAX_BYTES) -> None:
        self.url = url_of(address)
        self.metadata: dict[str, Any] = {}
        self.spec: RobotSpec | None = None
        self._headers = {"Authorization": f"Api-Key {api_key}"} if api_key else None
        self._timeout, self._wait, self._max_bytes, self._robot_spec = timeout, wait, max_bytes, robot_spec
        self._request_ids = itertools.count(1)
        self._socket: ClientConnection | None = None
        self._turn = asyncio.Lock()

    @property
    def takes_prefix(self) -> bool:
        return self.metadata.get("takes_prefix") is True

    async def infer(self, observation: Observation, prefix: Underway | None = None) -> ActionChunk:
        """Actions for an observation; raises what `PolicyClient.infer` raises."""
        async with self._turn:
            await self._connected()
            check_observation(observation, self.spec.observation)
            started = time.perf_counter()
            message = encode_observation(observation, self.spec.observation) | {"deadline_ms": 1e3 * self._timeout}
            reply = await self._exchange(message if prefix is None else message | encode_prefix(prefix))
        lengths = {"shortest": self.metadata["execute"], "longest": self.metadata["horizon"]}
        chunk = decode_chunk(reply, self.spec.action, **lengths)
        chunk.info["round_trip_ms"] = 1e3 * (time.perf_counter() - started)
        return chunk

    async def reset(self, seed: int = 0) -> None:
        """A new episode starts."""
        async with self._turn:
            await self._connected()
            await self._exchange({"reset": True, "seed": seed})

    async def close(self) -> None:
        if self._socket is not None:
            socket, self._socket = self._socket, None
            await socket.close()

    async def __aenter__(self) -> AsyncPolicyClient:
        async with self._turn:
            await self._connected()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def _connected(self) -> None:
        """Open the connection if there is none, read the first message, and refuse a policy for another robot."""
        if self._socket is not None:
            return
        self._socket = await self._open()
        try:
            metadata = read_answer(await self._receive(), self.url, self._max_bytes)
            spec = read_metadata(metadata, self.url)
            require_compatible(spec, self._robot_spec or self.spec or spec, thing=f"policy '{metadata.get('policy', '?')}' at {self.url}")
        except BaseException:
            await self.close()
            raise
        self.metadata, self.spec = metadata, spec

    async def _open(self) -> ClientConnection:
        deadline = time.monotonic() + self._wait
        while True:
            try:
                with refusals_explained(self.url):
                    return await connect(self.url, additional_headers=self._headers, compression=None, max_size=self._max_bytes,
                                         open_timeout=max(self._wait, 1.0), close_timeout=1.0, ping_timeout=None, proxy=None)
            except LOST as error:
                if time.monotonic() > deadline:
                    raise unreachable(self.url, error) from None
                await asyncio.sleep(RETRY_SECONDS)

    async def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        request_id = next(self._request_ids)
        frame = packb(message | {"request_id": request_id}, max_bytes=self._max_bytes)
        try:
            with losses_explained(self.url, self._timeout):
                await self._socket.send(frame)
            answer = await self._receive()
        except BaseException:
            await self.close()  # or the next request would be given this one's answer
            raise
        reply = read_answer(answer, self.url, self._max_bytes)
        try:
            return require_answer_to(request_id, reply, self.url)
        except BaseException:
            await self.close()
            raise

    async def _receive(self) -> bytes | str:
        with losses_explained(self.url, self._timeout):
            return await asyncio.wait_for(self._socket.recv(), self._timeout)
