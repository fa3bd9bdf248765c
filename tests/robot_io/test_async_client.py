"""The client for event loops, against the real server with a scripted policy and against one that falls silent."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest
from scripted_policy import SPEC, ScriptedPolicy, an_observation
from websockets.sync.server import ServerConnection, serve

from robot_io import SpecMismatch, UserError
from robot_io.async_client import AsyncPolicyClient
from robot_io.client import PolicyClient, ServerLost
from robot_io.wire import packb
from vla.serve import PolicyServer


def test_it_gets_what_the_other_client_gets_however_many_ask_at_once() -> None:
    async def ask(url: str) -> list[np.ndarray]:
        async with AsyncPolicyClient(url, robot_spec=SPEC) as client:
            await client.reset(seed=7)
            chunks = await asyncio.gather(*(client.infer(an_observation(seed)) for seed in range(6)))
            with pytest.raises(UserError, match="camera"):
                await client.infer(replace(an_observation(), cameras={}))
            return [chunk.actions for chunk in chunks]

    policy = ScriptedPolicy()
    with PolicyServer(policy, port=0) as server:
        found = asyncio.run(ask(server.url))
        with PolicyClient(server.url) as client:
            expected = [client.infer(an_observation(seed)).actions for seed in range(6)]
        assert policy.resets == [7]
    np.testing.assert_array_equal(found, expected)


def test_another_robot_is_refused_and_nobody_there_is_said() -> None:
    async def connect(url: str, **options: object) -> None:
        async with AsyncPolicyClient(url, wait=0.0, **options):
            pass

    with PolicyServer(ScriptedPolicy(), port=0, api_key="secret") as server:
        with pytest.raises(SpecMismatch, match="rate_hz"):
            other = replace(SPEC, action=replace(SPEC.action, rate_hz=20.0))
            asyncio.run(connect(server.url, api_key="secret", robot_spec=other))
        with pytest.raises(UserError, match="API key is missing or wrong"):
            asyncio.run(connect(server.url, api_key="guess"))
    with pytest.raises(ServerLost, match="cannot be reached"):
        asyncio.run(connect(server.url))


def test_silence_ends_in_time_and_the_next_request_connects_anew() -> None:
    connections = []

    def talk(connection: ServerConnection) -> None:
        connections.append(connection)
        connection.send(packb({"robot_spec": SPEC.to_dict(), "policy": "silent", "horizon": 4, "execute": 2}))
        connection.recv()
        connection.recv()  # never answers

    async def ask(url: str) -> None:
        async with AsyncPolicyClient(url, timeout=0.2) as client:
            for _ in range(2):
                with pytest.raises(ServerLost, match=r"no answer within 0\.2 s"):
                    await client.infer(an_observation())

    with serve(talk, "127.0.0.1", 0) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        asyncio.run(ask(f"127.0.0.1:{running.socket.getsockname()[1]}"))
        running.shutdown()
        thread.join()
    assert len(connections) == 2
