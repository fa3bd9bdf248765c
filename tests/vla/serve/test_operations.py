"""What whoever runs a server sees of it: several policies, an exchange while serving, health, metrics, TLS, bounds, a quiet end."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scripted_policy import SPEC, Recipe, ScriptedPolicy, an_observation
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from robot_io import ActionChunk, Observation, UserError
from robot_io.client import PolicyClient, ServerLost
from robot_io.messages import encode_observation
from robot_io.wire import packb, unpackb
from vla.serve import Limits, PolicyServer


class Backwards(ScriptedPolicy):
    """Another policy for the same robot."""

    def __init__(self) -> None:
        super().__init__()
        self.recipe = Recipe(name="backwards", hash="beef")

    def infer(self, observation: Observation) -> ActionChunk:
        chunk = super().infer(observation)
        return replace(chunk, actions=-chunk.actions)


@pytest.fixture
def policy() -> ScriptedPolicy:
    return ScriptedPolicy()


@pytest.fixture
def server(policy: ScriptedPolicy) -> Iterator[PolicyServer]:
    with PolicyServer({"forwards": policy, "backwards": Backwards()}, port=0) as running:
        yield running
        policy.go.set()


def get(server: PolicyServer, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", path, headers=headers or {})
    response = connection.getresponse()
    return response.status, response.read().decode()


def raw(server: PolicyServer) -> ClientConnection:
    connection = connect(server.url, compression=None, proxy=None)
    connection.recv()
    return connection


def message(**changes: object) -> bytes:
    return packb(encode_observation(an_observation(), SPEC.observation) | changes)


def test_policies_are_chosen_by_address(server: PolicyServer, policy: ScriptedPolicy) -> None:
    actions = policy.infer(an_observation()).actions
    for path, sign, name in (("", 1, "scripted"), ("/policies/forwards", 1, "scripted"), ("/policies/backwards", -1, "backwards")):
        with PolicyClient(server.url + path) as client:
            np.testing.assert_array_equal(client.infer(an_observation()).actions, sign * actions)
            assert client.metadata["policy"] == name and client.metadata["policies"] == ["forwards", "backwards"]
    assert json.loads(get(server, "/policies")[1])["backwards"]["recipe_hash"] == "beef"
    for path in ("/policies/forward", "/elsewhere"):
        with pytest.raises(InvalidStatus, match="404"):
            connect(server.url + path, proxy=None)
    assert "did you mean 'forwards'?" in get(server, "/policies/forward")[1]


def test_a_policy_is_exchanged_without_dropping_a_connection(server: PolicyServer, policy: ScriptedPolicy) -> None:
    actions = policy.infer(an_observation()).actions
    with raw(server) as connection, ThreadPoolExecutor(1) as thread:
        connection.send(packb({"reset": True, "seed": 7}))
        connection.recv()
        policy.go.clear()
        policy.thinking.clear()
        connection.send(message())
        assert policy.thinking.wait(10)
        thread.submit(server.service.reload, "forwards", new := Backwards()).result(10)
        policy.go.set()
        np.testing.assert_array_equal(unpackb(connection.recv())["actions"], actions)  # begun with the old one
        connection.send(message())
        np.testing.assert_array_equal(unpackb(connection.recv())["actions"], -actions)
        assert new.resets == [7]


@pytest.mark.parametrize("change, words", [
    (lambda p: setattr(p, "spec", replace(SPEC, action=replace(SPEC.action, rate_hz=20.0))), "rate_hz"),
    (lambda p: setattr(p, "recipe", Recipe(horizon=8)), "horizon 4, execute 2, as the robots were told"),
    (lambda p: setattr(p, "oracle", True), "ground truth"),
])  # fmt: skip
def test_an_exchange_that_breaks_a_promise_is_refused(server: PolicyServer, policy: ScriptedPolicy, change, words: str) -> None:
    change(new := Backwards())
    with pytest.raises(UserError, match=words):
        server.service.reload("forwards", new)
    assert server.service.policies["forwards"] is policy
    assert 'vla_reloads_total{outcome="refused",policy="forwards"} 1.0' in get(server, "/metrics")[1]


def test_metrics_count_what_became_of_requests(server: PolicyServer, policy: ScriptedPolicy) -> None:
    with raw(server) as connection:
        for frame in (message(), message(), message(prompt=3), message(prompt="crash")):
            connection.send(frame)
            connection.recv()
        page = get(server, "/metrics")[1]
    counts = dict(re.findall(r'^vla_requests_total\{outcome="(\w+)",policy="forwards"\} ([\d.]+)', page, re.MULTILINE))
    assert counts == {"answered": "2.0", "refused": "1.0", "late": "0.0", "busy": "0.0", "failed": "1.0"}
    assert "vla_connections 1.0" in page and 'vla_infer_seconds_count{policy="forwards"} 2.0' in page


def test_a_deadline_travels(server: PolicyServer, policy: ScriptedPolicy) -> None:
    policy.go.clear()
    with raw(server) as slow, raw(server) as hasty:
        slow.send(message())
        assert policy.thinking.wait(10)
        hasty.send(message(deadline_ms=20))
        time.sleep(0.1)
        policy.go.set()
        assert "was not computed; expected an answer within its deadline of 20 ms" in hasty.recv(10)
        assert unpackb(slow.recv(10))["actions"].shape == (4, 2)
        for wrong in (-1, "soon", float("nan"), True):
            hasty.send(message(deadline_ms=wrong))
            assert "'deadline_ms'" in hasty.recv(10)
        hasty.send(message(prefix_actions=np.zeros((2, 2), np.float32), delay=1))
        assert "cannot go on from a running chunk" in hasty.recv(10)


def test_a_server_that_is_told_to_stop_answers_what_it_was_asked(policy: ScriptedPolicy) -> None:
    server = PolicyServer(policy, port=0).start()
    policy.go.clear()
    with raw(server) as busy, raw(server) as idle, ThreadPoolExecutor(1) as thread:
        busy.send(message())
        assert policy.thinking.wait(10)
        stopping = thread.submit(server.stop)
        time.sleep(0.1)
        with pytest.raises(ConnectionError):
            get(server, "/readyz")  # no new clients
        assert not stopping.done()
        policy.go.set()
        assert unpackb(busy.recv(10))["actions"].shape == (4, 2)
        stopping.result(10)
        for connection in (busy, idle):
            with pytest.raises(Exception, match="1001"):
                connection.recv(10)


def test_stopping_does_not_wait_for_ever(policy: ScriptedPolicy) -> None:
    policy.go.clear()
    with PolicyServer(policy, port=0, limits=Limits(drain=0.1)) as server, raw(server) as connection:
        connection.send(message())
        assert policy.thinking.wait(10)
        threading.Timer(0.5, policy.go.set).start()  # else the inference thread would be waited for
        server.stop()
        with pytest.raises(Exception, match="1001"):
            connection.recv(10)


def test_readiness_and_keys_of_plain_requests(policy: ScriptedPolicy) -> None:
    with PolicyServer(policy, port=0, api_key="right") as server:
        for path in ("/healthz", "/readyz", "/health"):
            assert get(server, path)[0] == 200
        for path in ("/metrics", "/policies"):
            assert get(server, path)[0] == 401
            assert get(server, path, {"Authorization": "Api-Key right"})[0] == 200


def test_connections_and_pace_are_bounded(policy: ScriptedPolicy) -> None:
    with PolicyServer(policy, port=0, limits=Limits(max_connections=2, max_rate=50)) as server:
        with raw(server) as fast, raw(server):
            with pytest.raises(InvalidStatus, match="503"):
                connect(server.url, proxy=None)
            assert get(server, "/healthz")[0] == 200
            started = time.monotonic()
            for _ in range(70):  # 50 in hand, 20 more at 50 a second
                fast.send(message())
                fast.recv()
            assert 0.35 < time.monotonic() - started < 3
        deadline = time.monotonic() + 10
        while server._clients and time.monotonic() < deadline:
            time.sleep(0.01)
        raw(server).close()


def test_a_hundred_idle_connections_disturb_nobody(server: PolicyServer) -> None:
    idle = [raw(server) for _ in range(100)]
    with PolicyClient(server.url) as client:
        assert client.infer(an_observation()).actions.shape == (4, 2)
    for connection in idle:
        connection.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with the openssl program")
def test_tls(policy: ScriptedPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-out", files[0], "-keyout", files[1]],
                   check=True, capture_output=True)
    with PolicyServer(policy, port=0, tls=files) as server:
        assert server.url.startswith("wss://")
        with pytest.raises(UserError, match="certificate verify failed"):
            PolicyClient(server.url, wait=0)
        monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
        with PolicyClient(server.url) as client:
            np.testing.assert_array_equal(client.infer(an_observation()).actions, policy.infer(an_observation()).actions)
        with pytest.raises((ServerLost, UserError)):
            PolicyClient(server.url.replace("wss", "ws"), wait=0)
    with pytest.raises(UserError, match="PEM certificate chain"):
        PolicyServer(policy, port=0, tls=(files[1], files[0]))
