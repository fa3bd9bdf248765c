"""What the tokens say of a ball whose place is known, and what becomes of bad masks, missing views and unknown poses."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_scene import POSES, RADIUS, SIZE, scene

from perception.object_tokens import FUSED, VIEW, ObjectTokens
from perception.percept import Percept
from perception.point_statistics import cover, direction, spread
from perception.regions import TARGET, Regions
from robot_io import UserError

POSITION, SEEN = slice(0, 3), FUSED - 1


def tokens(batch, percept, **options):
    front_end = ObjectTokens(ObjectTokens.Config(**{"roles": (TARGET,), **options}))
    found = front_end(batch, percept)
    assert found.tokens.shape[-1] == front_end.token_dim
    return found


def with_masks(percept: Percept, masks: torch.Tensor) -> Percept:
    return percept.replace(regions=replace(percept.regions, masks=masks, scores=masks.flatten(3).any(-1).float()))


@settings(max_examples=15)
@given(st.floats(0.40, 0.56), st.floats(-0.1, 0.1))
def test_the_ball_is_found_where_it_is(x, y):
    found = tokens(*scene((x, y)))
    truth = torch.tensor([x, y, RADIUS])
    position = found.evidence["object_tokens/position"][0, 0]
    assert (position - truth).norm() < 0.5 * RADIUS, "the cameras see only its near sides"
    torch.testing.assert_close(found.tokens[0, 0, POSITION], (position - torch.tensor([0.48, 0, 0.1])) / 0.1)
    assert found.tokens[0, 0, SEEN] == 1 and found.token_mask.all()
    assert (found.tokens.abs() < 5).all()


def test_both_views_place_it_alike_and_say_where_in_the_picture_it_is():
    batch, percept = scene((0.43, -0.06))
    views = tokens(batch, percept).tokens[0, 0, FUSED:FUSED + 2 * VIEW].view(2, VIEW)
    assert (views[0, :3] - views[1, :3]).norm() < 0.6  # 6 cm: each sees its own side of the ball
    for view, mask in zip(views, percept.regions.masks[0, :, 0], strict=True):
        centre = mask.nonzero().float().mean(0).flip(0) / (SIZE - 1) * 2 - 1
        torch.testing.assert_close(view[3:5], centre, atol=0.06, rtol=0)
        assert view[5] == pytest.approx(5 * mask.float().mean().sqrt().item(), abs=1e-5) and view[7] == 1


def test_stray_pixels_and_a_mask_that_bleeds_move_it_little():
    batch, percept = scene((0.45, 0.05))
    clean = tokens(batch, percept).evidence["object_tokens/position"][0, 0]
    masks = percept.regions.masks.clone()
    masks[:, :, :, ::11, ::13] = True
    masks[:, :, :, 1:] |= percept.regions.masks[:, :, :, :-1]
    moved = tokens(batch, with_masks(percept, masks)).evidence["object_tokens/position"][0, 0]
    assert (moved - clean).norm() < 0.015


def test_a_view_that_means_something_else_is_left_out():
    batch, percept = scene((0.45, 0.05))
    masks = percept.regions.masks.clone()
    alone = with_masks(percept, masks & torch.tensor([True, False]).view(1, 2, 1, 1, 1))
    masks[0, 1] = False
    masks[0, 1, 0, 30:40, 2:12] = True  # a piece of the table
    confused = with_masks(percept, masks)
    confused = confused.replace(regions=replace(confused.regions, scores=torch.tensor([[[0.9], [0.4]]])))
    expected = tokens(batch, alone).evidence["object_tokens/position"]
    torch.testing.assert_close(tokens(batch, confused).evidence["object_tokens/position"], expected)


def test_what_is_not_seen_is_zero_and_masked_out():
    batch, percept = scene((0.45, 0.05), (0.5, -0.05))
    masks = percept.regions.masks.clone()
    masks[1] = False
    found = tokens(batch, with_masks(percept, masks))
    assert found.token_mask[:, 0].tolist() == [True, False]
    assert (found.tokens[1] == 0).all() and (found.tokens[0] != 0).any()
    one_view = with_masks(percept, percept.regions.masks & torch.tensor([False, True]).view(1, 2, 1, 1, 1))
    first, second = tokens(batch, one_view).tokens[0, 0, FUSED:FUSED + 2 * VIEW].view(2, VIEW)
    assert (first == 0).all() and second[-1] == 1


def test_unknown_poses_leave_positions_in_each_cameras_frame():
    batch, percept = scene((0.48, 0.0), poses={})
    found = tokens(batch, percept).tokens[0, 0]
    assert (found[:FUSED] == 0).all()
    views = found[FUSED:FUSED + 2 * VIEW].view(2, VIEW)
    for view, pose in zip(views, POSES.values(), strict=True):
        seen_from = torch.linalg.inv(torch.from_numpy(pose)) @ torch.tensor([0.48, 0, RADIUS, 1])
        expected = (seen_from[:3] - torch.tensor([0, 0, 0.5])) / 0.1
        torch.testing.assert_close(view[:3], expected, atol=0.5, rtol=0)


def test_a_fixed_token_per_role_whatever_was_looked_for():
    batch, percept = scene((0.48, 0.0))
    found = tokens(batch, percept, roles=("target", "container"), views=3, grid=2)
    assert found.tokens.shape == (1, 2, FUSED + 3 * (VIEW + 4) + 2)
    assert found.token_mask.tolist() == [[True, False]]
    more = ObjectTokens(ObjectTokens.Config(roles=("robot",)))(batch, found).tokens
    assert torch.equal(more[:, :2], found.tokens) and more.shape[1] == 3, "tokens are added to those there are"


def test_a_batch_is_its_observations_one_by_one():
    balls = (0.42, 0.08), (0.5, -0.1), (0.55, 0.02)
    together = tokens(*scene(*balls)).tokens
    torch.testing.assert_close(together, torch.cat([tokens(*scene(ball)).tokens for ball in balls]), atol=1e-5, rtol=0)


def test_without_regions_or_with_too_many_cameras_it_says_so():
    batch, percept = scene((0.48, 0.0))
    with pytest.raises(UserError, match="object_centric"):
        tokens(batch, percept.replace(regions=None))
    with pytest.raises(UserError, match="views: 2"):
        tokens(batch, percept, views=1)


def test_samples_are_spread_evenly_over_a_mask():
    mask = torch.zeros(2, 1000, dtype=torch.bool)
    mask[0, 100:900] = True
    mask[1, 7] = True
    where, inside = spread(mask, 16)
    assert inside[0].all() and mask[0, where[0]].all() and where[0].diff().unique().tolist() == [50]
    assert inside[1].tolist() == [True] + [False] * 15 and where[1, 0] == 7


def test_direction_and_cover_tell_how_a_thing_lies():
    line = torch.stack([torch.linspace(0, 1, 20), torch.linspace(0, 1, 20), torch.zeros(20)], -1)
    everything = torch.ones(20, dtype=torch.bool)
    torch.testing.assert_close(direction(line, everything), torch.tensor([0.0, 1.0]), atol=1e-5, rtol=0)
    pixels = torch.tensor([[x, y] for y in range(4) for x in range(4)]).float()
    assert cover(pixels, torch.ones(16, dtype=torch.bool), 2).tolist() == [1, 1, 1, 1]
    assert cover(pixels, (pixels[:, 0] < 2) | (pixels[:, 1] < 2), 2)[3] == 0


def test_no_mask_at_all_is_no_number_out_of_range():
    batch, percept = scene((0.48, 0.0))
    nothing = Regions(torch.zeros(1, 2, 1, SIZE, SIZE, dtype=torch.bool), torch.zeros(1, 2, 1), (TARGET,), [("ball",)])
    found = tokens(batch, percept.replace(regions=nothing), grid=4)
    assert (found.tokens == 0).all() and not found.token_mask.any()
