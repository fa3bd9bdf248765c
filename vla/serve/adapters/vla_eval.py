"""vla-eval's websocket protocol, version 1, under `/vla-eval`: its benchmarks drive a policy of ours with their own client.

Every frame is a msgpack map `{"type", "payload", "seq", "timestamp"}`. The client says hello and is told what actions mean; an
`episode_start` begins an episode; every `observation` (`images` by camera, `state`, `task_description`) is answered by an `action` with the
same `seq`. Its runner carries out one action per observation, so a chunk is computed once and handed out over `execute` steps, as
when a robot is driven directly. Cameras go by the names in the policy's spec, and pictures are as large as there.
"""

from __future__ import annotations

import io
import time
from typing import Any

import numpy as np
from websockets.asyncio.server import ServerConnection

from robot_io import ActionSpec, RobotSpec, UserError
from robot_io.messages import decode_observation
from robot_io.wire import WireError, packb, read_array, unpackb
from vla.serve.adapters.keys import message
from vla.serve.limits import Pace
from vla.serve.service import Seat, what_to_tell

PROTOCOL_VERSION = 1
MAX_SIDE = 8192


async def converse(connection: ServerConnection, seat: Seat) -> None:
    """Talk to one client until it leaves, or the server stops."""
    episode, pace = _Episode(seat), Pace(seat.service.limits.max_rate)
    async for frame in connection:
        if seat.service.draining:
            return
        with seat.service.answering():
            seq: Any = 0
            try:
                sent = _read(frame, seat.service.limits.max_bytes)
                seq = sent["seq"]
                answer = await episode.take(sent)
            except Exception as error:
                answer = "error", {"error": what_to_tell(error)}
            if answer is not None:
                await connection.send(_write(*answer, seq))
        await pace.keep()


class _Episode:
    """One client's: what of the last chunk is still to be handed out."""

    def __init__(self, seat: Seat) -> None:
        self.seat, self.left, self.episodes = seat, np.zeros((0, 0), np.float32), 0

    async def take(self, sent: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
        """The type and payload of the answer; None where the protocol has none."""
        kind, payload = sent["type"], sent["payload"]
        if kind == "hello":
            return "hello", _hello(self.seat)
        if kind == "observation":
            return "action", {"actions": await self.act(payload)}
        if kind == "episode_start":
            self.left = self.left[:0]
            await self.seat.reset(self.episodes)
            self.episodes += 1
        elif kind not in ("episode_end", "error"):
            raise WireError("message", f"type {kind!r:.40}", "hello, observation, episode_start or episode_end", "speak version 1")
        return None

    async def act(self, payload: dict[str, Any]) -> np.ndarray:
        if not len(self.left):
            images, state = payload.get("images"), payload.get("state", payload.get("states"))
            if not isinstance(images, dict):
                raise UserError("'images'", f"a {type(images).__name__}", "pictures by camera", "send images as vla-eval's benchmarks do")
            policy = self.seat.policy
            ours = message(policy, images, state, payload.get("task_description"))
            observation = decode_observation(ours, policy.spec.observation)
            chunk, _ = await self.seat.infer(observation)
            self.left = chunk.actions[: self.seat.policy.recipe.execute]
        action, self.left = self.left[0], self.left[1:]
        return action


def _hello(seat: Seat) -> dict[str, Any]:
    spec = seat.policy.spec
    metadata = seat.metadata
    return {
        "harness_version": metadata["server_version"], "protocol_version": PROTOCOL_VERSION, "model_server": metadata["policy"],
        "capabilities": {}, "action_spec": _action_spec(spec.action), "observation_spec": _observation_spec(spec),
        "observation_params": {}, "robot_spec": metadata["robot_spec"],
    }


def _action_spec(spec: ActionSpec) -> dict[str, Any]:
    """Each dimension in vla-eval's words, so that its harness can warn before anything runs."""
    found = {}
    for i, name in enumerate(spec.names):
        form = f"{spec.modes[i]} {spec.rotation if spec.units[i] == 'rad' else ''} {spec.units[i]}".replace("  ", " ")
        if i == spec.gripper:
            form = f"binary_{'close' if spec.gripper_closed > spec.gripper_open else 'open'}_positive"
        found[name] = {"name": name, "dims": 1, "format": form, "range": [spec.low[i], spec.high[i]]}
    return found


def _observation_spec(spec: RobotSpec) -> dict[str, Any]:
    found = {camera.name: {"name": camera.name, "dims": 0, "format": "rgb_hwc_uint8",
                           "description": f"{camera.height}x{camera.width}"} for camera in spec.observation.cameras}
    found["state"] = {"name": "state", "dims": len(spec.observation.state), "format": " ".join(spec.observation.state)}
    return found | {"language": {"name": "language", "dims": 0, "format": "language"}}


def _read(frame: bytes | str, max_bytes: int) -> dict[str, Any]:
    sent = unpackb(frame, max_bytes=max_bytes, decode=_decode) if isinstance(frame, bytes) else frame
    if (not isinstance(sent, dict) or not isinstance(sent.get("payload"), dict) or not isinstance(sent.get("seq"), int)
            or not isinstance(sent.get("type"), str)):
        raise WireError("message", "not one of vla-eval's", "a map with type, payload, seq and timestamp", "speak version 1")
    return sent


def _write(kind: str, payload: dict[str, Any], seq: int) -> bytes:
    arrays = {name: {"__ndarray__": True, "data": value.tobytes(), "dtype": value.dtype.str, "shape": list(value.shape)}
              for name, value in payload.items() if isinstance(value, np.ndarray)}
    return packb({"type": kind, "payload": payload | arrays, "seq": seq, "timestamp": time.time()})


def _decode(found: dict[Any, Any]) -> Any:
    """vla-eval's two marks: arrays, and pictures that may be compressed."""
    if "__image__" in found and found.get("format") != "raw":
        return _picture(found.get("data"))
    if "__ndarray__" in found or "__image__" in found:
        return read_array(found.get("data"), found.get("dtype"), found.get("shape"))
    return found


def _picture(data: Any) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if max(image.size) > MAX_SIDE:
                raise WireError("picture", f"{image.size} pixels", f"at most {MAX_SIDE} a side", "send it smaller")
            return np.array(image)
    except (UnidentifiedImageError, OSError, TypeError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, WireError):
            raise
        raise WireError("picture", f"cannot be read ({error})", "PNG or JPEG", "send what vla-eval's client sends") from None
