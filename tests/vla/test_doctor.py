"""The doctor: healthy things are left in peace, and each of the field's silent mistakes is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scripted_policy import ScriptedPolicy
from toy_robot import Expert, ToyRobot
from typer.testing import CliRunner

from robot_io import ActionChunk, ActionSpec, CameraSpec, Observation, ObservationSpec, RobotSpec, UserError
from robot_io.dataset import Recorder
from vla.cli import app
from vla.doctor import examine
from vla.doctor.columns import COLUMN_CHECKS, Columns
from vla.doctor.finding import Finding
from vla.doctor.pictures import judge_pictures
from vla.doctor.robot import ask, colours, familiar
from vla.doctor.skew import check_scale, compare, policy_on_data
from vla.evaluate.drivers import Source
from vla.normalize import Normalizer
from vla.serve import PolicyServer

EPISODES, LENGTH = 6, 40
SPEC = RobotSpec(
    "arm", ObservationSpec((), ("tool_x", "tool_y", "gripper_opening"), ("m", "m", "1")),
    ActionSpec(("x", "y", "gripper"), ("m", "m", "1"), (-0.05, -0.05, 0.0), (0.05, 0.05, 1.0), ("delta", "delta", "absolute"), rate_hz=10.0, gripper=2),
)


def healthy() -> Columns:
    """Smooth motions about 0.4 m from the base; the gripper closes halfway and its state follows."""
    rng = np.random.default_rng(0)
    actions, state = [], []
    for _ in range(EPISODES):
        move = np.cumsum(rng.normal(0, 0.004, (LENGTH, 2)), axis=0).clip(-0.04, 0.04) + 0.008 * np.sign(rng.normal(size=2))
        place = 0.4 + np.vstack([np.zeros(2), np.cumsum(move, axis=0)[:-1]]) + rng.normal(0, 0.0005, (LENGTH, 2))
        closing = (np.arange(LENGTH) < LENGTH // 2).astype(float)
        actions.append(np.column_stack([move, closing]))
        state.append(np.column_stack([place, np.concatenate([[1.0], closing[:-1]])]))
    starts = tuple(range(0, EPISODES * LENGTH + 1, LENGTH))
    return Columns(SPEC, np.concatenate(actions), np.concatenate(state), starts, fps=10.0, seconds=np.tile(np.arange(LENGTH) / 10, EPISODES))


def problems(columns: Columns) -> list[Finding]:
    return [finding for check in COLUMN_CHECKS for finding in check(columns) if finding.level != "ok"]


def test_healthy_numbers_are_left_in_peace() -> None:
    assert not problems(healthy())


def declared(*modes: str) -> Callable[[Columns], Columns]:
    return lambda columns: replace(columns, spec=replace(SPEC, action=replace(SPEC.action, modes=modes, low=(-1,) * 3, high=(1,) * 3)))


def changed(column: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Columns], Columns]:
    def damaged(columns: Columns) -> Columns:
        values = getattr(columns, column).copy()
        return replace(columns, **{column: change(values)})

    return damaged


def put(values: np.ndarray, where: object, what: object) -> np.ndarray:
    values[where] = what
    return values


def absolute_recorded_as_delta(columns: Columns) -> Columns:
    then = np.roll(columns.state, -1, axis=0)
    wide = replace(SPEC, action=replace(SPEC.action, low=(-1,) * 3, high=(1,) * 3))
    return replace(columns, spec=wide, actions=np.column_stack([then[:, :2], columns.actions[:, 2]]))


@pytest.mark.parametrize("damage, level, words", [
    (declared("absolute", "absolute", "absolute"), "error", "action 'x' is declared absolute and looks delta"),
    (absolute_recorded_as_delta, "error", "action 'y' is declared delta and looks absolute"),
    (lambda c: replace(c, declared=False), "warning", "it looks delta"),
    (changed("actions", lambda a: put(a, (slice(None), 2), 1 - a[:, 2])), "error", "one side has them swapped"),
    (changed("actions", lambda a: put(a, (slice(None), 2), 255 * a[:, 2])), "error", "but open is 1"),
    (changed("actions", lambda a: put(a, (slice(None), 2), 1.0)), "warning", "its command never changes"),
    (lambda c: replace(c, state=c.state[:, :2], actions=put(c.actions.copy(), (slice(None), 2), 1 - c.actions[:, 2]), spec=replace(
        SPEC, observation=ObservationSpec((), SPEC.observation.state[:2], ("m", "m")))), "warning", "begin with the gripper closed"),
    (changed("actions", lambda a: put(a, (np.arange(len(a)) % LENGTH < 15, slice(0, 2)), 0.0)), "warning", "nothing moves in 3"),
    (changed("state", lambda s: put(s, (17, 0), 9.9)), "warning", "state 'tool_x' has 1 wild values, 9.9"),
    (changed("actions", lambda a: put(a, (17, 0), 0.4)), "error", "outside its limits -0.05 to 0.05"),
    (changed("state", lambda s: put(s, (slice(None), 1), 0.25)), "warning", "state 'tool_y' never changes (always 0.25)"),
    (lambda c: replace(c, fps=30.0, seconds=None), "error", "frames come at 30 Hz, actions are for 10 Hz"),
    (changed("seconds", lambda t: put(t, slice(20, 40), t[20:40] + 0.4)), "warning", "do not come at 10 Hz (up to 0.500 s apart)"),
    (lambda c: replace(c, starts=(*c.starts[:-1], c.starts[-1] - 3, c.starts[-1])), "warning", "1 of 7 episodes are shorter"),
    (lambda c: replace(c, stats={"action": {name: getattr(np, name)(c.actions[:, ::-1], axis=0) for name in ("mean", "std", "min", "max")}}),
     "error", "meta/stats.json does not describe these frames: 'action' mean"),
], ids=lambda value: value if isinstance(value, str) and " " in value else "")
def test_each_mistake_in_the_numbers_is_named(damage: Callable[[Columns], Columns], level: str, words: str) -> None:
    assert any(finding.level == level and words in finding.text for finding in problems(damage(healthy()))), problems(damage(healthy()))


def test_actions_that_are_the_present_state_teach_nothing() -> None:
    columns = declared("absolute", "absolute", "absolute")(healthy())
    columns = replace(columns, actions=np.column_stack([columns.state[:, :2], columns.actions[:, 2]]))
    assert any("equals the state of the same frame" in finding.text for finding in problems(columns))


def test_dark_and_frozen_pictures_are_seen() -> None:
    rng = np.random.default_rng(0)
    film, moving = rng.integers(0, 255, (20, 16, 16, 3), np.uint8), np.linspace(0, 0.3, 20)[:, None]
    assert not list(judge_pictures("camera", film, moving))
    assert "black" in next(judge_pictures("camera", film // 64, moving)).text
    assert "of one colour" in next(judge_pictures("camera", np.full_like(film, 90), moving)).text
    assert "repeat the one before" in next(judge_pictures("camera", np.repeat(film[:1], 20, axis=0), moving)).text
    assert not list(judge_pictures("camera", np.repeat(film[:1], 20, axis=0), 0 * moving)), "a robot at rest sees the same"


def test_colours_tell_red_from_blue_and_day_from_night() -> None:
    rng = np.random.default_rng(0)
    known = (np.array([150, 120, 60]) + rng.normal(0, 3, (30, 8, 8, 3))).astype(np.uint8)
    assert next(colours("front", known[0], known)).level == "ok"
    assert "red and blue seem to be exchanged" in next(colours("front", known[0][..., ::-1], known)).text
    assert "another exposure" in next(colours("front", known[0] // 2, known)).text


def test_a_policys_answers_are_held_against_what_was_recorded() -> None:
    columns, rng = healthy(), np.random.default_rng(0)
    recorded = columns.actions[:100]
    near = recorded + rng.normal(0, 0.1, recorded.shape) * columns.actions.std(0)
    assert [finding.level for finding in compare(near, recorded, columns)] == ["ok"]
    turned = near * [1, -1, 1]
    assert any("action 'y' goes the other way" in finding.text for finding in compare(turned, recorded, columns))
    strangers = columns.actions.mean(0) + rng.normal(0, 1, recorded.shape) * columns.actions.std(0)
    assert any("does not know these frames" in finding.text for finding in compare(strangers, recorded, columns))


def test_statistics_of_other_data_are_noticed() -> None:
    columns = healthy()

    class Driver:
        normalizer = Normalizer.measure(SPEC, columns.actions.astype(np.float32), columns.state.astype(np.float32))

    assert [finding.level for finding in check_scale(Driver, columns)] == ["ok"]
    found = list(check_scale(Driver, replace(columns, state=1000 * columns.state)))
    assert found[0].level == "error" and "state 'tool_x' (mean 0." in found[0].text


def test_a_robot_in_other_units_is_not_familiar() -> None:
    class Data:
        cameras = ()

    columns = replace(healthy(), data=Data)
    assert next(familiar(Observation({}, columns.state[5].astype(np.float32), "go"), columns)).level == "ok"
    found = next(familiar(Observation({}, 1000 * columns.state[5].astype(np.float32), "go"), columns))
    assert found.level == "error" and "'tool_x' is" in found.text


def test_answers_that_are_slow_or_beyond_the_limits_are_said() -> None:
    class Driver:
        def __init__(self, seconds: float, size: float) -> None:
            self.seconds, self.size = seconds, size

        def reset(self, seed: int = 0) -> None: ...

        def infer(self, observation: Observation) -> ActionChunk:
            import time

            time.sleep(self.seconds)
            return ActionChunk(np.full((4, 3), self.size, np.float32), SPEC.action)

    source = Source("policy", "hash", execute=1, spec=SPEC)
    seen = Observation({}, np.zeros(3, np.float32), "go")
    assert [finding.level for finding in ask(Driver(0.0, 0.01), seen, source)] == ["ok"]
    slow, = ask(Driver(0.15, 0.01), seen, source)
    assert slow.level == "warning" and "more than the 1" in slow.text
    assert next(ask(Driver(0.0, 3.0), seen, source)).text == "it commands x, y, gripper beyond its limits"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("doctor") / "data"
    robot = ToyRobot()
    recorder = Recorder(root, robot.spec)
    for seed in range(4):
        robot.reset(seed)
        expert = Expert(robot)
        while not robot.outcome().done:
            seen = robot.observe()
            action = expert.infer(seen).actions[0]
            recorder.add(seen, action)
            robot.act(action)
        recorder.save_episode(True)
    recorder.finish()
    return root


def test_data_and_robot_from_the_command_line(recorded: Path) -> None:
    def doctor(*arguments: str) -> tuple[int, dict]:
        found = CliRunner().invoke(app, ["doctor", "--data", str(recorded), "--robot", "toy_robot:ToyRobot", "--json", *arguments])
        return found.exit_code, json.loads(found.stdout.splitlines()[-1])

    code, told = doctor()
    assert code == 0 and told["error"] == 0, told
    code, told = doctor("robot.rate_hz=20")
    assert code == 1 and any("rate_hz" in finding["text"] for finding in told["findings"] if finding["level"] == "error")
    assert examine(data=recorded / "nowhere")[0].level == "error"
    with pytest.raises(UserError, match="nothing to examine"):
        examine()


def test_a_served_policy_is_asked_through_the_wire(recorded: Path) -> None:
    with PolicyServer(ScriptedPolicy(), port=0) as server:
        found = examine(data=recorded, policy=server.url)
    assert any(finding.level == "error" and "camera 'front'" in finding.text for finding in found if finding.check == "specification")
    assert not any(finding.check == "train/serve skew" for finding in found), "what does not fit is not asked"


def test_an_expert_that_knows_the_data_passes_the_skew_check(recorded: Path) -> None:
    from robot_io.dataset import Dataset

    columns = Columns.of(Dataset(recorded))
    robot = ToyRobot()
    places = {}
    for seed in range(4):
        robot.reset(seed)
        places[robot.instruction, robot.position.astype(np.float32).tobytes()] = seed

    class Knowing(Expert):
        """Finds out which scene it is shown from where the episode began."""

        def infer(self, observation: Observation) -> ActionChunk:
            if (seed := places.get((observation.instruction, observation.state.tobytes()))) is not None:
                self.robot.reset(seed)
            return super().infer(observation)

    assert [finding.level for finding in policy_on_data(Knowing(robot), columns)] == ["ok"]
    assert columns.spec.observation.cameras == (CameraSpec("front", 32, 32), CameraSpec("wrist", 32, 32))
