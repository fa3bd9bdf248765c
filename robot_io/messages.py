"""What the messages between a robot and a policy server mean: openpi's keys, and ours beside them.

An observation is one flat dict. Pictures are `uint8 [H, W, 3]`; NAME is a camera's name in the robot's spec.

| key                                  | value                                                 | from                  |
|--------------------------------------|-------------------------------------------------------|-----------------------|
| `observation/NAME_image`             | picture (this is what `encode_observation` writes)    | openpi LIBERO's wrist |
| `observation/NAME`                   | picture, also understood                              | openpi DROID          |
| `observation/image`                  | picture of the *first* camera, also understood        | openpi LIBERO         |
| `observation/state`                  | `float [S]`                                           | openpi                |
| `prompt`                             | the instruction                                       | openpi                |
| `observation/depth/NAME`             | `float32 [H, W]` metres, 0 where nothing was measured | ours, optional        |
| `observation/intrinsics/NAME`        | `float32 [3, 3]` pixels                               | ours, optional        |
| `observation/world_from_camera/NAME` | `float32 [4, 4]`                                      | ours, optional        |
| `time`                               | seconds on the robot's clock                          | ours, optional        |
| `reset`                              | True: a new episode starts; may come without the rest | ours, optional        |
| `seed`                               | int, with `reset`: what is drawn then follows from it | ours, optional        |
| `prefix_actions`                     | `float [P, A]`: what the robot does meanwhile         | ours, optional        |
| `delay`                              | int: how many of them are certain (`Underway`)        | ours, optional        |
| `deadline_ms`                        | after so many ms in the queue it is not computed      | ours, optional        |
| `request_id`                         | int or short text, echoed in the reply                | ours, optional        |

The reply holds `actions float32 [T, A]` in the robot's units, openpi's `policy_timing` and `server_timing`, `time` at
which the first action applies, and `request_id` if one was sent. `decode_observation` is the one place where an
observation is held against a spec: a camera missing, a wrong size or state, a NaN are each one `UserError` that names
the culprit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from robot_io.errors import UserError
from robot_io.specs import ActionSpec, CameraSpec, ObservationSpec
from robot_io.types import ActionChunk, CameraFrame, Observation, Underway

MAX_INSTRUCTION = 4096


def encode_observation(observation: Observation, spec: ObservationSpec) -> dict[str, Any]:
    """The message for an observation: only the cameras, and only the depth, that `spec` asks for."""
    message: dict[str, Any] = {
        "observation/state": observation.state,
        "prompt": observation.instruction,
        "time": float(observation.time),
    }
    for camera in spec.cameras:
        if (frame := observation.cameras.get(camera.name)) is None:
            continue
        message[f"observation/{camera.name}_image"] = frame.rgb
        optional = {
            "depth": frame.depth if camera.depth else None,
            "intrinsics": frame.intrinsics,
            "world_from_camera": frame.world_from_camera,
        }
        message |= {f"observation/{key}/{camera.name}": value for key, value in optional.items() if value is not None}
    return message


def decode_observation(message: dict[str, Any], spec: ObservationSpec) -> Observation:
    """Read a message into the observation that `spec` promises.

    Raises:
        UserError: the message does not hold it; names the camera or field, what was sent and what was expected.
    """
    cameras = {camera.name: _frame(message, camera, first=camera is spec.cameras[0]) for camera in spec.cameras}
    state = _numbers(
        message.get("observation/state"),
        "state 'observation/state'",
        (len(spec.state),),
        f"the state is: {', '.join(spec.state)}",
    )
    instruction, time = message.get("prompt"), message.get("time", 0.0)
    if not isinstance(instruction, str) or len(instruction) > MAX_INSTRUCTION:
        raise UserError(
            "instruction 'prompt'",
            _describe(instruction),
            f"text of at most {MAX_INSTRUCTION} characters",
            "say what the robot should do under the key 'prompt'",
        )
    if not _is_time(time):
        raise UserError(
            "'time'", _describe(time), "seconds as one finite number", "leave it out or send the robot's clock"
        )
    return Observation(cameras=cameras, state=state, instruction=instruction, time=float(time))


def check_observation(observation: Observation, spec: ObservationSpec) -> None:
    """Refuse an observation that a policy for `spec` would refuse, before it travels."""
    decode_observation(encode_observation(observation, spec), spec)


def encode_prefix(prefix: Underway) -> dict[str, Any]:
    return {"prefix_actions": np.ascontiguousarray(prefix.actions, np.float32), "delay": int(prefix.delay)}


def decode_prefix(message: dict[str, Any], spec: ActionSpec, *, longest: int) -> Underway | None:
    """What the robot does meanwhile, if the message says so: at most `longest` actions of `spec`."""
    if "prefix_actions" not in message and "delay" not in message:
        return None
    remedy = "send what is left of the running chunk, and how much of it will be done when the answer arrives"
    actions, delay = _numbers(message.get("prefix_actions"), "'prefix_actions'", None, remedy), message.get("delay")
    if actions.ndim != 2 or actions.shape[1] != spec.dim or len(actions) > longest:
        raise UserError("'prefix_actions'", f"shape {actions.shape}", f"[at most {longest}, {spec.dim}]", remedy)
    if type(delay) is not int or not 0 <= delay <= len(actions):
        raise UserError("'delay'", _describe(delay), f"an integer from 0 to {len(actions)}, the actions sent", remedy)
    return Underway(actions, delay)


def encode_chunk(chunk: ActionChunk) -> dict[str, Any]:
    return {"actions": np.ascontiguousarray(chunk.actions, np.float32), "time": float(chunk.time)}


def decode_chunk(message: dict[str, Any], spec: ActionSpec, *, shortest: int, longest: int) -> ActionChunk:
    """Read a reply, holding it against what the server announced: finite, `[T, A]`, `shortest <= T <= longest`."""
    actions = _numbers(message.get("actions"), "reply's 'actions'", None, "the policy is at fault, hold the robot")
    if actions.ndim != 2 or actions.shape[1] != spec.dim or not shortest <= len(actions) <= longest:
        raise UserError(
            "reply's 'actions'",
            f"shape {actions.shape}",
            f"[{shortest} to {longest}, {spec.dim}]",
            "hold the robot, and serve a policy of this robot",
        )
    time = message.get("time")
    timings = (message.get("policy_timing"), message.get("server_timing"))
    info = {
        f"{name}_{key}": float(value)
        for name, timing in zip(("policy", "server"), timings, strict=True)
        if isinstance(timing, dict)
        for key, value in timing.items()
        if isinstance(value, (int, float))
    }
    return ActionChunk(actions, spec, time=float(time) if _is_time(time) else 0.0, info=info)


def _frame(message: dict[str, Any], camera: CameraSpec, *, first: bool) -> CameraFrame:
    keys = [f"observation/{camera.name}_image", f"observation/{camera.name}", *(["observation/image"] if first else [])]
    key = next((key for key in keys if key in message), None)
    size = (camera.height, camera.width)
    if key is None:
        sent = [k for k in message if isinstance(k, str) and k.startswith("observation/")]
        raise UserError(
            f"camera '{camera.name}'",
            f"missing; the observation holds {', '.join(sent[:12])[:400] or 'no pictures'}",
            f"its picture, uint8 {[*size, 3]}",
            f"send it under the key '{keys[0]}'",
        )
    rgb = message[key]
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.shape != (*size, 3):
        raise UserError(
            f"camera '{camera.name}' ('{key}')",
            _describe(rgb),
            f"uint8 {[*size, 3]}",
            "send 8-bit RGB, channels last, resized as the policy saw it in training",
        )

    def optional(kind: str, shape: tuple[int, ...]) -> np.ndarray | None:
        if (value := message.get(f"observation/{kind}/{camera.name}")) is None:
            return None
        thing = f"{kind.replace('_', ' ')} of camera '{camera.name}'"
        return _numbers(value, thing, shape, "write 0 where depth was not measured")

    depth = optional("depth", size)
    if camera.depth and depth is None:
        raise UserError(
            f"camera '{camera.name}'",
            "has no depth",
            f"float32 {[*size]} in metres",
            f"send it under the key 'observation/depth/{camera.name}'",
        )
    # A copy, because a view of the received frame is read-only and torch wants to own what it reads.
    return CameraFrame(rgb.copy(), depth, optional("intrinsics", (3, 3)), optional("world_from_camera", (4, 4)))


def _numbers(value: Any, thing: str, shape: tuple[int, ...] | None, remedy: str) -> np.ndarray:
    """`value` as finite float32, of `shape` if one is given."""
    try:
        array = np.asarray(value)
    except ValueError:  # a ragged list
        array = np.asarray(None)
    if array.dtype.kind not in "iuf" or (shape is not None and array.shape != shape):
        expected = f"numbers of shape {[*shape]}" if shape is not None else "an array of numbers"
        raise UserError(thing, _describe(value), expected, remedy)
    if array.dtype == np.float32:
        array = array.copy()
    else:
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    if not np.isfinite(array).all():
        where = np.argwhere(~np.isfinite(array))[0].tolist()
        raise UserError(thing, f"NaN or infinite at {where}", "finite numbers", remedy)
    return array


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _describe(value: Any) -> str:
    if value is None:
        return "missing"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {[*value.shape]}"
    return (
        f"{type(value).__name__} {value!r:.60}"
        if isinstance(value, (bool, int, float, str))
        else f"a {type(value).__name__}"
    )
