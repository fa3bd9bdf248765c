from dataclasses import replace

import numpy as np
import pytest
from scripted_policy import SPEC, an_observation

from robot_io import CameraFrame, Underway, UserError
from robot_io.messages import (
    check_observation,
    decode_chunk,
    decode_observation,
    decode_prefix,
    encode_observation,
    encode_prefix,
)
from robot_io.wire import packb, unpackb

OBSERVATION = SPEC.observation


def message(**changes: object) -> dict:
    """An observation as it arrives, with keys changed (`/` written `__`) or, if None, dropped."""
    sent = encode_observation(an_observation(), OBSERVATION)
    sent |= {key.replace("__", "/"): value for key, value in changes.items()}
    return unpackb(packb({key: value for key, value in sent.items() if value is not None}))


def test_an_observation_survives_the_trip() -> None:
    sent, found = an_observation(), decode_observation(message(), OBSERVATION)
    assert found.instruction == sent.instruction and found.time == sent.time
    np.testing.assert_array_equal(found.state, sent.state)
    assert set(found.cameras) == {"front", "wrist"}  # 'unused' is not asked for and does not travel
    for name, frame in found.cameras.items():
        for field in ("rgb", "depth", "intrinsics", "world_from_camera"):
            np.testing.assert_array_equal(getattr(frame, field), getattr(sent.cameras[name], field))


@pytest.mark.parametrize("front, wrist", [
    ("observation/image", "observation/wrist_image"),  # openpi, LIBERO
    ("observation/front", "observation/wrist"),  # openpi, DROID
    ("observation/front_image", "observation/wrist"),
])  # fmt: skip
def test_the_keys_of_openpi_clients_are_understood(front: str, wrist: str) -> None:
    sent = an_observation()
    found = decode_observation({
        front: sent.cameras["front"].rgb, wrist: sent.cameras["wrist"].rgb, "prompt": "go",
        "observation/state": sent.state.astype(np.float64), "observation/depth/front": sent.cameras["front"].depth,
    }, OBSERVATION)  # fmt: skip
    for name in ("front", "wrist"):
        np.testing.assert_array_equal(found.cameras[name].rgb, sent.cameras[name].rgb)
    assert found.state.dtype == np.float32


def test_pictures_can_be_written_to() -> None:
    """A read-only view of the frame would make torch warn at every step."""
    found = decode_observation(message(), OBSERVATION)
    assert found.cameras["front"].rgb.flags.writeable and found.state.flags.writeable


@pytest.mark.parametrize("changes, words", [
    ({"observation__wrist_image": None}, ["camera 'wrist'", "missing", "observation/front_image", "observation/wrist_image"]),
    ({"observation__wrist_image": np.zeros((8, 9, 3), np.uint8)}, ["camera 'wrist'", "[8, 9, 3]", "[8, 8, 3]"]),
    ({"observation__wrist_image": np.zeros((8, 8, 3), np.float32)}, ["camera 'wrist'", "float32", "uint8"]),
    ({"observation__wrist_image": np.zeros((3, 8, 8), np.uint8)}, ["camera 'wrist'", "channels last"]),
    ({"observation__wrist_image": "a picture"}, ["camera 'wrist'", "'a picture'"]),
    ({"observation__depth__front": None}, ["camera 'front'", "no depth", "metres"]),
    ({"observation__depth__front": np.full((12, 16), np.nan)}, ["depth of camera 'front'", "NaN"]),
    ({"observation__intrinsics__wrist": np.eye(4)}, ["intrinsics of camera 'wrist'", "[4, 4]", "[3, 3]"]),
    ({"observation__state": None}, ["state", "missing", "x, y, grip"]),
    ({"observation__state": np.zeros(4, np.float32)}, ["state", "[4]", "[3]", "x, y, grip"]),
    ({"observation__state": np.array([0, np.nan, 0], np.float32)}, ["state", "NaN", "[1]"]),
    ({"observation__state": np.array([0, 1e300, 0])}, ["state", "infinite"]),
    ({"observation__state": [[1], [2, 3]]}, ["state", "a list"]),
    ({"observation__state": np.array(["1", "2", "3"])}, ["state", "<U1"]),
    ({"prompt": None}, ["prompt", "missing"]),
    ({"prompt": "x" * 5000}, ["prompt", "4096"]),
    ({"time": float("inf")}, ["time", "finite"]),
])  # fmt: skip
def test_a_wrong_observation_is_one_readable_error(changes: dict, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        decode_observation(message(**changes), OBSERVATION)
    assert all(word in str(error.value) for word in words), error.value
    assert len(str(error.value)) < 500


def test_an_observation_is_checked_before_it_travels() -> None:
    observation = an_observation()
    check_observation(observation, OBSERVATION)
    front = CameraFrame(observation.cameras["front"].rgb)
    with pytest.raises(UserError, match="camera 'front': has no depth"):
        check_observation(replace(observation, cameras=observation.cameras | {"front": front}), OBSERVATION)


@pytest.mark.parametrize("actions", [
    None, "stop", np.zeros((3, 1)), np.zeros(2), np.zeros((1, 2)), np.zeros((5, 2)), np.full((3, 2), np.nan),
    np.full((3, 2), "1"),
], ids=repr)  # fmt: skip
def test_a_wrong_reply_is_refused(actions: object) -> None:
    with pytest.raises(UserError, match="actions"):
        decode_chunk({"actions": actions}, SPEC.action, shortest=2, longest=4)


def test_the_reply_of_openpi_is_read() -> None:
    reply = {"actions": np.ones((3, 2)), "state": np.zeros(3)}
    reply |= {"policy_timing": {"infer_ms": 5.0}, "server_timing": {"infer_ms": 6}}
    chunk = decode_chunk(reply, SPEC.action, shortest=2, longest=4)
    assert chunk.actions.dtype == np.float32 and chunk.spec == SPEC.action
    assert chunk.info == {"policy_infer_ms": 5.0, "server_infer_ms": 6.0}


def test_what_the_robot_does_meanwhile_survives_the_trip() -> None:
    sent = Underway(np.arange(6, dtype=np.float32).reshape(3, 2), delay=2)
    found = decode_prefix(unpackb(packb(encode_prefix(sent))), SPEC.action, longest=4)
    np.testing.assert_array_equal(found.actions, sent.actions)
    assert found.delay == 2
    assert decode_prefix(message(), SPEC.action, longest=4) is None


@pytest.mark.parametrize("changes", [
    {"delay": 4}, {"delay": -1}, {"delay": None}, {"delay": True}, {"prefix_actions": None},
    {"prefix_actions": np.zeros((3, 3))}, {"prefix_actions": np.zeros((5, 2))}, {"prefix_actions": np.full((3, 2), np.nan)},
], ids=repr)  # fmt: skip
def test_a_prefix_that_makes_no_sense_is_refused(changes: dict) -> None:
    sent = encode_prefix(Underway(np.zeros((3, 2), np.float32), delay=2)) | changes
    with pytest.raises(UserError, match=r"prefix_actions|delay"):
        decode_prefix(sent, SPEC.action, longest=4)
