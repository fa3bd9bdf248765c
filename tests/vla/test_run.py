"""`vla run` and its parts: a policy or an expert on a robot in real time, from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from toy_robot import ToyRobot
from typer.testing import CliRunner

from robot_io import SpecMismatch, UserError
from robot_io.dataset import Dataset
from robot_io.execution.human import Human
from robot_io.safety import Limits
from vla.cli import app
from vla.commands.keys import Keys
from vla.run import read_limits, run

TOY = {"kind": "toy_robot:ToyRobot", "rate_hz": 50.0}


def test_a_run_from_the_command_line_is_logged_and_told(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["run", "toy_robot:Expert", "robot.rate_hz=50", "--robot", "toy_robot:ToyRobot", "--episodes", "2",
                                     "--execute", "4", "--log", str(tmp_path / "log"), "--json"])
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout.splitlines()[-1])
    assert told["successes"] == 2 and [episode["reason"] for episode in told["episodes"]] == ["done", "done"]
    data = Dataset(tmp_path / "log")
    assert [episode.length for episode in data.episodes] == [episode["logged"] for episode in told["episodes"]]
    data.check(ToyRobot(rate_hz=50.0).spec, ("front",))


def test_a_robots_computer_needs_no_torch() -> None:
    program = """
import sys
for heavy in ("torch", "transformers", "scipy", "diffusers", "safetensors", "matplotlib", "mujoco"):
    sys.modules[heavy] = None
from fault_rig import Seer
from vla.cli import app
from vla.serve import PolicyServer
with PolicyServer(Seer(), port=0) as server:
    sys.argv = ["vla", "run", server.url, "robot.rate_hz=50", "--robot", "toy_robot:ToyRobot", "--seconds", "0.2"]
    app()
"""
    path = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", ""), os.getcwd()])
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, timeout=120)
    assert found.returncode == 0 and "1 episodes" in found.stdout, found.stderr


def test_a_human_who_stopped_is_not_asked_again() -> None:
    human, begun = Human(), []

    def before(episode: int, robot: object) -> None:
        begun.append(episode)
        if episode == 1:
            human.stop()

    assert len(run("toy_robot:Expert", TOY, episodes=5, human=human, before=before)) == 1
    assert begun == [0, 1]


def test_another_robots_log_is_refused_before_anything_moves(tmp_path: Path) -> None:
    run("toy_robot:Expert", TOY, log=tmp_path / "log")
    with pytest.raises(SpecMismatch, match="rate_hz"):
        run("toy_robot:Expert", TOY | {"rate_hz": 20.0}, log=tmp_path / "log")


def test_limits_are_read_and_kept(tmp_path: Path) -> None:
    (tmp_path / "cell.yaml").write_text("velocity: [1.0, 2.0]\nworkspace: [[0, 0, 0], [1, 1, 1]]\njoints: {x: [-1, 1]}\n")
    assert read_limits(tmp_path / "cell.yaml") == Limits(velocity=(1.0, 2.0), workspace=((0, 0, 0), (1, 1, 1)), joints={"x": (-1, 1)})
    reports = run("toy_robot:Expert", TOY, limits=Limits(velocity=(1.0, 1.0)))
    assert reports[0].faults["speed"] > 0
    (tmp_path / "cell.yaml").write_text("velosity: [1.0]\n")
    with pytest.raises(UserError, match="did you mean 'velocity'"):
        read_limits(tmp_path / "cell.yaml")
    with pytest.raises(UserError, match="velocity"):
        run("toy_robot:Expert", TOY, limits=replace(Limits(), velocity=(1.0,)))


def test_keys_pause_continue_and_stop() -> None:
    human = Human()
    keys = Keys(human)
    keys.press(" ")
    assert human.in_charge and human.action is None
    keys.press(" ")
    assert not human.in_charge
    keys.press("q")
    assert human.stopped
    with keys, pytest.raises(UserError, match="pass --yes"):
        keys.confirm("move?")  # no terminal here
