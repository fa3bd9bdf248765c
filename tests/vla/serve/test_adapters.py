"""Other projects' clients, as plain as they come, drive our policy and get the very actions it computes."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from types import SimpleNamespace

import json_numpy
import msgpack
import numpy as np
import pytest
import requests
import zmq
from websockets.sync.client import connect

from robot_io import ActionChunk, ActionSpec, CameraSpec, Observation, ObservationSpec, RobotSpec, UserError
from vla.serve import Limits, PolicyServer
from vla.serve.adapters.gr00t import INSTRUCTION, Gr00tZmq
from vla.serve.adapters.openvla import OpenVLARest

SPEC = RobotSpec(
    robot="arm",
    observation=ObservationSpec((CameraSpec("front", 12, 16), CameraSpec("wrist", 8, 8)), ("x", "y", "grip"), ("m", "m", "1")),
    action=ActionSpec(("x", "y", "grip"), ("m", "m", "1"), (-1.0,) * 3, (1.0,) * 3, ("delta",) * 3, rate_hz=10.0, gripper=2),
)
RANDOM = np.random.default_rng(0)
FRONT, WRIST = RANDOM.integers(0, 256, (12, 16, 3), np.uint8), RANDOM.integers(0, 256, (8, 8, 3), np.uint8)
STATE, PROMPT = np.array([0.1, -0.2, 0.5], np.float32), "pick up the red cube"


class Policy:
    """Its actions depend on every byte; a session counts its calls, to tell one episode from another."""

    spec = SPEC
    recipe = SimpleNamespace(name="arm", hash="0", horizon=4, execute=2)

    def session(self) -> Session:
        return Session()


class Session:
    def __init__(self) -> None:
        self.calls = 0

    def reset(self, seed: int = 0) -> None:
        self.calls = 0

    def infer(self, observation: Observation) -> ActionChunk:
        if observation.instruction == "crash":
            raise ZeroDivisionError("secret of the house")
        self.calls += 1
        return ActionChunk(actions(observation.state, self.calls), SPEC.action)


def actions(state: np.ndarray = STATE, calls: int = 1) -> np.ndarray:
    """What the policy answers to `FRONT` and `WRIST` at its `calls`-th call: `float32 [4, 3]`."""
    seen = FRONT.mean() + 2 * WRIST.mean() + float(state.sum()) + len(PROMPT) + calls
    return np.sin(seen * np.arange(1, 13)).reshape(4, 3).astype(np.float32)


@pytest.fixture(scope="module")
def server() -> Iterator[PolicyServer]:
    adapters = [OpenVLARest(port=0), Gr00tZmq(port=0)]
    with PolicyServer(Policy(), port=0, adapters=adapters, limits=Limits(max_bytes=2**18)) as running:
        yield running


# --- OpenVLA ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def act(server: PolicyServer):
    """POST /act as OpenVLA's clients do: `requests`, with json_numpy's text."""
    def post(payload: dict, **options: object) -> requests.Response:
        url = f"http://127.0.0.1:{server.adapters[0].port}/act"
        return requests.post(url, data=json_numpy.dumps(payload), headers={"Content-Type": "application/json"}, timeout=10, **options)

    return post


def test_openvla_gets_one_action_and_oft_those_to_carry_out(act) -> None:
    one = json_numpy.loads(act({"image": FRONT, "wrist_image": WRIST, "state": STATE, "instruction": PROMPT, "unnorm_key": "x"}).text)
    np.testing.assert_array_equal(one, actions()[0])
    oft = json_numpy.loads(act({"full_image": FRONT, "wrist_image": WRIST, "state": STATE, "instruction": PROMPT}).text)
    assert isinstance(oft, list)
    np.testing.assert_array_equal(oft, actions()[:2])


def test_openvla_encoded_twice_is_answered_in_kind(act) -> None:
    payload = {"full_image": FRONT, "wrist_image": WRIST, "state": STATE, "instruction": PROMPT}
    answer = act({"encoded": json_numpy.dumps(payload)}).json()
    np.testing.assert_array_equal(json_numpy.loads(answer), actions()[:2])


def test_openvla_has_episodes_only_by_session(act) -> None:
    payload = {"image": FRONT, "wrist_image": WRIST, "state": STATE, "instruction": PROMPT}
    for extra, calls in (({}, 1), ({}, 1), ({"session": "a"}, 1), ({"session": "a"}, 2), ({"session": "b"}, 1),
                         ({"session": "a", "reset": True}, 1)):
        np.testing.assert_array_equal(json_numpy.loads(act(payload | extra).text), actions(calls=calls)[0])


@pytest.mark.parametrize("change, status, words", [
    ({"image": None}, 400, "camera 'front'"), ({"state": STATE[:2]}, 400, "state"), ({"instruction": 3}, 400, "prompt"),
    ({"state": None}, 400, "state"), ({"right_wrist_image": WRIST}, 400, "3 of them; expected 2: front, wrist"),
    ({"instruction": "crash"}, 500, "the policy failed"), ({"session": [1]}, 400, "'session'"),
    ({"image": {"__numpy__": "AAAA", "dtype": "|O", "shape": [1]}}, 400, "dtype"),
    ({"image": {"__numpy__": "AAAA", "dtype": "|u1", "shape": [2**40]}}, 400, "array"),
    ({"image": {"__numpy__": "%%", "dtype": "|u1", "shape": [1]}}, 400, "base64"),
    ({"state": [0.0] * 20000}, 400, "items"), ({"padding": "x" * 2**20}, 413, "too long"),
])  # fmt: skip
def test_openvla_clients_are_told_error_and_nothing_of_our_insides(act, change: dict, status: int, words: str) -> None:
    answer = act({"image": FRONT, "wrist_image": WRIST, "state": STATE, "instruction": PROMPT} | change)
    assert (answer.status_code, answer.json()) == (status, "error")
    assert words in answer.headers["X-Error"] and "secret" not in str(answer.headers)


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b'"x"', b"[" * 100_000, b'{"encoded": 3}'], ids=range(7))
def test_openvla_bad_bodies(server: PolicyServer, body: bytes) -> None:
    answer = requests.post(f"http://127.0.0.1:{server.adapters[0].port}/act", data=body, timeout=10)
    assert (answer.status_code, answer.json()) == (400, "error")


def test_openvla_wants_the_key_and_no_web_pages() -> None:
    with PolicyServer(Policy(), port=0, api_key="right", adapters=[rest := OpenVLARest(port=0)]):
        url, payload = f"http://127.0.0.1:{rest.port}/act", json_numpy.dumps({"full_image": FRONT, "wrist": WRIST, "state": STATE,
                                                                                "instruction": PROMPT})
        assert requests.post(url, data=payload, timeout=10).status_code == 401
        right = {"Authorization": "Api-Key right"}
        assert requests.post(url, data=payload, headers=right, timeout=10).status_code == 200
        assert requests.post(url, data=payload, headers=right | {"Origin": "http://evil.example"}, timeout=10).status_code == 403


# --- GR00T -----------------------------------------------------------------------------------------------------------


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


class Gr00tClient:
    """What GR00T's own client does, written anew from its protocol."""

    def __init__(self, port: int) -> None:
        self.socket = zmq.Context.instance().socket(zmq.REQ)
        self.socket.setsockopt(zmq.RCVTIMEO, 10_000)
        self.socket.linger = 0
        self.socket.connect(f"tcp://127.0.0.1:{port}")

    def ask(self, endpoint: str | None, data: object = None, **extra: object):
        request = ({"endpoint": endpoint} if endpoint else {}) | ({} if data is None else {"data": data}) | extra
        return self.send(msgpack.packb(request, default=lambda a: {"__ndarray_class__": True, "as_npy": npy(a)}))

    def send(self, frame: bytes):
        self.socket.send(frame)
        return msgpack.unpackb(self.socket.recv(), object_hook=lambda found: np.load(io.BytesIO(found["as_npy"]), allow_pickle=False)
                               if "__ndarray_class__" in found else found)


@pytest.fixture
def gr00t(server: PolicyServer) -> Iterator[Gr00tClient]:
    client = Gr00tClient(server.adapters[1].port)
    yield client
    client.socket.close()


def flat() -> dict:
    return {"video.front": FRONT[None], "video.wrist": WRIST[None], "annotation.human.task_description": [PROMPT]} | {
        f"state.{name}": value.reshape(1, 1) for name, value in zip(("x", "y", "grip"), STATE, strict=True)}


def nested() -> dict:
    return {"observation": {"video": {"front": FRONT[None, None], "wrist": WRIST[None, None]}, "language": {"task": [[PROMPT]]},
                            "state": {name: value.reshape(1, 1, 1) for name, value in zip(("x", "y", "grip"), STATE, strict=True)}},
            "options": None}


def test_gr00t_flat_and_nested(gr00t: Gr00tClient) -> None:
    assert gr00t.ask("ping")["status"] == "ok"
    found = gr00t.ask(None, flat())  # get_action is the default
    np.testing.assert_array_equal(np.concatenate([found[f"action.{name}"] for name in SPEC.action.names], 1), actions())
    action, info = gr00t.ask("get_action", nested())
    np.testing.assert_array_equal(np.concatenate([action[name] for name in SPEC.action.names], 2)[0], actions(calls=2))
    assert info["infer_ms"] >= 0
    gr00t.ask("reset")
    action, _ = gr00t.ask("get_action", nested())
    np.testing.assert_array_equal(action["x"][0, :, 0], actions()[:, 0])


def test_gr00t_says_what_it_wants(gr00t: Gr00tClient) -> None:
    found = {name: json.loads(config["as_json"]) for name, config in gr00t.ask("get_modality_config").items()}
    assert found["video"]["modality_keys"] == ["front", "wrist"] and found["language"]["modality_keys"] == [INSTRUCTION]
    assert found["action"] == {"delta_indices": [0, 1, 2, 3], "modality_keys": ["x", "y", "grip"]}


BOMB = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + b"\n"
PICKLE = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n........"


@pytest.mark.parametrize("request_, words", [
    (("kill",), "a server is stopped where it runs"), (("get_actoin",), "did you mean 'get_action'"),
    (("get_action", {}), "no single number for x, y, grip"), (("get_action", flat() | {"state.x": None}), "no single number for x"),
    (("get_action", flat() | {"annotation.human.task_description": ["crash"]}), "the policy failed"),
    (("get_action", flat() | {"video.front": np.zeros((2, 12, 16, 3), np.uint8)}), "camera 'front'"),
    (("get_action", {"observation": {"video": 1}}), "video, state and language"),
    (("get_action", {"x": {"__ndarray_class__": True, "as_npy": BOMB}}), "array"),
    (("get_action", {"x": {"__ndarray_class__": True, "as_npy": PICKLE}}), "dtype"),
    (("get_action", {"x": {"__ndarray_class__": True, "as_npy": b"\x80\x04pickle"}}), "not an .npy file"),
], ids=range(10))  # fmt: skip
def test_gr00t_mistakes_are_one_line(gr00t: Gr00tClient, request_: tuple, words: str) -> None:
    answer = gr00t.ask(*request_)
    assert words in answer["error"] and "secret" not in answer["error"]
    assert gr00t.ask("ping")["status"] == "ok"


def test_gr00t_survives_noise(gr00t: Gr00tClient) -> None:
    random = np.random.default_rng(1)
    for _ in range(200):
        assert "error" in gr00t.send(b"\xc1" + random.bytes(int(random.integers(0, 100))))
    assert gr00t.ask("ping")["status"] == "ok"


def test_gr00t_wants_the_token_and_has_no_tls() -> None:
    with PolicyServer(Policy(), port=0, api_key="right", adapters=[adapter := Gr00tZmq(port=0)]):
        client = Gr00tClient(adapter.port)
        assert "api_token" in client.ask("ping")["error"] and "api_token" in client.ask("ping", api_token="wrong")["error"]
        assert client.ask("ping", api_token="right")["status"] == "ok"
        client.socket.close()


# --- vla-eval --------------------------------------------------------------------------------------------------------


def array(value: np.ndarray) -> dict:
    return {"__ndarray__": True, "data": value.tobytes(), "dtype": value.dtype.str, "shape": list(value.shape)}


def picture(value: np.ndarray, form: str) -> dict:
    from PIL import Image

    if form == "raw":
        return {"__image__": True, "format": "raw", "data": value.tobytes(), "dtype": "|u1", "shape": list(value.shape)}
    buffer = io.BytesIO()
    Image.fromarray(value).save(buffer, format="PNG")
    return {"__image__": True, "format": "png", "data": buffer.getvalue(), "shape": list(value.shape)}


class VlaEvalClient:
    def __init__(self, url: str) -> None:
        self.connection, self.seq = connect(url, compression=None, proxy=None), 0

    def send(self, kind: str, payload: dict) -> None:
        self.seq += 1
        self.connection.send(msgpack.packb({"type": kind, "payload": payload, "seq": self.seq, "timestamp": 0.0}))

    def ask(self, kind: str, payload: dict) -> tuple[str, dict]:
        self.send(kind, payload)
        answer = msgpack.unpackb(self.connection.recv(10))
        assert answer["seq"] == self.seq and answer["timestamp"] > 0
        return answer["type"], answer["payload"]


def test_vla_eval_hands_out_a_chunk_over_the_steps_to_execute(server: PolicyServer) -> None:
    client = VlaEvalClient(server.url + "/vla-eval")
    kind, hello = client.ask("hello", {"harness_version": "0.8.0", "protocol_version": 1})
    assert kind == "hello" and hello["protocol_version"] == 1
    assert hello["action_spec"]["grip"]["format"] == "binary_open_positive" and hello["action_spec"]["x"]["format"] == "delta m"
    expected = [actions()[0], actions()[1], actions(calls=2)[0]]
    for form in ("png", "raw"):
        client.send("episode_start", {"task": {"name": "t"}})
        for action in expected:
            kind, payload = client.ask("observation", {"images": {"front": picture(FRONT, form), "wrist": picture(WRIST, form)},
                                                       "state": array(STATE), "task_description": PROMPT})
            assert kind == "action"
            np.testing.assert_array_equal(np.frombuffer(payload["actions"]["data"], np.float32), action)
        client.send("episode_end", {"success": True})
    client.connection.close()


@pytest.mark.parametrize("payload, words", [
    ({"images": 3}, "'images'"), ({"images": {"agentview": picture(FRONT, "png")}}, "observation/agentview_image"),
    ({"images": {"front": {"__image__": True, "format": "png", "data": b"GIF89a", "shape": []}}}, "picture: cannot be read"),
    ({"images": {"front": {"__ndarray__": True, "data": b"", "dtype": "|O", "shape": [1]}}}, "dtype"),
])  # fmt: skip
def test_vla_eval_mistakes_are_error_messages(server: PolicyServer, payload: dict, words: str) -> None:
    client = VlaEvalClient(server.url + "/vla-eval/arm")
    client.send("observation", payload)
    answer = msgpack.unpackb(client.connection.recv(10))
    assert answer["type"] == "error" and words in answer["payload"]["error"]
    assert client.ask("hello", {})[0] == "hello"
    client.connection.close()


def test_a_policy_that_does_not_read_the_state_needs_none_sent() -> None:
    class Blind(Policy):
        recipe = SimpleNamespace(name="blind", hash="0", horizon=4, execute=2, data=SimpleNamespace(state=False))

    with PolicyServer(Blind(), port=0, adapters=[rest := OpenVLARest(port=0)]):
        answer = requests.post(f"http://127.0.0.1:{rest.port}/act", timeout=10, data=json_numpy.dumps(
            {"image": FRONT, "wrist_image": WRIST, "instruction": PROMPT}))
        np.testing.assert_array_equal(json_numpy.loads(answer.text), actions(np.zeros(3, np.float32))[0])


def test_an_adapter_that_cannot_listen_ends_the_server_with_its_reason(server: PolicyServer) -> None:
    with pytest.raises(UserError, match="in use"):
        PolicyServer(Policy(), port=0, adapters=[OpenVLARest(server.adapters[0].port)]).start()
