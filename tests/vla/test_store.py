"""Pictures from a store on disk, compact or not, and from a stream that fits into little memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from robot_io import UserError
from vla.data import Demonstrations
from vla.frames import Frames
from vla.streaming import block_shuffle
from vla.train import train


def everything(items, description):
    return items


def rgb(frames: Frames, data: Demonstrations, index: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values.numpy() for name, values in frames.add_to(data.columns(index, "cpu").batch, index).rgb.items()}


def test_a_compact_store_is_smaller_and_nearly_the_same(toy_recipe: Callable, tmp_path: Path):
    sizes, pictures = {}, {}
    for store in ("raw", "jpeg"):
        data = Demonstrations(toy_recipe(f"data.store={store}", f"data.cache={tmp_path / store}"))
        index = data.training[[5, 0, 5, 20]]
        pictures[store] = rgb(data.open_frames(everything), data, index)
        sizes[store] = sum(path.stat().st_size for path in (tmp_path / store).rglob("rgb-*"))
    assert sizes["jpeg"] < sizes["raw"] / 2
    for camera, exact in pictures["raw"].items():
        error = np.abs(pictures["jpeg"][camera].astype(float) - exact)
        assert 0 < error.mean() < 3


@pytest.mark.parametrize("store", ["raw", "jpeg"])
def test_a_store_that_would_be_too_large_is_refused_with_the_way_out(toy_recipe: Callable, tmp_path: Path, store: str):
    data = Demonstrations(toy_recipe(f"data.store={store}", "data.store_gb=0.00001", f"data.cache={tmp_path}"))
    with pytest.raises(UserError, match=r"GB.*data\.store_gb.*data\.store=stream"):
        data.open_frames(everything)


def test_a_damaged_store_is_noticed_and_made_again(toy_recipe: Callable, tmp_path: Path):
    data = Demonstrations(toy_recipe(f"data.cache={tmp_path}"))
    index = data.training[:4]
    whole = rgb(data.open_frames(everything), data, index)
    path = next(tmp_path.rglob("rgb-front.npy"))
    content = bytearray(path.read_bytes())
    content[-7] ^= 255
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="corrupted.*making it again"):
        again = rgb(data.open_frames(everything), data, index)
    assert all(np.array_equal(again[name], values) for name, values in whole.items())


@pytest.fixture
def streamed(toy_recipe: Callable) -> Callable:
    """Recipes whose memory holds three of the data set's eight episodes."""
    stored = Demonstrations(toy_recipe())
    longest = max(episode.length for episode in stored.dataset.episodes)
    enough = 3.01 * longest * 2 * 32 * 32 * 7 / 1e9
    return lambda *overrides, share=1.0: toy_recipe("data.store=stream", "data.workers=1", f"data.stream_gb={share * enough}", *overrides)


def test_a_stream_gives_the_same_pictures_within_its_memory_and_decodes_each_episode_once_a_pass(
        toy_recipe: Callable, streamed: Callable, tmp_path: Path):
    stored, data = Demonstrations(toy_recipe()), Demonstrations(streamed(f"data.cache={tmp_path}", "train.batch_size=2", "data.validation=0"))
    frames, reference = data.open_frames(everything), stored.open_frames(everything)
    (reader,), decoded = (shelf.reader for shelf in frames.shelves), []
    decode = reader.decoder
    reader.decoder = lambda episode: (decoded.append(episode.index), decode(episode))[1]
    for step in range(3 * len(data.training) // 2):
        index = data.order(step)
        seen, expected = rgb(frames, data, index), rgb(reference, stored, index)
        frames.expect(data.order(step + data.foresight))
        assert all(np.array_equal(seen[name], expected[name]) for name in expected)
        assert reader.frames <= reader.capacity
    episodes = len(data.dataset.episodes)
    assert episodes < len(decoded) <= 3 * episodes + 4  # and what is read ahead
    assert not list(tmp_path.iterdir())


def test_memory_too_small_for_a_stream_is_refused(streamed: Callable):
    with pytest.raises(UserError, match=r"data\.stream_gb.*longest episode.*multiply it by 2"):
        Demonstrations(streamed(share=0.5)).open_frames(everything)


def test_training_streams_and_visits_every_frame_once_a_lap(streamed: Callable, tmp_path: Path):
    recipe = streamed("train.steps=6")
    data = Demonstrations(recipe)
    size, count = recipe.train.batch_size, len(data.training)
    drawn = np.concatenate([data.order(step) for step in range(count // size + 1)])[:count]
    assert sorted(drawn) == sorted(data.training)
    assert np.isfinite(train(recipe, tmp_path / "run", progress=False).losses).all()


def test_blocks_hold_whole_episodes_one_after_the_other():
    lengths = (5, 7, 3, 9, 4, 6)
    order = block_shuffle(lengths, 12, seed=0, lap=0)
    assert sorted(order) == list(range(sum(lengths)))
    owner = np.repeat(range(6), lengths)[order]
    for episode in range(6):  # its frames lie within one block
        assert np.ptp(np.flatnonzero(owner == episode)) < 12
    assert not np.array_equal(order, block_shuffle(lengths, 12, seed=0, lap=1))
