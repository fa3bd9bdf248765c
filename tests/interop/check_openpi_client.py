"""Does the stock `openpi-client`, unmodified, drive our server? Run by hand: its numpy<2 pin wants an environment of its own.

    python -m venv /tmp/openpi_env
    /tmp/openpi_env/bin/pip install openpi-client==0.1.2 typing_extensions   # which it imports and does not declare
    python tests/interop/check_openpi_client.py /tmp/openpi_env/bin/python

This process serves a policy whose actions depend on every byte it sees. A second process, in the other environment, runs
the stock `WebsocketClientPolicy` and `ActionChunkBroker` against it with the keys of LIBERO and of DROID, a wrong
observation, and a key. Prints one line a check and the round trip with two 224 px views; exits with 1 if one fails.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np

STATE = np.linspace(-1, 1, 8)
KEY = "sesame"
CALLS = 300


def pictures() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    base, wrist = random.integers(0, 256, (2, 224, 224, 3), np.uint8)
    return base, wrist


def expected_actions(base: np.ndarray, wrist: np.ndarray, state: np.ndarray, prompt: str) -> np.ndarray:
    """What the served policy does with what it sees: `float32 [10, 7]`."""
    seen = base.mean() + 2 * wrist.mean() + float(state.astype(np.float32).sum()) + len(prompt)
    return np.sin(seen * np.arange(1, 71)).reshape(10, 7).astype(np.float32)


def drive(url: str, guarded_url: str) -> None:
    """In the other environment: use the stock client, print what it saw as JSON."""
    from openpi_client import action_chunk_broker, image_tools
    from openpi_client.websocket_client_policy import WebsocketClientPolicy

    base, wrist = pictures()
    libero = {
        "observation/image": image_tools.convert_to_uint8(image_tools.resize_with_pad(base, 224, 224)),
        "observation/wrist_image": wrist, "observation/state": STATE, "prompt": "open the drawer",
    }  # fmt: skip
    droid = {"observation/base": base, "observation/wrist": wrist, "observation/state": STATE, "prompt": "open it"}
    found = {}

    host, port = url.removeprefix("ws://").split(":")
    policy = WebsocketClientPolicy(host, int(port))
    found["metadata"] = sorted(policy.get_server_metadata())
    result = policy.infer(libero)
    found["libero"], found["timing"] = result["actions"].tolist(), sorted(result["server_timing"])
    found["droid"] = policy.infer(droid)["actions"].tolist()
    try:
        policy.infer({key: value for key, value in libero.items() if "wrist" not in key})
    except RuntimeError as error:
        found["error"] = str(error)
    broker = action_chunk_broker.ActionChunkBroker(policy, action_horizon=5)
    found["broker"] = [broker.infer(libero)["actions"].tolist() for _ in range(7)]
    broker.reset()

    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        policy.infer(libero)
        times.append(1e3 * (time.perf_counter() - start))
    found["round_trip_ms"] = np.percentile(times, [50, 99]).tolist()

    found["key"] = WebsocketClientPolicy(guarded_url, api_key=KEY).infer(libero)["actions"].tolist()
    try:
        WebsocketClientPolicy(guarded_url, api_key="wrong")
    except Exception as error:  # each version of websockets has its own
        found["wrong key"] = str(error)
    print(json.dumps(found))


def serve(**options: object):
    """A server of the policy, not yet running."""
    from types import SimpleNamespace

    from robot_io import ActionChunk, ActionSpec, CameraSpec, Observation, ObservationSpec, RobotSpec
    from vla.serve import PolicyServer

    class Policy:
        spec = RobotSpec(
            robot="libero-like",
            observation=ObservationSpec(
                (CameraSpec("base", 224, 224), CameraSpec("wrist", 224, 224)), tuple("abcdefgh"), ("1",) * 8
            ),
            action=ActionSpec(tuple("abcdefg"), ("1",) * 7, (-1.0,) * 7, (1.0,) * 7, ("delta",) * 7, rate_hz=10.0),
        )
        recipe = SimpleNamespace(name="interop", hash="0", horizon=10, execute=5)

        def session(self) -> Policy:
            return self

        def infer(self, observation: Observation) -> ActionChunk:
            views = (observation.cameras[name].rgb for name in ("base", "wrist"))
            actions = expected_actions(*views, observation.state, observation.instruction)
            return ActionChunk(actions, self.spec.action)

        def reset(self, seed: int = 0) -> None:
            pass

    return PolicyServer(Policy(), port=0, **options)


def check(client_python: str) -> bool:
    """Serve, let the stock client drive, and compare what it got with what was meant."""
    with serve() as server, serve(api_key=KEY) as guarded:
        output = subprocess.run(
            [client_python, __file__, "--drive", server.url, guarded.url], check=True, capture_output=True, text=True
        ).stdout
    found = json.loads(output)
    libero = expected_actions(*pictures(), STATE, "open the drawer")
    checks = {
        "first message is read": "robot_spec" in found["metadata"],
        "LIBERO's keys give the right actions": np.array_equal(found["libero"], libero),
        "DROID's keys give the right actions": np.array_equal(
            found["droid"], expected_actions(*pictures(), STATE, "open it")
        ),
        "server_timing is there": "infer_ms" in found["timing"],
        "a missing camera is a readable error": "camera 'wrist'" in found["error"]
        and "Traceback" not in found["error"],
        "ActionChunkBroker replays the chunk": np.array_equal(found["broker"], libero[[0, 1, 2, 3, 4, 0, 1]]),
        "the right key is let in": np.array_equal(found["key"], libero),
        "a wrong key is not": "401" in found["wrong key"],
    }
    for name, passed in checks.items():
        print(f"{'ok    ' if passed else 'FAILED'} {name}")
    median, tail = found["round_trip_ms"]
    print(f"round trip, two 224x224 views, {CALLS} calls: p50 {median:.2f} ms, p99 {tail:.2f} ms")
    return all(checks.values())


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "--drive":
        drive(*sys.argv[2:])
    elif len(sys.argv) == 2:
        sys.exit(not check(sys.argv[1]))
    else:
        sys.exit(__doc__)
