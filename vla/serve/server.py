"""A policy on a socket: openpi's websocket protocol, so robots and simulators that speak it connect unchanged.

On connecting, the server speaks first and says what it serves: the robot spec and its hash, horizon and execute, the
policy's name and recipe. Then each binary frame with an observation is answered by one with actions; an error is a
short text frame, after which the connection goes on. The keys are listed in `robot_io.messages`. `GET /healthz` on the
same port answers `OK`.

Inference runs in one worker thread, away from the event loop: while the policy thinks, pings, health checks and other
robots are still answered. All connections share one policy; each has a session of its own (its seed, what trackers follow).

Security: frames are data, never code; loopback by default, and beyond it only with an API key; web pages are turned
away (browsers send `Origin`, robots do not); message size is bounded; a peer sees one-line errors, the log the
traceback.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol, TypeVar

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from robot_io.errors import UserError
from robot_io.messages import decode_observation, encode_chunk
from robot_io.robot import Driver
from robot_io.specs import RobotSpec
from robot_io.types import ActionChunk, Observation
from robot_io.wire import MAX_BYTES, WireError, packb, unpackb
from vla.serve.listen import listen, require_key_beyond_loopback

LOG = logging.getLogger("vla.serve")
LONGEST_ERROR = 1000
LONGEST_REQUEST_ID = 128
CLOSE_SECONDS = 2.0

Result = TypeVar("Result")


class ServedRecipe(Protocol):
    """What the first message says about how a policy was made."""

    name: str
    hash: str
    horizon: int
    execute: int


class ServedPolicy(Protocol):
    """What can be served: a `vla.Policy`, or anything that knows its robot and its chunk lengths and opens drivers."""

    spec: RobotSpec
    recipe: ServedRecipe

    def session(self) -> Driver:
        """A driver for one connection."""
        ...


class PolicyServer:
    """Serve one policy: `serve_forever()` for a program, `with PolicyServer(…) as server:` for tests and notebooks.

    Attributes:
        url: where clients connect; known once the server runs, if the port was 0.
        metadata: the first message.
    """

    def __init__(
        self,
        policy: ServedPolicy,
        host: str = "127.0.0.1",
        port: int = 8000,
        *,
        api_key: str | None = None,
        max_bytes: int = MAX_BYTES,
        ping_interval: float | None = 20.0,
        ping_timeout: float | None = 120.0,
    ) -> None:
        """Prepare; nothing listens yet.

        Args:
            host, port: where to listen; port 0 picks a free one.
            api_key: clients must send `Authorization: Api-Key KEY`. Required beyond loopback.
            max_bytes: the largest message accepted.
            ping_interval, ping_timeout: seconds; a peer that answers no ping for so long is disconnected (a simulator
                that boots may hold its interpreter for a minute). None: never.

        Raises:
            UserError: a host beyond loopback without a key, or a policy that reads a simulator's ground truth.
        """
        require_key_beyond_loopback(host, api_key)
        if getattr(policy, "oracle", False):
            raise UserError("policy", "its perception is an oracle that reads a simulator's ground truth",
                            "perception that a robot has", "use a detector: see `vla list perception`")
        self.policy, self.host, self.port = policy, host, port
        self._api_key, self._max_bytes = api_key or None, max_bytes
        self._pings = {"ping_interval": ping_interval, "ping_timeout": ping_timeout}
        self.metadata = _metadata(policy)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        return f"ws://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def serve_forever(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGINT or SIGTERM, then hang up, let the running inference end, and return."""
        asyncio.run(self._run(listen(self.host, self.port), on_ready, handle_signals=True))

    def start(self) -> PolicyServer:
        """Serve from a background thread; returns once clients can connect."""
        listener = listen(self.host, self.port)
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(listener, lambda: ready.set_result(None), handle_signals=False)),
            name="policy-server",
            daemon=True,
        )
        self._thread.start()
        ready.result(timeout=30)
        return self

    def stop(self) -> None:
        """End what `start` started."""
        self._stop()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> PolicyServer:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    async def _run(self, listener: socket.socket, on_ready: Callable[[], None], *, handle_signals: bool) -> None:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        self.port = listener.getsockname()[1]
        self._stop = lambda: loop.call_soon_threadsafe(stopping.set)
        if handle_signals:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stopping.set)
        # Requests and replies alternate, so a peer has no reason to queue more than one frame of `max_bytes`.
        async with serve(
            self._on_connection,
            sock=listener,
            process_request=self._on_request,
            origins=[None],
            compression=None,
            max_size=self._max_bytes,
            max_queue=1,
            close_timeout=CLOSE_SECONDS,
            **self._pings,
        ):
            on_ready()
            await stopping.wait()
            for number in (signal.SIGINT, signal.SIGTERM) if handle_signals else ():
                loop.remove_signal_handler(number)  # a second Ctrl-C does not wait
        self._stop = lambda: None

    def _on_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer health checks, turn away a wrong key; None goes on to the websocket handshake."""
        if request.path == "/healthz":
            return connection.respond(HTTPStatus.OK, "OK\n")
        if self._api_key is not None:
            sent = request.headers.get_all("Authorization")
            expected = f"Api-Key {self._api_key}"
            if len(sent) != 1 or not hmac.compare_digest(sent[0].encode(errors="surrogateescape"), expected.encode()):
                return connection.respond(HTTPStatus.UNAUTHORIZED, "missing or wrong API key\n")
        return None

    async def _on_connection(self, connection: ServerConnection) -> None:
        """Talk to one client until it leaves."""
        with suppress(ConnectionClosed):
            await connection.send(packb(self.metadata))
            timing: dict[str, float] = {}
            session = self.policy.session()
            async for frame in connection:
                received = time.perf_counter()
                await connection.send(await self._answer(session, frame, timing))
                timing = {"prev_total_ms": _milliseconds_since(received)}

    async def _answer(self, session: Driver, frame: bytes | str, timing: dict[str, float]) -> bytes | str:
        """The frame that answers `frame`: bytes, or text if something is wrong."""
        try:
            return packb(await self._reply(session, _read(frame, self._max_bytes), timing))
        except UserError as error:
            return str(error)[:LONGEST_ERROR]
        except Exception:
            LOG.exception("the policy failed on an observation")
            return "the policy failed on this observation; the server's log has the details"

    async def _reply(self, session: Driver, message: dict[str, Any], timing: dict[str, float]) -> dict[str, Any]:
        received = time.perf_counter()
        reply = {"request_id": message["request_id"]} if "request_id" in message else {}
        if message.get("reset") is True:
            seed = _seed(message)
            await self._in_worker(lambda: session.reset(seed))
            if "observation/state" not in message:
                return reply | {"reset": True}
        observation = decode_observation(message, self.policy.spec.observation)
        chunk, infer_ms = await self._in_worker(lambda: _infer(session, observation))
        reply |= encode_chunk(chunk) | {"policy_timing": {"infer_ms": infer_ms}}
        # What the server took also holds the time spent waiting for other robots' requests.
        return reply | {"server_timing": {"infer_ms": _milliseconds_since(received), **timing}}

    async def _in_worker(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)


def _infer(session: Driver, observation: Observation) -> tuple[ActionChunk, float]:
    started = time.perf_counter()
    return session.infer(observation), _milliseconds_since(started)


def _read(frame: bytes | str, max_bytes: int) -> dict[str, Any]:
    """The dict in a client's frame."""
    message = unpackb(frame, max_bytes=max_bytes) if isinstance(frame, bytes) else frame
    if not isinstance(message, dict):
        raise WireError(
            "frame",
            f"holds a {type(message).__name__}",
            "a dict, as binary msgpack",
            "send an observation as openpi_client does",
        )
    request_id = message.get("request_id", 0)
    if not isinstance(request_id, (int, str)) or len(str(request_id)) > LONGEST_REQUEST_ID:
        raise WireError(
            "'request_id'", f"a {type(request_id).__name__}", "an integer or a short text", "count the requests"
        )
    return message


def _seed(message: dict[str, Any]) -> int:
    seed = message.get("seed", 0)
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise WireError("'seed'", f"{seed!r:.60}", "an integer from 0 to 2^63 - 1", "send the number of the episode")
    return seed


def _metadata(policy: ServedPolicy) -> dict[str, Any]:
    try:
        server_version = version("swapvla")
    except PackageNotFoundError:  # run from a checkout that is not installed
        server_version = "unknown"
    return {
        "robot_spec": policy.spec.to_dict(),
        "spec_hash": policy.spec.hash,
        "policy": policy.recipe.name,
        "recipe_hash": policy.recipe.hash,
        "horizon": policy.recipe.horizon,
        "execute": policy.recipe.execute,
        "server_version": server_version,
    }


def _milliseconds_since(start: float) -> float:
    return 1e3 * (time.perf_counter() - start)
