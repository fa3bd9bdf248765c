"""`vla.evaluate.episode`: chunked control looks only when a chunk is due, and a trial tells what happened."""

import dataclasses
import json

import numpy as np
import pytest
from toy_robot import REACH, Drunk, Expert, ToyRobot

from robot_io import UserError
from vla.evaluate.episode import Trial, jerk, run_episode


def test_the_robot_is_looked_at_once_per_chunk():
    robot = ToyRobot()
    trial = run_episode(robot, Expert(robot), seed=3, execute=2)
    assert trial.success and not trial.wrong_object
    assert robot.renders == len(trial.infer_ms) == -(-trial.steps // 2)


def test_an_observer_sees_every_step_and_changes_nothing():
    robot, seen = ToyRobot(), []
    filmed = run_episode(robot, Drunk(robot), seed=5, execute=4, observer=lambda o, a: seen.append((o.time, a)))
    plain = run_episode(robot, Drunk(robot), seed=5, execute=4)
    assert len(seen) == filmed.steps and [time for time, _ in seen] == pytest.approx(np.arange(filmed.steps) / 10)
    assert (plain.steps, plain.success, plain.jerk) == (filmed.steps, filmed.success, filmed.jerk)


def test_time_is_the_robots_own():
    robot = ToyRobot(rate_hz=5.0, limit=10)
    trial = run_episode(robot, Drunk(robot), seed=0, execute=8)
    assert trial.seconds == trial.steps / 5


def test_max_steps_stops_in_the_middle_of_a_chunk():
    robot = ToyRobot()
    assert run_episode(robot, Expert(robot), seed=3, execute=8, max_steps=3).steps == 3


def test_touching_the_other_dot_is_reported():
    robot = ToyRobot()

    class Confused(Expert):
        def infer(self, observation):
            right = self.robot.target
            self.robot.target = "red" if right == "blue" else "blue"
            chunk = super().infer(observation)
            self.robot.target = right
            return chunk

    trial = run_episode(robot, Confused(robot), seed=3)
    assert trial.wrong_object and not trial.success and trial.instruction == f"go to the {robot.target} dot"


def test_executing_more_than_is_predicted_is_refused():
    robot = ToyRobot()
    with pytest.raises(UserError, match="execute: 9 steps; expected at most 8"):
        run_episode(robot, Expert(robot), seed=0, execute=9)


def test_a_trial_survives_json():
    robot = ToyRobot()
    trial = run_episode(robot, Expert(robot), seed=1)
    assert Trial.from_dict({**json.loads(json.dumps(trial.to_dict())), "policy": "abc"}) == trial


def test_jerk_ignores_steady_motion_grows_with_shaking_and_leaves_the_gripper_out():
    spec = ToyRobot().spec.action
    steady = np.linspace(0, REACH, 20)[:, None].repeat(2, 1)
    shaking = steady + 0.05 * (-1) ** np.arange(20)[:, None]
    assert jerk(steady, spec) == pytest.approx(0, abs=1e-9)
    assert jerk(shaking, spec) == pytest.approx(4 * 0.05 / (2 * REACH), rel=1e-6)
    snapping = np.column_stack([steady[:, 0], np.arange(20) % 2])
    assert jerk(snapping, dataclasses.replace(spec, gripper=1)) == pytest.approx(0, abs=1e-9)


def test_jerk_of_positions_equals_jerk_of_the_moves_between_them():
    spec = ToyRobot().spec.action
    moves = np.random.default_rng(0).uniform(-REACH, REACH, (20, 2))
    places = np.concatenate([np.zeros((1, 2)), np.cumsum(moves, 0)])
    assert jerk(places, dataclasses.replace(spec, modes=("absolute",) * 2)) == pytest.approx(jerk(moves, spec))
    assert jerk(moves, dataclasses.replace(spec, modes=("relative",) * 2)) is None
    assert jerk(moves[:2], spec) is None


def test_latency_costs_a_synchronous_robot_the_time_it_stands_still():
    robot = ToyRobot()
    swift = run_episode(robot, Expert(robot), seed=3, execute=2)
    late = run_episode(robot, Expert(robot), seed=3, execute=2, delay=3)
    assert swift.success and late.success
    assert late.steps == swift.steps + 3 * len(late.infer_ms)
    naive = run_episode(robot, Expert(robot), seed=3, execute=2, delay=3, execution="asynchronous")
    assert naive.steps < late.steps


def test_real_time_chunking_needs_a_policy_that_takes_a_prefix():
    robot, told = ToyRobot(), []
    with pytest.raises(UserError, match="cannot go on from a chunk"):
        run_episode(robot, Expert(robot), seed=3, execute=2, execution="real_time")

    class Continuing(Expert):
        takes_prefix = True

        def infer(self, observation, prefix=None):
            told.append(prefix)
            return super().infer(observation)

    trial = run_episode(robot, Continuing(robot), seed=3, execute=2, delay=1, execution="real_time")
    assert trial.success and told[0] is None and [(len(t.actions), t.delay) for t in told[1:]] == [(6, 1)] * (len(told) - 1)
