"""The real-time loop, driving the toy robot at 50 steps a second: what it does when things go well, and when they do not."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_robot import Expert, ToyRobot

from robot_io import Observation, UserError
from robot_io.dataset import Dataset, Recorder
from robot_io.execution.freshness import Freshness
from robot_io.execution.human import Human
from robot_io.execution.log import Log
from robot_io.runner import Patience, Runner
from robot_io.safety import Limits, Safety

HASTY = Patience(first=1.0, answer=0.2, stale=0.2, silence=0.3)


class Watched(ToyRobot):
    """Remembers what it was told to do."""

    def __init__(self, **options: object) -> None:
        super().__init__(**{"rate_hz": 50.0} | options)
        self.told: list[np.ndarray] = []
        self.stops = 0
        self.reset(3)

    def act(self, action: np.ndarray) -> None:
        self.told.append(np.array(action))
        super().act(action)

    def stop(self) -> None:
        self.stops += 1


class Slow(Expert):
    """Thinks for a while."""

    takes_prefix = True
    seconds = 0.08

    def infer(self, observation: Observation, prefix=None):
        time.sleep(self.seconds)
        return super().infer(observation)


def test_an_expert_reaches_the_dot_and_the_robot_is_stopped() -> None:
    robot = Watched()
    report = Runner(robot, Expert(robot), execute=4).run(seconds=5)
    assert (report.reason, report.success) == ("done", True)
    assert len(robot.told) == report.steps - report.held and robot.stops == 1 and not report.faults


def test_the_rate_is_held() -> None:
    robot = Watched(limit=30)
    robot.dots[robot.target] = np.array([9.0, 9.0])
    began = time.monotonic()
    report = Runner(robot, Expert(robot), execution="asynchronous", execute=2).run(seconds=20)
    assert report.reason == "done"
    assert time.monotonic() - began > (report.steps - 1) / 50, "never faster, whatever was missed before"


def test_a_slow_policy_makes_a_synchronous_robot_wait_and_an_asynchronous_one_not() -> None:
    reports = {}
    for execution in ("synchronous", "real_time"):
        robot = Watched(limit=24, rate_hz=20.0)
        robot.dots[robot.target] = np.array([9.0, 9.0])
        reports[execution] = Runner(robot, Slow(robot), execution=execution, execute=3).run(seconds=30)
    assert reports["synchronous"].held >= 8, "a step and more for each of eight chunks"
    assert reports["real_time"].held < reports["synchronous"].held
    assert np.min(reports["real_time"].latency) >= 0.08


class Broken(Expert):
    """Works once, then not any more."""

    calls = 0

    def infer(self, observation: Observation):
        self.calls += 1
        return super().infer(observation) if self.calls == 1 else self.fail(observation)

    def fail(self, observation: Observation):
        raise UserError("policy server", "the connection was lost")


class Hanging(Broken):
    def fail(self, observation: Observation):
        time.sleep(1.0)
        return super().infer(observation)


class Poisoned(Broken):
    """Its chunks turn into NaN after they were checked."""

    def fail(self, observation: Observation):
        chunk = Expert.infer(self, observation)
        chunk.actions[:] = np.nan
        return chunk


class AnotherRobots(Broken):
    def fail(self, observation: Observation):
        chunk = Expert.infer(self, observation)
        return replace(chunk, spec=replace(chunk.spec, modes=("absolute", "absolute")))


@pytest.mark.parametrize("driver, fault", [
    (Broken, "no answer"), (Hanging, "no answer"), (Poisoned, "not a number"), (AnotherRobots, "another robot's chunk")])
def test_what_goes_wrong_with_the_policy_makes_the_robot_hold_and_then_stop(driver: type[Broken], fault: str) -> None:
    robot = Watched(limit=1000)
    robot.dots[robot.target] = np.array([9.0, 9.0])
    report = Runner(robot, driver(robot), execute=3, patience=HASTY).run(seconds=5)
    assert report.reason == "silence" and report.faults[fault] and fault in report.detail
    assert len([action for action in robot.told if np.abs(action).max() > 0]) == 3, "the three actions that were good"
    assert np.isfinite(robot.told).all() and robot.stops == 1


def test_a_frozen_camera_makes_the_robot_hold() -> None:
    class Frozen(Watched):
        def observe(self) -> Observation:
            seen = super().observe()
            if self.steps == 2:
                self.picture = seen.cameras
            return seen if self.steps < 2 else replace(seen, cameras=self.picture)

    robot = Frozen(limit=1000)
    robot.dots[robot.target] = np.array([0.9, 0.9])
    report = Runner(robot, Expert(robot), execute=8, patience=HASTY, freshness=Freshness(pictures=3)).run(seconds=5)
    assert report.reason == "silence" and "front, wrist: the same picture" in report.detail
    moved = [i for i, action in enumerate(robot.told) if np.abs(action).max() > 0]
    assert max(moved) <= 5


def test_a_robot_that_cannot_look_holds_and_one_that_refuses_to_act_ends_the_run() -> None:
    class Blind(Watched):
        def observe(self) -> Observation:
            if self.steps >= 2:
                raise OSError("camera unplugged")
            return super().observe()

    robot = Blind(limit=1000)
    report = Runner(robot, Expert(robot), execute=8, patience=HASTY).run(seconds=5)
    assert report.reason == "silence" and "camera unplugged" in report.detail
    assert not np.any(robot.told[2:])

    class Refusing(Watched):
        def act(self, action: np.ndarray) -> None:
            raise OSError("protective stop")

    robot = Refusing()
    report = Runner(robot, Expert(robot), execute=8).run(seconds=5)
    assert report.reason == "robot" and "protective stop" in report.detail and robot.stops == 1


def test_a_human_pauses_takes_over_gives_back_and_stops() -> None:
    robot, human = Watched(limit=1000), Human()
    robot.dots[robot.target] = np.array([9.0, 9.0])
    runner = Runner(robot, Expert(robot), execute=4, human=human, patience=replace(HASTY, silence=2.0))
    thread = threading.Thread(target=lambda: runner.run(seconds=60))
    thread.start()

    def wait_for(steps: int) -> list[np.ndarray]:
        """What is done in the next steps, but for the one that may be under way."""
        before = len(robot.told)
        while len(robot.told) < before + steps and thread.is_alive():
            time.sleep(0.01)
        return robot.told[before + 1 :]

    assert np.any(wait_for(5))
    human.pause()
    assert not np.any(wait_for(10))
    human.take(np.array([-0.1, 0.05], np.float32))
    assert np.allclose(wait_for(5), [-0.1, 0.05])
    human.release()
    assert (wait_for(10)[-1] > 0).all()
    human.stop()
    thread.join(20)
    assert runner.report.reason == "human" and runner.report.human >= 14 and robot.stops == 1


def test_a_human_cannot_move_a_robot_that_was_never_seen() -> None:
    class Dark(Watched):
        def observe(self) -> Observation:
            raise OSError("no camera")

    robot, human = Dark(), Human()
    human.take(np.array([0.1, 0.1], np.float32))
    report = Runner(robot, Expert(robot), human=human).run(seconds=0.2)
    assert report.faults["no observation"] and not robot.told


def test_what_was_seen_before_a_long_warm_up_is_not_acted_on() -> None:
    class Warming(Expert):
        calls = 0

        def infer(self, observation: Observation):
            self.calls += 1
            time.sleep(0.4 if self.calls == 1 else 0.0)
            return super().infer(observation)

    robot = Watched()
    report = Runner(robot, Warming(robot), execute=4, patience=replace(HASTY, silence=5.0)).run(seconds=20)
    assert report.success and report.faults["stale answer"] == 1


def test_every_action_passes_the_safety_layer() -> None:
    robot = Watched(limit=20)
    robot.dots[robot.target] = np.array([9.0, 9.0])
    report = Runner(robot, Expert(robot), execute=4, safety=Safety(robot.spec, Limits(velocity=(2.0, 1.0)))).run(seconds=20)
    assert report.faults["speed"] > 5
    assert (np.abs(robot.told) <= np.array([2.0, 1.0]) / 50 + 1e-6).all()


def test_a_run_is_a_demonstration(tmp_path: Path) -> None:
    robot = Watched()
    log = Log(Recorder(tmp_path / "log", robot.spec, codec="lossless"))
    for _ in range(2):
        robot.reset(3)
        robot.told.clear()
        report = Runner(robot, Expert(robot), execute=4, log=log).run(seconds=5)
    data = Dataset(tmp_path / "log")
    data.check(robot.spec, ("front",))
    episode = data.episodes[1]
    assert len(data.episodes) == 2 and episode.success and report.log_problem is None
    assert report.logged == episode.length == len(robot.told)
    np.testing.assert_array_equal(data.column("action")[episode.start:], np.array(robot.told, np.float32))


def test_a_full_disk_ends_the_log_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    robot = Watched(limit=30)
    robot.dots[robot.target] = np.array([0.9, 0.9])
    recorder = Recorder(tmp_path / "log", robot.spec)
    log = Log(recorder, reserve=0)
    Runner(robot, Expert(robot), log=log).run(seconds=5)
    robot.reset(4)
    add = recorder.add

    def full(observation: Observation, action: np.ndarray) -> None:
        if observation.time > 0.05:
            raise OSError(28, "No space left on device")
        add(observation, action)

    monkeypatch.setattr(recorder, "add", full)
    report = Runner(robot, Expert(robot), log=log).run(seconds=5)
    assert report.reason == "done" and "No space left" in report.log_problem
    assert 0 < report.logged < report.steps
    data = Dataset(tmp_path / "log")
    data.check(robot.spec, ("front",))
    assert [episode.length for episode in data.episodes][1:] == [report.logged], "what came before the disk was full is kept"

    robot = Watched(limit=1000)
    robot.dots[robot.target] = np.array([9.0, 9.0])
    log = Log(recorder, reserve=2**62)
    report = Runner(robot, Expert(robot), log=log, stop_without_log=True).run(seconds=30)
    assert report.reason == "log" and "nearly full" in report.log_problem


def test_a_schedule_that_the_policy_cannot_follow_is_refused_before_anything_moves() -> None:
    robot = Watched()
    with pytest.raises(UserError, match="cannot go on from a chunk"):
        Runner(robot, Expert(robot), execution="real_time", execute=4)
    assert not robot.told
