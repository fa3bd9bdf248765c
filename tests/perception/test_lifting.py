"""Pixels to points and back, normals, and whose depth counts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_scene import INTRINSICS, POSES, RADIUS, SIZE, scene

from perception import lifting
from robot_io import UserError

UNIT = st.floats(0, 1)


@settings(max_examples=25)
@given(UNIT, UNIT, st.floats(0.05, 3))
def test_a_lifted_pixel_projects_back_to_itself(column, row, depth):
    pixel = torch.tensor([[column, row]]) * (SIZE - 1)
    intrinsics = torch.from_numpy(INTRINSICS)
    point = lifting.unproject(pixel, torch.tensor([depth]), intrinsics)
    assert point[0, 2] == pytest.approx(depth)
    torch.testing.assert_close(lifting.project(point, intrinsics), pixel, atol=1e-3, rtol=0)


def test_every_camera_lifts_the_table_to_height_zero_and_the_ball_to_its_surface():
    batch, percept = scene((0.45, 0.05))
    depth = lifting.view_depth(batch, percept, "test")
    poses, known = lifting.view_poses(batch)
    points = lifting.point_map(depth, lifting.view_intrinsics(batch, "test"))
    world = lifting.transform(points.flatten(2, 3), poses).view(points.shape)
    ball = percept.regions.union
    table = ~ball & (depth < 4)
    assert known.all()
    torch.testing.assert_close(world[table][:, 2], torch.zeros(int(table.sum())), atol=1e-4, rtol=0)
    distance = (world[ball] - torch.tensor([0.45, 0.05, RADIUS])).norm(dim=-1)
    torch.testing.assert_close(distance, torch.full_like(distance, RADIUS), atol=1e-4, rtol=0)


def test_normals_of_the_table_point_up_and_those_of_the_ball_outwards():
    batch, percept = scene((0.48, 0.0))
    depth, intrinsics = lifting.view_depth(batch, percept, "test"), lifting.view_intrinsics(batch, "test")
    poses, _ = lifting.view_poses(batch)
    found = lifting.normals(depth, intrinsics)
    world = torch.einsum("bvij,bvhwj->bvhwi", poses[..., :3, :3], found)
    table = ~percept.regions.union & (depth < 2)
    up = world[table][:, 2]
    assert up.median() > 0.999 and (up > 0.95).float().mean() > 0.9  # but for pixels along the ball's edge
    points = lifting.transform(lifting.point_map(depth, intrinsics).flatten(2, 3), poses).view(world.shape)
    outwards = (points - torch.tensor([0.48, 0.0, RADIUS])) / RADIUS
    assert (world * outwards).sum(-1)[percept.regions.union].median() > 0.95


def test_unknown_depth_is_zero_and_has_no_normal():
    batch, percept = scene((0.48, 0.0))
    depth = batch.depth["front"].clone()
    depth[0, 3, 4], depth[0, 5, 6], depth[0, 7, 8] = torch.nan, torch.inf, -1
    batch = replace(batch, depth={**batch.depth, "front": depth})
    found = lifting.view_depth(batch, percept, "test")
    normals = lifting.normals(found, lifting.view_intrinsics(batch, "test"))
    for row, column in ((3, 4), (5, 6), (7, 8)):
        assert found[0, 0, row, column] == 0 and (normals[0, 0, row, column] == 0).all()
    assert normals.isfinite().all()


def test_an_estimate_comes_before_the_sensor_and_a_missing_depth_is_named():
    batch, percept = scene((0.48, 0.0))
    estimate = torch.ones(1, 2, SIZE, SIZE)
    assert lifting.view_depth(batch, percept.replace(depth=estimate), "test") is estimate
    blind = replace(batch, depth={"front": batch.depth["front"]})
    with pytest.raises(UserError, match=r"camera 'side'.*'lift'.*depth_anything_v2"):
        lifting.view_depth(blind, percept, "lift")
    with pytest.raises(UserError, match=r"camera 'front'.*intrinsics"):
        lifting.view_intrinsics(replace(batch, intrinsics={}), "lift")


def test_cameras_of_unknown_pose_are_told_apart():
    batch, _ = scene((0.48, 0.0), poses={"side": POSES["side"]})
    poses, known = lifting.view_poses(batch)
    assert known.tolist() == [False, True]
    np.testing.assert_array_equal(poses[0, 0].numpy(), np.eye(4))
