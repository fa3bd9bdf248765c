"""OpenVLA's REST interface, `POST /act`, on a port of its own: for clients of OpenVLA, OpenVLA-OFT and their relatives.

The body is JSON with arrays as `json_numpy` writes them, or `{"encoded": "…"}` around that text, then answered in kind. OpenVLA sends
`image` and `instruction` and gets one action `[A]`; OFT sends `full_image`, pictures whose key contains `wrist`, `state` and
`instruction`, and gets the list of actions to carry out before it asks again. Pictures are taken in this order for the policy's cameras.

HTTP has no episodes: every request begins one, unless it names a `session` (text, ours), which is remembered until it sends `reset`.
What is wrong is answered with a 4xx or 5xx status, the JSON text `"error"` that these clients look for, and one line in `X-Error`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_io import UserError
from robot_io.messages import decode_observation
from robot_io.wire import MAX_ITEMS, WireError, read_array
from vla.serve.adapters.adapter import Seats
from vla.serve.adapters.keys import message
from vla.serve.batcher import Busy, Late
from vla.serve.listen import key_fits, listen, require_key_beyond_loopback
from vla.serve.service import Seat, Service, what_to_tell

if TYPE_CHECKING:
    from aiohttp import web

DEFAULT_PORT = 8777
LONGEST_SESSION = 128


class OpenVLARest:
    """`POST /act`, `POST /act/POLICY` and `GET /healthz` at `port` (0: a free one, known once it runs)."""

    def __init__(self, port: int = DEFAULT_PORT) -> None:
        self.port = port

    @asynccontextmanager
    async def serving(self, service: Service, host: str, api_key: str | None, tls: ssl.SSLContext | None) -> AsyncIterator[None]:
        from aiohttp import web

        require_key_beyond_loopback(host, api_key)
        rest = _Rest(service, api_key)
        # Base64 takes a third more than the bytes it carries.
        app = web.Application(client_max_size=service.limits.max_bytes * 4 // 3)
        app.add_routes([web.post("/act", rest.act), web.post("/act/{policy}", rest.act), web.get("/healthz", rest.healthz)])
        listener = listen(host, self.port)
        self.port = listener.getsockname()[1]
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=service.limits.drain)
        await runner.setup()
        try:
            await web.SockSite(runner, listener, ssl_context=tls).start()
            yield
        finally:
            await runner.cleanup()


class _Rest:
    def __init__(self, service: Service, api_key: str | None) -> None:
        self.service, self._api_key, self._seats = service, api_key, Seats(service)
        self._episodes = 0

    async def healthz(self, request: web.Request) -> web.Response:
        from aiohttp import web

        return web.Response(text="OK\n")

    async def act(self, request: web.Request) -> web.Response:
        """Answer one observation."""
        if not key_fits(request.headers.getall("Authorization", []), self._api_key):
            return _error(401, "missing or wrong API key")
        if "Origin" in request.headers:
            return _error(403, "web pages may not drive robots")
        if self.service.draining:
            return _error(503, "the server stops")
        with self.service.answering():
            try:
                body = await request.read()
                payload, encoded = await asyncio.to_thread(_read, body)
                actions = await self._answer(payload, request.match_info.get("policy"))
                return _json(actions, encoded)
            except Exception as error:
                status = 503 if isinstance(error, (Busy, Late)) else 400 if isinstance(error, UserError) else getattr(error, "status", 500)
                return _error(status, what_to_tell(error) if status != 413 else "the body is too long")

    async def _answer(self, payload: dict[str, Any], policy: str | None) -> Any:
        seat = await self._seat(payload, policy)
        one = "full_image" not in payload
        wrists = [value for key, value in payload.items() if "wrist" in key]
        pictures = [payload.get("image" if one else "full_image"), *wrists]
        ours = message(seat.policy, pictures, payload.get("state"), payload.get("instruction"))
        chunk, _ = await seat.infer(decode_observation(ours, seat.policy.spec.observation))
        return chunk.actions[0] if one else list(chunk.actions[: seat.policy.recipe.execute])

    async def _seat(self, payload: dict[str, Any], policy: str | None) -> Seat:
        """The session's, or a new one with a seed of its own."""
        session, self._episodes = payload.get("session"), self._episodes + 1
        if session is None:
            seat = self.service.seat(policy)
        elif isinstance(session, str) and len(session) <= LONGEST_SESSION:
            seat = self._seats.of(session, policy)
        else:
            raise WireError("'session'", f"a {type(session).__name__}", f"text of at most {LONGEST_SESSION} characters", "name the robot")
        if session is None or payload.get("reset") is True:
            await seat.reset(self._episodes)
        return seat


def _read(body: bytes) -> tuple[dict[str, Any], bool]:
    """The request, and whether it was encoded twice."""
    payload = _loads(body)
    encoded = isinstance(payload, dict) and "encoded" in payload
    if encoded:
        if not isinstance(payload["encoded"], str):
            raise WireError("'encoded'", f"a {type(payload['encoded']).__name__}", "JSON text", "send json_numpy.dumps(payload)")
        payload = _loads(payload["encoded"])
    if not isinstance(payload, dict):
        raise WireError("body", f"holds a {type(payload).__name__}", "a JSON object", "send image and instruction")
    return payload, encoded


def _loads(text: str | bytes) -> Any:
    # A list takes many times the memory of its text. Base64 has no commas, so pictures do not count.
    if (items := text.count("," if isinstance(text, str) else b",")) > MAX_ITEMS:
        raise WireError("body", f"about {items} items", f"at most {MAX_ITEMS}", "send numbers as arrays, as json_numpy writes them")
    try:
        return json.loads(text, object_hook=_decode)
    except WireError:
        raise
    except (ValueError, RecursionError) as error:
        raise WireError("body", f"not JSON ({error!s:.80})", "an object with image and instruction", "send what json_numpy writes") from None


def _decode(found: dict[str, Any]) -> Any:
    if "__numpy__" not in found:
        return found
    try:
        data = base64.b64decode(found["__numpy__"], validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise WireError("array", "not base64", "what json_numpy writes", "encode it with json_numpy") from None
    return read_array(data, found.get("dtype"), found.get("shape"))


def _encode(value: Any) -> Any:
    return {"__numpy__": base64.b64encode(np.ascontiguousarray(value).data).decode(), "dtype": value.dtype.str, "shape": value.shape}


def _json(actions: Any, encoded: bool) -> web.Response:
    from aiohttp import web

    text = json.dumps(actions, default=_encode)
    return web.Response(text=json.dumps(text) if encoded else text, content_type="application/json")


def _error(status: int, line: str) -> web.Response:
    from aiohttp import web

    told = " ".join(line.encode("ascii", "replace").decode().split())
    return web.Response(status=status, text='"error"', content_type="application/json", headers={"X-Error": told})
