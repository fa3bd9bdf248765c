from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from robot_io import UserError
from vla.data import Demonstrations, split_episodes
from vla.train import train

LEROBOT = Path(__file__).parents[1] / "fixtures" / "lerobot_v21_sample"


@pytest.fixture(scope="module")
def data(toy_recipe: Callable) -> Demonstrations:
    return Demonstrations(toy_recipe("horizon=6", "data.validation=0.25"))


def test_windows_repeat_the_last_action_and_mark_it(data: Demonstrations):
    index = np.arange(len(data.actions))
    actions, valid = data.windows(index)
    for episode in data.dataset.episodes:
        for frame in range(episode.start, episode.stop):
            for step in range(6):
                inside = frame + step < episode.stop
                assert valid[frame, step] == inside
                expected = data.actions[frame + step] if inside else data.actions[episode.stop - 1]
                assert np.array_equal(actions[frame, step], expected)


def test_order_is_a_function_of_the_step_and_visits_every_frame_once_a_lap(data: Demonstrations):
    size, count = data.recipe.train.batch_size, len(data.training)
    drawn = np.concatenate([data.order(step) for step in range(3 * count // size + 1)])
    for lap in range(3):
        assert sorted(drawn[lap * count : (lap + 1) * count]) == sorted(data.training)
    assert not np.array_equal(drawn[:count], drawn[count : 2 * count])
    assert np.array_equal(data.order(5), drawn[5 * size : 6 * size])


def test_a_batch_may_be_larger_than_the_data(toy_recipe: Callable):
    data = Demonstrations(toy_recipe("train.batch_size=500"))
    _, counts = np.unique(data.order(2), return_counts=True)
    assert len(counts) == len(data.training)
    assert counts.max() - counts.min() <= 2  # it starts and ends inside a lap


def test_held_out_episodes_share_no_frame_with_training(data: Demonstrations):
    assert not set(data.training) & set(data.validation)
    assert len(data.training) + len(data.validation) == len(data.actions)
    held_out = [e for e in data.dataset.episodes if e.start in data.validation]
    assert len(held_out) == 2
    assert sum(e.length for e in held_out) == len(data.validation)


def test_failures_are_left_out_of_both_halves(data: Demonstrations):
    episodes = [replace(e, success=i != 3) for i, e in enumerate(data.dataset.episodes)]
    held_out, rest = split_episodes([e for e in episodes if e.success], 0.5)
    assert 3 not in {e.index for e in (*held_out, *rest)}
    assert split_episodes(episodes, 0.0) == ([], episodes)
    assert [len(part) for part in split_episodes(episodes[:2], 0.99)] == [1, 1]


def test_splitting_a_batch_loses_nothing(data: Demonstrations):
    samples = data.columns(data.training[:7], "cpu")
    samples = replace(samples, batch=data.open_frames(lambda items, _: items).add_to(samples.batch, data.training[:7]))
    parts = samples.split(3)
    assert [len(part.batch) for part in parts] == [2, 2, 3]
    for camera in data.cameras:
        assert torch.equal(torch.cat([part.batch.rgb[camera] for part in parts]), samples.batch.rgb[camera])
    assert [words for part in parts for words in part.batch.instructions] == samples.batch.instructions
    assert torch.equal(torch.cat([part.actions for part in parts]), samples.actions)


def test_pictures_are_those_of_the_data_set(data: Demonstrations):
    frames = data.open_frames(lambda items, _: items)
    episode = data.dataset.episodes[2]
    index = np.array([episode.start + 3, episode.start])
    batch = frames.add_to(data.columns(index, "cpu").batch, index)
    assert batch.cameras == ("front", "wrist")
    assert np.array_equal(batch.rgb["wrist"], data.dataset.rgb("wrist", episode)[[3, 0]])
    assert batch.instructions == [episode.instruction] * 2
    assert not batch.depth


def rewrite_actions(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    path = sorted((root / "data").rglob("*.parquet"))[1]
    table = pq.read_table(path)
    actions = change(np.array(table["action"].to_pylist(), np.float32))
    column = table.schema.get_field_index("action")
    pq.write_table(table.set_column(column, "action", pa.array(actions.tolist(), pa.list_(pa.float32(), actions.shape[1]))), path)


def nan_action(root: Path) -> None:
    def change(actions: np.ndarray) -> np.ndarray:
        actions[2, 1] = np.nan
        return actions

    rewrite_actions(root, change)


def truncate_video(root: Path) -> None:
    path = sorted((root / "videos").rglob("*.mp4"))[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def shorten_video(root: Path) -> None:
    path = sorted((root / "videos").rglob("*.mp4"))[0]
    with av.open(str(path)) as source:
        stream = source.streams.video[0]
        packets = [packet for packet in source.demux(stream) if packet.size][:3]
        with av.open(str(path) + ".new.mp4", "w") as target:
            copy = target.add_stream_from_template(stream)
            for packet in packets:
                packet.stream = copy
                target.mux(packet)
    Path(str(path) + ".new.mp4").replace(path)


@pytest.mark.parametrize(("damage", "overrides", "words"), [
    (None, ["data.cameras=[front, wirst]"], "camera 'wirst'.*front, wrist"),
    (None, ["data.state=[x, z]"], "state 'z'"),
    (None, ["data.action_mode=delta"], "data.action_mode.*says itself"),
    (None, ["perception=[{kind: shift}]", "train.cache_features=true"], "cache_features.*'shift' is not frozen"),
    (nan_action, [], "NaN"),
    (lambda root: rewrite_actions(root, lambda a: np.concatenate([a, a], 1)), [], "action.*shape"),
    (truncate_video, [], r"\.mp4"),
    (shorten_video, [], r"\.mp4"),
    (lambda root: shutil.rmtree(root / "meta"), [], "data set"),
])
def test_bad_data_are_refused_before_anything_is_computed(
    demonstrations: Path, toy_recipe: Callable, tmp_path: Path, damage: Callable | None, overrides: list[str], words: str,
):
    root = tmp_path / "data"
    shutil.copytree(demonstrations, root)
    if damage:
        damage(root)
    recipe = toy_recipe(f"data.root={root}", f"data.cache={tmp_path / 'cache'}", *overrides)
    with pytest.raises(UserError, match=words):
        train(recipe, tmp_path / "run", progress=False)
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_foreign_data_train_once_their_actions_are_explained(toy_recipe: Callable, tmp_path: Path):
    overrides = (f"data.root={LEROBOT}", "train.steps=2", "train.batch_size=2")
    with pytest.raises(UserError, match=r"data\.action_mode=absolute"):
        train(toy_recipe(*overrides), tmp_path / "run", progress=False)
    result = train(toy_recipe(*overrides, "data.action_mode=absolute"), tmp_path / "run", progress=False)
    assert result.steps == 2
