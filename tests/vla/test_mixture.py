"""Several data sets at once: other names, other cameras, other sizes, fewer actions; and what cannot be mixed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_robot import ToyRobot

from robot_io import CameraFrame, Observation, RobotSpec, UserError
from robot_io.dataset import Recorder
from robot_io.specs import CameraSpec
from vla.data import CYCLE, Demonstrations, draws
from vla.policy import Policy
from vla.train import train

MAPPING = "cameras: {front: head, wrist: null}, actions: {x: forward, y: null}, state: {x: px, y: null}"


def record_other(root: Path, **changes: object) -> Path:
    """Two episodes of a robot with one camera of twice the size, one action and one state entry, under other names."""
    toy = ToyRobot().spec
    action = replace(toy.action, names=("forward",), **{name: getattr(toy.action, name)[:1] for name in ("units", "low", "high", "modes")})
    observation = replace(toy.observation, cameras=(CameraSpec("head", 64, 64),), state=("px",), state_units=toy.observation.state_units[:1])
    spec = replace(RobotSpec("other", observation, action), action=replace(action, **changes))
    recorder, random = Recorder(root, spec), np.random.default_rng(0)
    for episode in range(2):
        for step in range(6):
            picture = np.full((64, 64, 3), 100 + 10 * step, np.uint8)
            seen = Observation({"head": CameraFrame(picture)}, np.array([step], np.float32), f"go {episode}")
            recorder.add(seen, random.uniform(-0.1, 0.1, 1).astype(np.float32))
        recorder.save_episode(True)
    recorder.finish()
    return root


@pytest.fixture
def mixed(toy_recipe: Callable, tmp_path: Path) -> Callable:
    other = record_other(tmp_path / "other")
    return lambda *overrides: toy_recipe(f"data.mixture=[{{root: {other}, weight: 3, {MAPPING}}}]", "data.validation=0", *overrides)


def test_another_robots_data_arrive_under_the_policys_names(mixed: Callable):
    data = Demonstrations(mixed())
    own, other = data.sources
    assert data.spec == own.spec == other.spec
    start = int(data.starts[1])
    index = np.array([0, start + 2, start + 8])
    samples = data.columns(index, "cpu")
    batch = data.open_frames(lambda items, _: items).add_to(samples.batch, index)
    assert batch.instructions == [data.dataset.episodes[0].instruction, "go 0", "go 1"]
    assert np.array_equal(samples.actions[1, :, 0], other.dataset.column("action").reshape(-1)[2:6])
    assert not samples.actions[1:, :, 1].any()  # that robot cannot move sideways: it did not
    assert np.allclose(batch.state[1], [2, own.state[own.training, 1].mean()])
    assert batch.rgb["front"].shape == (3, 32, 32, 3) and batch.rgb["wrist"].shape == (3, 32, 32, 3)
    assert abs(batch.rgb["front"][1].float().mean() - 120) < 4  # scaled down
    assert batch.rgb["wrist"][0].any() and not batch.rgb["wrist"][1:].any()
    assert samples.valid[1].all() and not Demonstrations(mixed("horizon=6")).windows(index)[1][1].all()


def test_weights_are_kept_and_each_data_set_is_passed_through_on_its_own(mixed: Callable):
    data = Demonstrations(mixed("train.batch_size=50"))
    drawn = np.concatenate([data.order(step) for step in range(CYCLE // 50)])
    other = drawn[drawn >= data.starts[1]]
    assert len(other) == 0.75 * CYCLE
    _, counts = np.unique(other, return_counts=True)
    assert len(counts) == 12 and np.ptp(counts) <= 1


def test_draws_count_on_across_cycles():
    shares = np.array([0.2, 0.5, 0.3])
    owner, before = draws(shares, np.arange(3 * CYCLE), seed=1)
    for number in range(3):
        assert np.array_equal(before[owner == number], np.arange((owner == number).sum()))
    later = draws(shares, np.arange(1700, 1800), seed=1)
    assert np.array_equal(later[0], owner[1700:1800]) and np.array_equal(later[1], before[1700:1800])


def test_a_mixture_trains_one_policy(mixed: Callable, tmp_path: Path):
    policy = Policy.load(train(mixed("train.steps=2"), tmp_path / "run", progress=False).policy_dir)
    assert policy.spec.robot == ToyRobot().spec.robot


@pytest.mark.parametrize(("changes", "mapping", "words"), [
    ({}, "", "no 'front'.*data.mixture.0.cameras={front: …}"),
    ({}, MAPPING.replace("forward", "backward"), "no 'backward'.*did you mean 'forward'"),
    ({}, MAPPING.replace("wrist", "wirst"), "no such name.*wrist"),
    ({"modes": ("absolute",)}, MAPPING, "'x' is delta, its 'forward' is absolute"),
    ({"rate_hz": 7.0}, MAPPING, "against 7.0 actions a second"),
    ({"units": ("inch",)}, MAPPING, "its 'forward' in inch"),
])
def test_what_does_not_mean_the_same_is_refused(toy_recipe: Callable, tmp_path: Path, changes: dict, mapping: str, words: str):
    other = record_other(tmp_path / "other", **changes)
    with pytest.raises(UserError, match=words):
        Demonstrations(toy_recipe(f"data.mixture=[{{root: {other}, {mapping}}}]"))
