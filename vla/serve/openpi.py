"""openpi's websocket protocol, with keys of ours beside its own (`robot_io.messages` lists them).

The server speaks first and says what it serves. Then each binary frame with an observation is answered by one with actions; an error
is a short text frame, after which the connection goes on.
"""

from __future__ import annotations

import time
from math import inf, isfinite
from typing import Any

from websockets.asyncio.server import ServerConnection

from robot_io.messages import decode_observation, decode_prefix, encode_chunk
from robot_io.wire import WireError, packb, unpackb
from vla.serve.limits import Pace
from vla.serve.service import Seat, milliseconds_since, what_to_tell

LONGEST_REQUEST_ID = 128


async def converse(connection: ServerConnection, seat: Seat) -> None:
    """Talk to one client until it leaves, or the server stops."""
    limits, service = seat.service.limits, seat.service
    await connection.send(packb(seat.metadata))
    timing: dict[str, float] = {}
    pace = Pace(limits.max_rate)
    async for frame in connection:
        if service.draining:
            return
        with service.answering():
            received = time.perf_counter()
            await connection.send(await _answer(seat, frame, timing, received))
            timing = {"prev_total_ms": milliseconds_since(received)}
        await pace.keep()


async def _answer(seat: Seat, frame: bytes | str, timing: dict[str, float], received: float) -> bytes | str:
    """The frame that answers `frame`: bytes, or text if something is wrong."""
    try:
        message = _read(frame, seat.service.limits.max_bytes)
        return packb(await _reply(seat, message, timing, received))
    except Exception as error:
        return what_to_tell(error)


async def _reply(seat: Seat, message: dict[str, Any], timing: dict[str, float], received: float) -> dict[str, Any]:
    reply = {"request_id": message["request_id"]} if "request_id" in message else {}
    if message.get("reset") is True:
        await seat.reset(_seed(message))
        if "observation/state" not in message:
            return reply | {"reset": True}
    spec, recipe = seat.policy.spec, seat.policy.recipe
    try:
        deadline = received + _deadline(message)
        prefix = decode_prefix(message, spec.action, longest=recipe.horizon)
        observation = decode_observation(message, spec.observation)
    except Exception:
        seat.refused()
        raise
    chunk, infer_ms = await seat.infer(observation, prefix=prefix, deadline=deadline)
    reply |= encode_chunk(chunk) | {"policy_timing": {"infer_ms": infer_ms}}
    # What the server took also holds the time spent waiting for other robots' requests.
    return reply | {"server_timing": {"infer_ms": milliseconds_since(received), **timing}}


def _read(frame: bytes | str, max_bytes: int) -> dict[str, Any]:
    """The dict in a client's frame."""
    message = unpackb(frame, max_bytes=max_bytes) if isinstance(frame, bytes) else frame
    if not isinstance(message, dict):
        raise WireError("frame", f"holds a {type(message).__name__}", "a dict, as binary msgpack",
                        "send an observation as openpi_client does")
    request_id = message.get("request_id", 0)
    if not isinstance(request_id, (int, str)) or len(str(request_id)) > LONGEST_REQUEST_ID:
        raise WireError("'request_id'", f"a {type(request_id).__name__}", "an integer or a short text", "count the requests")
    return message


def _seed(message: dict[str, Any]) -> int:
    seed = message.get("seed", 0)
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise WireError("'seed'", f"{seed!r:.60}", "an integer from 0 to 2^63 - 1", "send the number of the episode")
    return seed


def _deadline(message: dict[str, Any]) -> float:
    """Seconds that the request may wait."""
    allowed = message.get("deadline_ms")
    if allowed is None:
        return inf
    if isinstance(allowed, bool) or not isinstance(allowed, (int, float)) or not (isfinite(allowed) and allowed >= 0):
        raise WireError("'deadline_ms'", f"{allowed!r:.60}", "milliseconds from now, a number from 0", "leave it out, or correct it")
    return allowed / 1e3
