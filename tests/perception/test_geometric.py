"""What the policy sees of the grounded things: colours, outlines, and black everywhere else."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_scene import SIZE, scene

from perception.geometric import SET1, Geometric, eroded, rainbow
from perception.percept import perceive
from perception.regions import ROLES, TARGET, Regions
from robot_io import UserError


def geometric(**options):
    return Geometric(Geometric.Config(**options))


def test_the_colour_map_is_matplotlibs():
    import matplotlib

    np.testing.assert_allclose(rainbow().numpy(), matplotlib.colormaps["rainbow"](np.arange(256))[:, :3], atol=1e-6)


@settings(max_examples=20)
@given(st.integers(0, 2**31 - 1), st.sampled_from(["depth", "normals", "rgb"]))
def test_outside_the_selection_it_is_exactly_black(seed, show):
    batch, percept = scene((0.45, 0.05))
    masks = torch.rand(1, 2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) < 0.1
    regions = Regions(masks, torch.ones(1, 2, 3), ROLES, [("a", "b", "c")])
    images = geometric(show=show)(batch, percept.replace(regions=regions)).images
    assert (images.movedim(2, -1)[~regions.union] == 0).all()
    assert images.shape == percept.images.shape and images.min() >= 0 and images.max() <= 1


@pytest.mark.parametrize("show", ["depth", "normals", "rgb"])
def test_nothing_selected_is_nothing_seen(show):
    batch, percept = scene((0.45, 0.05))
    nothing = replace(percept.regions, masks=torch.zeros_like(percept.regions.masks))
    assert (geometric(show=show)(batch, percept.replace(regions=nothing)).images == 0).all()


def test_depth_is_clipped_and_coloured_as_in_the_paper():
    batch, percept = scene((0.45, 0.05))
    depth = torch.full((1, 2, SIZE, SIZE), 0.5)
    depth[..., 0], depth[..., 1], depth[..., 2] = 1.0, 2.5, 0  # half way, too far, unknown
    images = geometric(near=0, far=2, outline=0)(batch, percept.replace(depth=depth, regions=None)).images
    table = rainbow()
    for column, index in ((0, 127), (1, 255), (3, 63)):
        torch.testing.assert_close(images[0, 0, :, 5, column], table[index])
    assert (images[0, 0, :, :, 2] == 0).all()


def test_outlines_lie_inside_and_carry_the_roles_colour():
    batch, percept = scene((0.45, 0.05))
    masks = torch.zeros(1, 2, 3, SIZE, SIZE, dtype=torch.bool)
    masks[:, :, 0, 10:20, 10:20] = True
    masks[:, :, 1, 15:30, 15:30] = True  # the target lies in it
    masks[:, :, 2, 35:, 35:] = True  # reaches the picture's edge
    regions = Regions(masks, torch.ones(1, 2, 3), ROLES, [("a", "b", "c")])
    image = geometric(show="rgb", outline=3)(batch, percept.replace(regions=regions)).images[0, 0]
    red, blue, green = (torch.tensor(SET1[role]) / 255 for role in ROLES)

    def colour(row, column):
        return image[:, row, column]

    for row, column in ((10, 10), (12, 15), (19, 19), (17, 15)):
        torch.testing.assert_close(colour(row, column), red)
    torch.testing.assert_close(colour(29, 29), blue)
    torch.testing.assert_close(colour(35, 40), green)
    assert (colour(9, 10) == 0).all() and (colour(30, 29) == 0).all()
    for row, column in ((13, 13), (24, 24), (SIZE - 1, SIZE - 1), (40, SIZE - 1)):
        torch.testing.assert_close(colour(row, column), percept.images[0, 0, :, row, column])


@settings(max_examples=10)
@given(st.integers(0, 2**31 - 1), st.integers(1, 3))
def test_erosion_is_scipys(seed, pixels):
    from scipy.ndimage import binary_erosion

    masks = np.random.default_rng(seed).random((2, 20, 24)) < 0.9
    expected = [binary_erosion(mask, np.ones((3, 3)), pixels, border_value=1) for mask in masks]
    np.testing.assert_array_equal(eroded(torch.from_numpy(masks), pixels).numpy(), expected)


def test_without_regions_the_whole_picture_is_geometry():
    batch, percept = scene((0.45, 0.05))
    images = geometric()(batch, percept.replace(regions=None)).images
    assert (images.amax(2) > 0).all() and not torch.equal(images, percept.images)


def test_tokens_come_with_it_if_asked_for():
    batch, percept = scene((0.45, 0.05))
    front_end = geometric(tokens=True)
    found = front_end(batch, percept)
    assert found.tokens.shape == (1, 2, front_end.token_dim) and found.token_mask.tolist() == [[True, False]]
    with pytest.raises(UserError, match="object_centric"):
        perceive([front_end], batch)


def test_what_is_missing_is_named():
    batch, percept = scene((0.45, 0.05))
    with pytest.raises(UserError, match=r"'front'.*no depth.*'geometric'"):
        geometric()(replace(batch, depth={}), percept)
    with pytest.raises(ValueError, match=r"geometric.near.*far"):
        geometric(near=1.0, far=0.5)
    assert geometric(show="normals", outline=1).token_dim is None and percept.regions.roles == (TARGET,)
