"""Policies on a socket. Robots and simulators that speak openpi's, vla-eval's, OpenVLA's or GR00T's protocol connect unchanged.

On one port: openpi's websocket protocol (`/`, or `/policies/NAME` where several are served), vla-eval's (`/vla-eval`,
`/vla-eval/NAME`), and plain `GET /healthz` (it lives), `/readyz` (it accepts robots), `/policies`, `/metrics` (Prometheus). OpenVLA's
REST interface and GR00T's ZMQ socket have ports of their own (`vla.serve.adapters`).

Inference runs in a worker thread, one for each copy of a policy, away from the event loop (`vla.serve.batcher`): while a policy thinks, pings,
health checks and other robots are still answered. When it is told to stop, the server takes no new client, answers what it has been asked, and
hangs up.

Security: frames are data, never code; loopback by default, and beyond it only with an API key; TLS if given a certificate; web pages
are turned away (browsers send `Origin`, robots do not); sizes, connections, queue and pace are bounded (`vla.serve.limits`); a peer
sees one-line errors, the log the traceback.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from robot_io.errors import UserError, nearest
from vla.serve import openpi
from vla.serve.adapters import vla_eval
from vla.serve.adapters.adapter import Adapter
from vla.serve.allocator import keep_memory
from vla.serve.limits import Limits
from vla.serve.listen import key_fits, listen, require_key_beyond_loopback, tls_context
from vla.serve.service import Seat, ServedPolicy, Service

LOG = logging.getLogger("vla.serve")
CLOSE_SECONDS = 2.0
PROTOCOLS = {"policies": openpi.converse, "vla-eval": vla_eval.converse}
"""What is spoken under `/NAME` and `/NAME/POLICY`; under `/` it is openpi's."""


class PolicyServer:
    """Serve policies: `serve_forever()` for a program, `with PolicyServer(…) as server:` for tests and notebooks.

    Attributes:
        url: where clients connect; known once the server runs, if the port was 0.
        service: the policies; `service.reload(name, policy)` exchanges one without dropping a connection.
    """

    def __init__(
        self,
        policies: ServedPolicy | Mapping[str, ServedPolicy],
        host: str = "127.0.0.1",
        port: int = 8000,
        *,
        api_key: str | None = None,
        tls: tuple[Path, Path] | None = None,
        limits: Limits | None = None,
        adapters: Sequence[Adapter] = (),
        ping_interval: float | None = 20.0,
        ping_timeout: float | None = 120.0,
    ) -> None:
        """Prepare; nothing listens yet.

        Args:
            policies: one, or several by name, the first of which is for clients that name none.
            host, port: where to listen; port 0 picks a free one.
            api_key: clients must send `Authorization: Api-Key KEY`. Required beyond loopback.
            tls: files of a certificate chain and of its private key (PEM); clients then connect to `wss://`.
            adapters: further protocols, on ports of their own.
            ping_interval, ping_timeout: seconds; a peer that answers no ping for so long is disconnected (a simulator
                that boots may hold its interpreter for a minute). None: never.

        Raises:
            UserError: a host beyond loopback without a key, a policy that reads a simulator's ground truth, a bad certificate.
        """
        require_key_beyond_loopback(host, api_key)
        self.host, self.port, self.adapters = host, port, tuple(adapters)
        self.limits, self._api_key = limits or Limits(), api_key or None
        self._tls = None if tls is None else tls_context(*tls)
        self._pings = {"ping_interval": ping_interval, "ping_timeout": ping_timeout}
        alone = not isinstance(policies, Mapping)
        self.service = Service({_addressable(policies.recipe.name): policies} if alone else policies, self.limits)
        self._clients = 0
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        return f"{'ws' if self._tls is None else 'wss'}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def serve_forever(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGINT or SIGTERM; then answer what was asked, hang up, and return."""
        keep_memory()
        _run(self._serve(listen(self.host, self.port), on_ready, handle_signals=True))

    def start(self) -> PolicyServer:
        """Serve from a background thread; returns once clients can connect."""
        listener = listen(self.host, self.port)
        ready: Future[None] = Future()

        def run() -> None:
            try:
                _run(self._serve(listener, lambda: ready.set_result(None), handle_signals=False))
            except BaseException as error:
                if ready.done():
                    raise
                ready.set_exception(error)

        self._thread = threading.Thread(target=run, name="policy-server", daemon=True)
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

    async def _serve(self, listener: socket.socket, on_ready: Callable[[], None], *, handle_signals: bool) -> None:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        self.port = listener.getsockname()[1]
        self._stop = lambda: loop.call_soon_threadsafe(stopping.set)
        if handle_signals:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stopping.set)
        async with AsyncExitStack() as stack:
            self.service.start()
            stack.callback(self.service.close)
            # Requests and replies alternate, so a peer has no reason to queue more than one frame of `max_bytes`.
            server = await stack.enter_async_context(serve(
                self._on_connection, sock=listener, ssl=self._tls, process_request=self._on_request, origins=[None],
                compression=None, max_size=self.limits.max_bytes, max_queue=1, close_timeout=CLOSE_SECONDS, **self._pings))
            for adapter in self.adapters:
                await stack.enter_async_context(adapter.serving(self.service, self.host, self._api_key, self._tls))
            on_ready()
            await stopping.wait()
            for number in (signal.SIGINT, signal.SIGTERM) if handle_signals else ():
                loop.remove_signal_handler(number)  # a second Ctrl-C does not wait
            server.close(close_connections=False)
            await self.service.silence()
            await asyncio.gather(*(connection.close(1001, "the server stops") for connection in server.connections))
        self._stop = lambda: None

    def _on_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer plain GETs, turn away a wrong key or an unknown path; None goes on to the websocket handshake."""
        path, service = request.path.partition("?")[0], self.service
        if path == "/healthz":
            return connection.respond(HTTPStatus.OK, "OK\n")
        if path in ("/readyz", "/health"):  # the second is vla-eval's word for it
            if service.draining:
                return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "stopping\n")
            return _json(connection, {"status": "ok"})
        if not key_fits(request.headers.get_all("Authorization"), self._api_key):
            return connection.respond(HTTPStatus.UNAUTHORIZED, "missing or wrong API key\n")
        if path == "/policies":
            return _json(connection, {name: {"recipe": p.recipe.name, "recipe_hash": p.recipe.hash, "spec_hash": p.spec.hash}
                                      for name, p in service.policies.items()})
        if path == "/metrics":
            return connection.respond(HTTPStatus.OK, service.metrics.expose(list(service.policies)).decode())
        if self._clients >= self.limits.max_connections:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, f"{self._clients} clients are connected, and no more may be\n")
        try:
            self._place(path)
        except UserError as error:
            return connection.respond(HTTPStatus.NOT_FOUND, f"{error}\n")
        return None

    def _place(self, path: str) -> tuple[Callable[..., Any], Seat]:
        """The protocol and the seat that a path leads to."""
        protocol, _, name = path.strip("/").partition("/")
        if protocol and protocol not in PROTOCOLS:
            raise UserError(f"path '{path}'", "nothing is there", "/, /policies/NAME or /vla-eval", nearest(protocol, PROTOCOLS))
        return PROTOCOLS[protocol or "policies"], self.service.seat(name or None)

    async def _on_connection(self, connection: ServerConnection) -> None:
        """Talk to one client until it leaves."""
        converse, seat = self._place(connection.request.path.partition("?")[0])
        self._clients += 1
        with suppress(ConnectionClosed), self.service.metrics.connections.track_inprogress():
            try:
                await converse(connection, seat)
            finally:
                self._clients -= 1


def _run(main: Coroutine[Any, Any, None]) -> None:
    """`asyncio.run`, on uvloop where that is installed: it moves a frame of pictures in two thirds of the CPU time."""
    try:
        from uvloop import new_event_loop
    except ImportError:  # not made for Windows
        new_event_loop = None
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main)


def _addressable(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-") or "policy"


def _json(connection: ServerConnection, content: Any) -> Response:
    response = connection.respond(HTTPStatus.OK, json.dumps(content) + "\n")
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = "application/json"
    return response
