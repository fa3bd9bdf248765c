from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scripted_policy import SPEC, ScriptedPolicy, an_observation
from toy_robot import ToyRobot
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from robot_io import SpecMismatch, UserError
from robot_io.client import PolicyClient, ServerLost
from robot_io.messages import encode_observation
from robot_io.wire import packb, unpackb
from vla.data import Demonstrations
from vla.policy import Policy
from vla.serve import Limits, PolicyServer, check_port

TESTS = Path(__file__).parents[1]


@pytest.fixture
def policy() -> ScriptedPolicy:
    return ScriptedPolicy()


@pytest.fixture
def server(policy: ScriptedPolicy) -> Iterator[PolicyServer]:
    with PolicyServer(policy, port=0, limits=Limits(max_bytes=2**18)) as running:
        yield running
        policy.go.set()


def healthz(server: PolicyServer) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/healthz")
    response = connection.getresponse()
    return response.status, response.read()


def raw(server: PolicyServer, **options: object) -> ClientConnection:
    """A client without manners, past the first message."""
    connection = connect(server.url, compression=None, proxy=None, **options)
    connection.recv()
    return connection


def observation_message(**changes: object) -> dict:
    return encode_observation(an_observation(), SPEC.observation) | {
        k.replace("__", "/"): v for k, v in changes.items()
    }


def test_a_served_policy_acts_as_one_in_this_process(server: PolicyServer, policy: ScriptedPolicy) -> None:
    with PolicyClient(server.url, robot_spec=SPEC) as client:
        for seed in range(3):
            served, local = client.infer(an_observation(seed)), policy.infer(an_observation(seed))
            np.testing.assert_array_equal(served.actions, local.actions)
            assert served.time == local.time and served.spec == local.spec
        assert 0 <= served.info["policy_infer_ms"] <= served.info["server_infer_ms"] <= served.info["round_trip_ms"]
        assert served.info["server_prev_total_ms"] > 0


def test_the_first_message_says_what_is_served(server: PolicyServer) -> None:
    with connect(server.url, proxy=None) as connection:
        metadata = unpackb(connection.recv())
    assert metadata["policy"] == "scripted" and metadata["recipe_hash"] == "0123abcd"
    assert (metadata["horizon"], metadata["execute"]) == (4, 2) and metadata["spec_hash"] == SPEC.hash
    with PolicyClient(server.url) as client:
        assert client.spec == SPEC


def test_a_robot_that_does_not_fit_is_refused(server: PolicyServer) -> None:
    with pytest.raises(SpecMismatch, match="camera 'wrist': the policy needs it, the robot has front"):
        PolicyClient(server.url, robot_spec=SPEC.with_cameras(("front",)))


def test_reset_reaches_the_policy_with_its_seed(server: PolicyServer, policy: ScriptedPolicy) -> None:
    with PolicyClient(server.url) as client:
        client.reset()
        client.reset(7)
    with raw(server) as connection:
        connection.send(packb(observation_message(reset=True, seed=8)))
        assert unpackb(connection.recv())["actions"].shape == (4, 2)
        connection.send(packb({"reset": True, "seed": -1}))
        assert "seed" in connection.recv()
    assert policy.resets == [0, 7, 8]


def test_a_real_policy_drives_a_robot_through_the_server(toy_recipe: Callable) -> None:
    recipe = toy_recipe("head.kind=diffusion")
    data = Demonstrations(recipe)
    policy, robot = Policy.build(recipe, data.spec, data.normalizer()), ToyRobot()
    with PolicyServer(policy, port=0) as server, PolicyClient(server.url, robot_spec=robot.spec) as client:
        robot.reset(3)
        seen, served = [], []
        client.reset(seed=11)
        for _ in range(3):
            seen.append(robot.observe())
            served.append(client.infer(seen[-1]).actions)
            for action in served[-1][: client.metadata["execute"]]:
                robot.act(action)
    policy.reset(seed=11)
    np.testing.assert_array_equal(served, [policy.infer(observation).actions for observation in seen])


@pytest.mark.parametrize("frame, words", [
    ("hello", "binary msgpack"), (b"\xc1", "msgpack"), (packb([1]), "a dict"), (packb({"request_id": [1]}), "request_id"),
    (packb({"reset": True, "seed": "seven"}), "'seed'"),
    (packb({}), "camera 'front'"), (packb(observation_message(observation__state=np.zeros(7))), "state"),
    (packb(observation_message(observation__state=np.full(3, np.nan))), "NaN"),
    (packb(observation_message(observation__wrist_image=np.zeros((224, 224, 3), np.uint8))), "camera 'wrist'"),
    (packb(observation_message(prompt="crash")), "the policy failed"),
])  # fmt: skip
def test_a_bad_request_gets_one_line_and_the_connection_goes_on(
    server: PolicyServer, frame: bytes | str, words: str
) -> None:
    with raw(server) as connection:
        connection.send(frame)
        answer = connection.recv()
        assert isinstance(answer, str) and words in answer and "Traceback" not in answer and "secret" not in answer
        connection.send(packb(observation_message()))
        assert unpackb(connection.recv())["actions"].shape == (4, 2)


def test_health_pings_and_other_robots_do_not_wait_for_a_slow_policy(
    server: PolicyServer, policy: ScriptedPolicy
) -> None:
    policy.go.clear()
    with PolicyClient(server.url) as client, ThreadPoolExecutor(1) as thread:
        slow = thread.submit(client.infer, an_observation())
        assert policy.thinking.wait(10)
        assert healthz(server) == (200, b"OK\n")
        with raw(server) as other:
            assert other.ping().wait(10)
            other.send(b"\xc1")
            assert "msgpack" in other.recv(timeout=10)
        assert not slow.done()
        policy.go.set()
        assert slow.result(10).actions.shape == (4, 2)


def test_slow_inference_outlives_the_pings(policy: ScriptedPolicy) -> None:
    with (
        PolicyServer(policy, port=0, ping_interval=0.05, ping_timeout=0.2) as server,
        PolicyClient(server.url) as client,
    ):
        policy.go.clear()
        threading.Timer(0.8, policy.go.set).start()
        assert client.infer(an_observation()).actions.shape == (4, 2)


def test_two_robots_get_their_own_answers(server: PolicyServer, policy: ScriptedPolicy) -> None:
    def drive(seed: int) -> bool:
        with PolicyClient(server.url) as client:
            return all(
                np.array_equal(client.infer(an_observation(s)).actions, policy.infer(an_observation(s)).actions)
                for s in range(seed, seed + 20)
            )

    with ThreadPoolExecutor(3) as threads:
        assert all(threads.map(drive, (0, 100, 200)))


def test_fuzzed_frames_neither_stop_the_server_nor_show_its_insides(server: PolicyServer) -> None:
    random = np.random.default_rng(0)
    good = packb(observation_message())
    refused, connection = 0, raw(server)
    for number in range(2000):
        frame = bytearray(good)
        if number % 4 == 0:
            frame = random.integers(0, 256, random.integers(1, 300), np.uint8).tobytes()
        elif number % 4 == 1:
            frame = frame[: random.integers(len(frame))]
        else:
            for place in random.integers(0, 300 if number % 2 else len(frame), random.integers(1, 8)):
                frame[place] = random.integers(256)
        connection.send(bytes(frame))
        answer = connection.recv(timeout=10)
        if isinstance(answer, str):
            refused += 1
            assert len(answer) <= 1000 and not re.search(r"Traceback|File \"|\.py", answer)
        else:
            assert unpackb(answer)["actions"].shape == (4, 2)
    assert refused > 1000
    connection.send(good)
    assert unpackb(connection.recv())["actions"].shape == (4, 2)
    connection.close()
    assert healthz(server) == (200, b"OK\n")


def test_a_message_beyond_the_limit_ends_that_connection_only(server: PolicyServer) -> None:
    with raw(server) as connection:
        connection.send(b"\0" * 2**19)
        with pytest.raises(ConnectionClosed, match="1009"):
            connection.recv(timeout=10)
    assert healthz(server) == (200, b"OK\n")


def test_a_client_that_leaves_early_disturbs_nobody(server: PolicyServer, policy: ScriptedPolicy) -> None:
    policy.go.clear()
    connection = raw(server)
    connection.send(packb(observation_message()))
    assert policy.thinking.wait(10)
    connection.close()
    policy.go.set()
    with PolicyClient(server.url) as client:
        client.infer(an_observation())


@pytest.mark.parametrize("headers", [
    {}, {"Authorization": "Api-Key wrong"}, {"Authorization": "Api-Key "}, {"Authorization": "right"},
    {"Authorization": "Bearer right"}, {"Authorization": "Api-Key r\xefght"},
    [("Authorization", "Api-Key right"), ("Authorization", "Api-Key right")],
], ids=str)  # fmt: skip
def test_without_the_key_nobody_gets_in(policy: ScriptedPolicy, headers: object) -> None:
    with PolicyServer(policy, port=0, api_key="right") as server:
        with pytest.raises(InvalidStatus, match="401"):
            connect(server.url, additional_headers=headers, proxy=None)
        assert healthz(server) == (200, b"OK\n")


def test_the_client_brings_the_key(policy: ScriptedPolicy) -> None:
    with PolicyServer(policy, host="0.0.0.0", port=0, api_key="right") as server:
        address = f"127.0.0.1:{server.port}"
        with PolicyClient(address, api_key="right") as client:
            client.infer(an_observation())
        with pytest.raises(UserError, match="API key is missing or wrong"):
            PolicyClient(address, api_key="wrong")


def test_web_pages_are_turned_away(server: PolicyServer) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        connect(server.url, origin="http://evil.example", proxy=None)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "::", "", "robot.example"])
def test_beyond_loopback_a_key_is_required(policy: ScriptedPolicy, host: str) -> None:
    with pytest.raises(UserError, match="no API key"):
        PolicyServer(policy, host=host, port=0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.5"])
def test_on_loopback_none_is(policy: ScriptedPolicy, host: str) -> None:
    with PolicyServer(policy, host=host, port=0) as server:
        PolicyClient(server.url).close()


def test_a_port_in_use_is_one_clear_error(server: PolicyServer, policy: ScriptedPolicy) -> None:
    for attempt in (lambda: check_port("127.0.0.1", server.port), PolicyServer(policy, port=server.port).start):
        with pytest.raises(UserError, match=rf"port {server.port} .*in use.*--port"):
            attempt()


@pytest.mark.parametrize(
    "host, port", [("127.0.0.1", 99_999), ("127.0.0.1", -1), ("203.0.113.1", 0), ("no such host", 0)]
)
def test_a_place_that_cannot_be_had_is_refused(host: str, port: int) -> None:
    with pytest.raises(UserError, match=r"cannot be had|not a port"):
        check_port(host, port)


def test_a_free_port_stays_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_stopping_hangs_up_and_frees_the_port(policy: ScriptedPolicy) -> None:
    with PolicyServer(policy, port=0) as server:
        client = PolicyClient(server.url, wait=0)
        client.infer(an_observation())
    for _ in range(2):  # lost, then refused
        with pytest.raises(ServerLost):
            client.infer(an_observation())
    check_port("127.0.0.1", server.port)
    assert not any(thread.name == "policy-server" for thread in threading.enumerate())


PROGRAM = """
from scripted_policy import ScriptedPolicy
from vla.serve import PolicyServer
server = PolicyServer(ScriptedPolicy(), port=0)
server.serve_forever(on_ready=lambda: print(server.url, flush=True))
print("stopped", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_program_in_good_order(number: int) -> None:
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=environment) as program:  # fmt: skip
        client = PolicyClient(program.stdout.readline().strip())
        client.infer(an_observation())
        program.send_signal(number)
        output, errors = program.communicate(timeout=20)
    assert (program.returncode, output, errors) == (0, "stopped\n", "")
    with pytest.raises(ServerLost):
        client.infer(replace(an_observation(), time=2.0))
