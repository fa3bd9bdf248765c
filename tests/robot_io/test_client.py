"""The client against small servers that answer as told: what it makes of strange ones. With the real server: test_server.py."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from scripted_policy import SPEC, an_observation
from websockets.sync.server import ServerConnection, serve

from robot_io import SpecMismatch, UserError
from robot_io.client import PolicyClient, ServerLost
from robot_io.wire import packb, unpackb

METADATA = {"robot_spec": SPEC.to_dict(), "policy": "scripted", "horizon": 4, "execute": 2}
ACTIONS = np.arange(8, dtype=np.float32).reshape(4, 2)


@contextmanager
def server(*answers: Callable[[dict], bytes | str | None], metadata: object = METADATA, port: int = 0) -> Iterator[str]:
    """Answer the n-th request of every connection with the n-th function; None hangs up."""

    def talk(connection: ServerConnection) -> None:
        connection.send(metadata if isinstance(metadata, str) else packb(metadata))
        for answer in answers:
            if (frame := answer(unpackb(connection.recv()))) is None:
                return
            connection.send(frame)
        connection.recv()

    with serve(talk, "127.0.0.1", port) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{running.socket.getsockname()[1]}"
        finally:
            running.shutdown()
            thread.join()


def good(request: dict) -> bytes:
    return packb({"actions": ACTIONS, "request_id": request["request_id"]})


def test_actions_come_back_with_their_meaning() -> None:
    with server(good) as address, PolicyClient(address, robot_spec=SPEC) as client:
        chunk = client.infer(an_observation())
        np.testing.assert_array_equal(chunk.actions, ACTIONS)
        assert chunk.spec == client.spec.action == SPEC.action
        assert chunk.info["round_trip_ms"] > 0
        assert client.metadata["policy"] == "scripted"


def test_a_policy_for_another_robot_is_refused() -> None:
    robot = replace(SPEC, robot="other", action=replace(SPEC.action, modes=("absolute", "delta"), rate_hz=20.0))
    with server() as address, pytest.raises(SpecMismatch) as error:
        PolicyClient(address, robot_spec=robot)
    for words in ("('delta', 'delta')", "('absolute', 'delta')", "10.0", "20.0", "'scripted'", "'other'"):
        assert words in str(error.value)


def test_a_robot_with_more_cameras_is_welcome() -> None:
    with server(metadata=METADATA | {"robot_spec": SPEC.with_cameras(("wrist",)).to_dict()}) as address:
        PolicyClient(address, robot_spec=SPEC).close()


@pytest.mark.parametrize("metadata", [
    {}, [], {"reset_pose": [0.0]}, METADATA | {"robot_spec": {"robot": "x"}}, METADATA | {"robot_spec": [1]},
    METADATA | {"horizon": 1}, METADATA | {"execute": 0}, METADATA | {"execute": None}, "the policy is broken",
], ids=lambda metadata: str(metadata)[-40:])  # fmt: skip
def test_a_server_that_does_not_say_what_it_serves_is_refused(metadata: object) -> None:
    with server(metadata=metadata) as address, pytest.raises(UserError):
        PolicyClient(address)


def test_a_text_frame_is_an_error_and_the_connection_goes_on() -> None:
    with server(lambda request: "camera 'wrist': too dark", good) as address, PolicyClient(address) as client:
        with pytest.raises(UserError, match="camera 'wrist': too dark"):
            client.infer(an_observation())
        assert client.infer(an_observation()).actions.shape == (4, 2)


@pytest.mark.parametrize("reply", [
    {}, {"actions": ACTIONS[:, :1]}, {"actions": ACTIONS[:1]}, {"actions": np.full((4, 2), np.inf)}, {"actions": [None]},
], ids=repr)  # fmt: skip
def test_a_bad_reply_never_reaches_the_robot(reply: dict) -> None:
    with (
        server(lambda request: packb(reply | {"request_id": request["request_id"]})) as address,
        PolicyClient(address) as client,
        pytest.raises(UserError, match="actions"),
    ):
        client.infer(an_observation())


@pytest.mark.parametrize("answer", [
    lambda request: packb({"actions": ACTIONS, "request_id": request["request_id"] - 1}),
    lambda request: packb({"actions": ACTIONS}), lambda request: packb([1, 2]), lambda request: b"\xc1 not msgpack",
], ids=["another request's", "nobody's", "not a dict", "not msgpack"])  # fmt: skip
def test_an_answer_to_something_else_is_refused(answer: Callable[[dict], bytes]) -> None:
    with server(answer) as address, PolicyClient(address) as client, pytest.raises(UserError):
        client.infer(an_observation())


def test_silence_ends_in_time_and_the_next_request_starts_afresh() -> None:
    silent = threading.Event()

    def slow_once(request: dict) -> bytes:
        if not silent.is_set():
            silent.set()
            time.sleep(0.6)
            return packb({"actions": ACTIONS + 100, "request_id": request["request_id"]})
        return good(request)

    with server(slow_once) as address, PolicyClient(address, timeout=0.3) as client:
        with pytest.raises(ServerLost, match=r"no answer within 0\.3 s"):
            client.infer(an_observation())
        np.testing.assert_array_equal(client.infer(an_observation()).actions, ACTIONS)


def test_a_broken_connection_is_reported_then_renewed() -> None:
    with server(good, lambda request: None) as address, PolicyClient(address) as client:
        client.infer(an_observation())
        with pytest.raises(ServerLost, match="connection was lost"):
            client.infer(an_observation())
        assert client.infer(an_observation()).actions.shape == (4, 2)


def test_after_a_restart_another_robots_policy_is_refused() -> None:
    with server(lambda request: None) as address:
        client = PolicyClient(address)
        with pytest.raises(ServerLost):
            client.infer(an_observation())
    other = replace(SPEC, action=replace(SPEC.action, frame="tool")).to_dict()
    port = int(address.rpartition(":")[2])
    with server(good, metadata=METADATA | {"robot_spec": other}, port=port), pytest.raises(SpecMismatch, match="tool"):
        client.infer(an_observation())


def test_it_waits_for_a_server_that_boots() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    connected = threading.Event()

    def boot() -> None:
        time.sleep(0.3)
        with server(port=port):
            connected.wait(10)

    thread = threading.Thread(target=boot)
    thread.start()
    try:
        PolicyClient(f"localhost:{port}", wait=10).close()
    finally:
        connected.set()
        thread.join()


@pytest.mark.parametrize("address", ["ftp://host:1", "host:port", "", "ws://", "host:99999"])
def test_what_is_not_an_address_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="policy server"):
        PolicyClient(address, wait=0)


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(ServerLost, match="vla serve"):
        PolicyClient(f"127.0.0.1:{port}", wait=0)
