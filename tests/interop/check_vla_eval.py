"""Does vla-eval's own client, unmodified, drive our server? Run by hand: it is a package of its own with its own pins.

    python -m venv /tmp/vla_eval_env
    /tmp/vla_eval_env/bin/pip install vla-eval==0.8.0
    python tests/interop/check_vla_eval.py /tmp/vla_eval_env/bin/python

This process serves a policy whose actions depend on every byte it sees. A second process, in the other environment, drives it through
vla-eval's `Connection` and through its `SyncEpisodeRunner` with a small benchmark of its `StepBenchmark` kind.
Prints one line a check; exits with 1 if one fails.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import numpy as np
from check_openpi_client import STATE, expected_actions, pictures, serve

PROMPT = "open the drawer"
STEPS = 7


def drive(url: str) -> None:
    """In the other environment: use vla-eval's client and runner, print what was seen as JSON."""
    from vla_eval.benchmarks.base import StepBenchmark, StepResult
    from vla_eval.connection import Connection
    from vla_eval.runners.sync_runner import SyncEpisodeRunner
    from vla_eval.specs import DimSpec

    base, wrist = pictures()
    observation = {"images": {"base": base, "wrist": wrist}, "state": STATE, "task_description": PROMPT}
    applied: list[list[float]] = []

    class Benchmark(StepBenchmark):
        def get_tasks(self):
            return [{"name": "t"}]

        def reset(self, task):
            return None

        def step(self, action):
            applied.append(np.asarray(action["actions"]).tolist())
            return StepResult(obs=None, reward=0.0, done=len(applied) >= STEPS, info={})

        def make_obs(self, raw_obs, task):
            return observation

        def get_step_result(self, step_result):
            return {"success": True}

        def get_metadata(self):
            return {"max_steps": STEPS}

        def get_action_spec(self):
            return {}

        def get_observation_spec(self):
            return {}

    async def run() -> dict:
        found = {}
        async with Connection(url) as connection:
            found["hello"] = sorted(connection.server_info)
            specs = {k: DimSpec.from_dict(v) for k, v in connection.server_info["action_spec"].items()}
            found["specs"] = sorted(specs)
            result = await SyncEpisodeRunner().run_episode(Benchmark(), {"name": "t"}, connection, max_steps=20)
            found["steps"], found["applied"] = result["steps"], applied
            await connection.start_episode({"task": {"name": "t"}})
            try:
                await connection.act({"images": {}, "state": STATE, "task_description": PROMPT})
            except RuntimeError as error:
                found["error"] = str(error)
        return found

    print(json.dumps(asyncio.run(run())))


def check(client_python: str) -> bool:
    with serve() as server:
        output = subprocess.run([client_python, __file__, "--drive", f"{server.url}/vla-eval"], check=True, capture_output=True, text=True)
    found = json.loads(output.stdout.splitlines()[-1])
    chunk = expected_actions(*pictures(), STATE, PROMPT)
    checks = {
        "hello is understood": "action_spec" in found["hello"],
        "every action dimension has a spec": found["specs"] == sorted("abcdefg"),
        "its runner ends the episode": found["steps"] == STEPS,
        "each step got its action of the chunk": np.allclose(found["applied"], chunk[[0, 1, 2, 3, 4, 0, 1]]),
        "a missing camera is a readable error": "camera 'base'" in found["error"] and "Traceback" not in found["error"],
    }
    for name, passed in checks.items():
        print(f"{'ok    ' if passed else 'FAILED'} {name}")
    return all(checks.values())


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--drive":
        drive(sys.argv[2])
    elif len(sys.argv) == 2:
        sys.exit(not check(sys.argv[1]))
    else:
        sys.exit(__doc__)
