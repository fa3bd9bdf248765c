"""Farthest-point sampling against Open3D's, its nested order, and neighbours among valid points only."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perception.point_sampling import farthest_points, nearest_neighbours, take

open3d = pytest.importorskip("open3d")


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_the_sample_is_open3ds(seed, count):
    points = np.random.default_rng(seed).normal(size=(60, 3)).astype(np.float32)
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points.astype(np.float64)))
    theirs = np.asarray(cloud.farthest_point_down_sample(count).points, np.float32)
    index, real = farthest_points(torch.from_numpy(points)[None], torch.ones(1, 60, dtype=torch.bool), count)
    assert real.all()
    np.testing.assert_array_equal(np.unique(points[index[0].numpy()], axis=0), np.unique(theirs, axis=0))


def test_a_coarser_sample_is_the_beginning_of_a_finer_one_and_invalid_points_are_never_taken():
    points = torch.randn(3, 80, 3, generator=torch.Generator().manual_seed(0))
    valid = torch.rand(3, 80, generator=torch.Generator().manual_seed(1)) < 0.5
    fine, real = farthest_points(points, valid, 60)
    coarse, _ = farthest_points(points, valid, 10)
    assert torch.equal(fine[:, :10], coarse)
    assert torch.equal(real.sum(1), valid.sum(1)) and valid.gather(1, fine)[real].all()
    for row, there in zip(fine, real, strict=True):
        assert len(set(row[there].tolist())) == int(there.sum())  # none twice


def test_a_cloud_without_points_or_with_copies_of_one_gives_no_more_than_it_has():
    points = torch.zeros(2, 5, 3)
    _, real = farthest_points(points, torch.tensor([[False] * 5, [True] * 5]), 3)
    assert real.tolist() == [[False, False, False], [True, False, False]]


def test_neighbours_are_the_nearest_valid_ones():
    points = torch.arange(6.0)[None, :, None].expand(1, 6, 3).contiguous()
    valid = torch.tensor([[True, True, False, True, True, True]])
    found = nearest_neighbours(points[:, 3:4], points, valid, 3)
    assert (found[0, 0, 0] == 3 and set(found[0, 0, 1:].tolist()) == {4, 1}) or set(found[0, 0, 1:].tolist()) == {4, 5}
    assert torch.equal(take(points, found)[0, 0, 0], points[0, 3])
