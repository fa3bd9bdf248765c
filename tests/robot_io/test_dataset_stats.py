"""meta/stats.json is what NumPy says, in LeRobot's shapes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from recordings import episode, record

from robot_io.dataset import Dataset
from robot_io.dataset.stats import QUANTILES, PixelHistogram, describe, merge

NUMBERS = arrays(np.float32, st.tuples(st.integers(1, 20), st.just(3)), elements=st.floats(-1e3, 1e3, width=32))


def assert_describes(stats, values) -> None:
    values = values.reshape(len(values), -1).astype(np.float64)
    for name, expected in {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}.items():
        np.testing.assert_allclose(stats[name], expected, atol=1e-6, err_msg=name)
    assert stats["count"].tolist() == [len(values)]


def test_stats_of_a_finished_data_set_are_numpys(tmp_path):
    record(tmp_path / "set", range(4)).finish()
    data = Dataset(tmp_path / "set")
    assert set(data.stats) == set(data.info["features"])
    for key in ("action", "observation.state", "timestamp", "next.reward", "index", "observation.camera_pose.front"):
        assert_describes(data.stats[key], data.column(key))
        for name, quantile in QUANTILES.items():
            expected = np.quantile(data.column(key).reshape(len(data), -1).astype(np.float64), quantile, axis=0)
            np.testing.assert_allclose(data.stats[key][name], expected, atol=1e-6)


def test_picture_stats_are_numpys_in_lerobots_shape(tmp_path):
    record(tmp_path / "set", range(3)).finish()
    stats = Dataset(tmp_path / "set").stats
    pixels = np.concatenate([[seen.cameras["front"].rgb for seen, _ in episode(seed)] for seed in range(3)]) / 255
    for name in ("min", "max", "mean", "std"):
        expected = getattr(np, name)(pixels, axis=(0, 1, 2))
        assert stats["observation.images.front"][name].shape == (3, 1, 1)
        np.testing.assert_allclose(stats["observation.images.front"][name].ravel(), expected, atol=1e-6)
    millimetres = np.concatenate([[seen.cameras["front"].depth for seen, _ in episode(seed)] for seed in range(3)]) * 1000
    np.testing.assert_allclose(stats["observation.depth.front"]["mean"], millimetres.mean(), atol=0.5)


@settings(max_examples=50, deadline=None)
@given(parts=st.lists(NUMBERS, min_size=1, max_size=4))
def test_merging_parts_describes_the_whole(parts):
    whole = np.concatenate(parts)
    merged = merge([describe(part) for part in parts])
    for name in ("min", "max", "mean", "std", "count"):
        np.testing.assert_allclose(merged[name], describe(whole)[name], rtol=1e-5, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(pictures=arrays(np.uint8, (3, 5, 4, 2)))
def test_a_histogram_is_exact(pictures):
    histogram = PixelHistogram(2, 256)
    for picture in pictures:
        histogram.add(picture)
    found, pixels = histogram.describe(), pictures.reshape(-1, 2)
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(found[name], getattr(np, name)(pixels, axis=0), atol=1e-9)
    for name, quantile in QUANTILES.items():
        np.testing.assert_array_equal(found[name], np.quantile(pixels, quantile, axis=0, method="inverted_cdf"))
