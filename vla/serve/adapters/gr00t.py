"""GR00T's ZMQ protocol (`get_action` and friends, msgpack, a REQ socket at the client), on a port of its own.

A request is one map `{"endpoint", "data", "api_token"}`. Both dialects are understood: N1.5's flat observation (`video.CAMERA`, `state.NAME`,
`annotation.…`), answered by `{"action.NAME": [T, 1]}`, and that of N1.6 on (`{"observation": {"video", "state", "language"}}`), answered by
`[{NAME: [1, T, 1]}, info]`. NAME is an entry of the robot's state or action in the policy's spec, one number wide; `get_modality_config`
lists them. Leading axes of batch and time must be 1. `kill` is refused. Each client has an episode of its own, begun by `reset`.
"""

from __future__ import annotations

import asyncio
import hmac
import io
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgpack
import numpy as np

from robot_io import UserError
from robot_io.errors import nearest
from robot_io.messages import decode_observation
from robot_io.types import ActionChunk
from robot_io.wire import WireError, read_array, unpackb
from vla.serve.adapters.adapter import Seats
from vla.serve.adapters.keys import message, named_state
from vla.serve.listen import check_port, require_key_beyond_loopback
from vla.serve.service import Seat, Service, what_to_tell

DEFAULT_PORT = 5555
INSTRUCTION = "annotation.human.task_description"


class Gr00tZmq:
    """The socket at `port` (0: a free one, known once it runs)."""

    def __init__(self, port: int = DEFAULT_PORT) -> None:
        self.port = port

    @asynccontextmanager
    async def serving(self, service: Service, host: str, api_key: str | None, tls: ssl.SSLContext | None) -> AsyncIterator[None]:
        import zmq
        import zmq.asyncio

        if tls is not None:
            raise UserError("GR00T's protocol", "has no TLS", "a tunnel", "serve it on 127.0.0.1 and tunnel with ssh -L, or leave out TLS")
        require_key_beyond_loopback(host, api_key)
        check_port(host, self.port)
        with zmq.asyncio.Context() as context, context.socket(zmq.ROUTER) as socket:
            socket.linger, socket.maxmsgsize = 1000, service.limits.max_bytes
            socket.ipv6 = ":" in host
            address = "127.0.0.1" if host == "localhost" else f"[{host}]" if ":" in host else host
            socket.bind(f"tcp://{address}:{self.port or '*'}")
            self.port = int(socket.last_endpoint.decode().rpartition(":")[2])
            listening = asyncio.create_task(_Socket(service, api_key, socket).listen())
            try:
                yield
            finally:
                listening.cancel()
                with suppress(asyncio.CancelledError):
                    await listening


class _Socket:
    """Answers the requests of all clients; those of different clients at the same time."""

    def __init__(self, service: Service, api_key: str | None, socket: Any) -> None:
        self.service, self.api_key, self.socket, self.seats = service, api_key, socket, Seats(service)
        self.episodes = 0

    async def listen(self) -> None:
        async with asyncio.TaskGroup() as answers:
            while True:
                client, *envelope = await self.socket.recv_multipart()
                if len(envelope) == 2 and not envelope[0]:  # what a REQ socket sends
                    answers.create_task(self.answer(client, envelope[1]))

    async def answer(self, client: bytes, frame: bytes) -> None:
        with self.service.answering():
            try:
                reply = msgpack.packb(await self.reply(client, frame), default=_encode)
            except Exception as error:
                reply = msgpack.packb({"error": what_to_tell(error)})
            await self.socket.send_multipart([client, b"", reply])

    async def reply(self, client: bytes, frame: bytes) -> Any:
        request = unpackb(frame, max_bytes=self.service.limits.max_bytes, decode=_decode)
        if not isinstance(request, dict):
            raise WireError("request", f"a {type(request).__name__}", "a map with endpoint and data", "send what GR00T's client sends")
        sent = request.get("api_token")
        if self.api_key is not None and not (isinstance(sent, str) and hmac.compare_digest(sent.encode(), self.api_key.encode())):
            raise UserError("'api_token'", "missing or wrong", "the server's key", "pass api_token to the client")
        if self.service.draining:
            raise UserError("policy server", "it stops", "", "hold the robot")
        endpoint, data = request.get("endpoint", "get_action"), request.get("data") or {}
        seat = self.seats.of(client)
        if endpoint == "ping":
            return {"status": "ok", "message": "Server is running"}
        if endpoint == "get_modality_config":
            return _modalities(seat)
        if endpoint == "reset":
            self.episodes += 1
            await seat.reset(self.episodes)
            return {}
        if endpoint == "get_action" and isinstance(data, dict):
            return await _act(seat, data)
        raise UserError(f"endpoint '{endpoint!s:.40}'", "not offered", "ping, reset, get_modality_config or get_action",
                        "a server is stopped where it runs" if endpoint == "kill" else
                        nearest(str(endpoint), ("ping", "reset", "get_modality_config", "get_action")))


async def _act(seat: Seat, data: dict[str, Any]) -> Any:
    nested = isinstance(data.get("observation"), dict)
    observation = _nested(data["observation"]) if nested else _flat(data)
    policy = seat.policy
    ours = message(policy, {name: _squeezed(picture, 3) for name, picture in observation["video"].items()},
                   named_state(policy.spec, observation["state"]), _text(observation["language"]))
    chunk, infer_ms = await seat.infer(decode_observation(ours, policy.spec.observation))
    if nested:
        return [{name: column[None] for name, column in _columns(chunk).items()}, {"infer_ms": infer_ms}]
    return {f"action.{name}": column for name, column in _columns(chunk).items()}


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """N1.5's observation, by modality."""
    found: dict[str, Any] = {"video": {}, "state": {}, "language": None}
    for key, value in data.items():
        modality, _, name = str(key).partition(".")
        if modality in ("video", "state"):
            found[modality][name] = value
        elif modality == "annotation":
            found["language"] = value
    return found


def _nested(data: Mapping[str, Any]) -> dict[str, Any]:
    """That of N1.6 on."""
    if not all(isinstance(data.get(modality), dict) for modality in ("video", "state", "language")):
        raise WireError("'observation'", f"holds {', '.join(map(str, data))[:100]}", "video, state and language, each a map", "send them")
    return {"video": data["video"], "state": data["state"], "language": next(iter(data["language"].values()), None)}


def _text(value: Any) -> Any:
    """The instruction out of the lists and arrays that it comes in."""
    while isinstance(value, (list, tuple, np.ndarray)) and len(value) == 1:
        value = value[0]
    return str(value) if isinstance(value, np.str_) else value


def _squeezed(picture: Any, axes: int) -> Any:
    """Without leading axes of one batch and one moment."""
    while isinstance(picture, np.ndarray) and picture.ndim > axes and picture.shape[0] == 1:
        picture = picture[0]
    return picture


def _columns(chunk: ActionChunk) -> dict[str, np.ndarray]:
    """Each dimension by name: `float32 [T, 1]`."""
    return {name: chunk.actions[:, i : i + 1] for i, name in enumerate(chunk.spec.names)}


def _modalities(seat: Seat) -> dict[str, Any]:
    spec, horizon = seat.policy.spec, seat.policy.recipe.horizon
    keys = {"video": spec.observation.camera_names, "state": spec.observation.state, "action": spec.action.names, "language": (INSTRUCTION,)}
    return {modality: {"__ModalityConfig_class__": True, "as_json": _config(names, horizon if modality == "action" else 1)}
            for modality, names in keys.items()}


def _config(names: tuple[str, ...], steps: int) -> str:
    return json.dumps({"delta_indices": list(range(steps)), "modality_keys": list(names)})


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        buffer = io.BytesIO()
        np.save(buffer, value, allow_pickle=False)
        return {"__ndarray_class__": True, "as_npy": buffer.getvalue()}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"cannot send a {type(value).__name__}")


def _decode(found: dict[Any, Any]) -> Any:
    return _npy(found.get("as_npy")) if "__ndarray_class__" in found else found


def _npy(data: Any) -> np.ndarray:
    """An `.npy` file's array. Read here rather than by `np.load`, which takes a header's word for how much memory to allocate."""
    try:
        stream = io.BytesIO(data)
        major, _ = np.lib.format.read_magic(stream)
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[major]
        shape, fortran, dtype = read(stream)
    except (TypeError, ValueError, KeyError, SyntaxError, OverflowError, MemoryError, RecursionError) as error:
        raise WireError("array", f"not an .npy file ({error!s:.60})", "what np.save writes", "send it as GR00T's client does") from None
    array = read_array(data[stream.tell():], dtype.str, list(shape[::-1] if fortran else shape))
    return array.T if fortran else array
