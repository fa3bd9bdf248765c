"""What becomes of the rest of the picture: exactly the fill outside the selection, exactly the picture inside."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perception.masking import FILLS, Masking
from perception.percept import Batch, Percept
from perception.regions import ROLES, Regions
from robot_io import UserError

SIZE = 32
NO_BATCH = Batch(rgb={}, state=torch.zeros(2, 0), instructions=["", ""])


def noise(seed: int, share: float) -> Percept:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(2, 2, 3, SIZE, SIZE, generator=generator) < share
    return Percept(images=torch.rand(2, 2, 3, SIZE, SIZE, generator=generator),
                   regions=Regions(masks, torch.ones(2, 2, 3), ROLES, [("a", "b", "c")] * 2))


def masked(percept: Percept, **options) -> torch.Tensor:
    return Masking(Masking.Config(**options))(NO_BATCH, percept).images


@settings(max_examples=25)
@given(st.integers(0, 2**31 - 1), st.sampled_from(sorted(FILLS)), st.booleans(), st.sampled_from([0.0, 0.1, 0.6, 1.0]))
def test_inside_is_the_picture_and_outside_is_exactly_the_fill(seed, fill, keep_robot, share):
    percept = noise(seed, share)
    config = Masking.Config(fill=fill, keep_robot=keep_robot)
    images = masked(percept, fill=fill, keep_robot=keep_robot).movedim(2, -1)
    kept = (percept.regions.masks if keep_robot else percept.regions.masks[:, :, :2]).any(2)
    assert torch.equal(images[kept], percept.images.movedim(2, -1)[kept])
    expected = FILLS[fill](config, percept.images.flatten(0, 1), percept.regions.union.flatten(0, 1)[:, None])
    assert torch.equal(images[~kept], expected.view_as(percept.images).movedim(2, -1)[~kept])
    assert images.isfinite().all() and images.min() >= 0 and images.max() <= 1 + 1e-5


def test_nothing_selected_is_all_fill():
    percept = noise(0, 0.0)
    assert (masked(percept, fill="black") == 0).all()
    grey = masked(percept, fill="mean")
    torch.testing.assert_close(grey, percept.images.mean((-1, -2), keepdim=True).expand_as(grey))


def scene_with(colour: float | None) -> Percept:
    """A picture of a table with a backdrop, a thing to keep and perhaps a distractor of that colour."""
    picture = torch.full((3, 64, 64), 0.6)
    picture[:, :20] = 0.2
    picture[0, 40:48, 10:18] = 1.0
    if colour is not None:
        picture[1, 38:48, 40:50] = colour
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[40:48, 10:18] = True
    return Percept(images=picture[None, None],
                   regions=Regions(mask[None, None, None], torch.ones(1, 1, 1), ("target",), [("a",)]))


def test_painting_over_removes_distractors_and_keeps_table_and_backdrop():
    empty, crowded = (masked(scene_with(colour), fill="inpaint")[0, 0] for colour in (None, 1.0))
    torch.testing.assert_close(crowded, empty, atol=1e-3, rtol=0)
    assert (empty[:, 2] < 0.3).all() and (empty[:, -2] > 0.55).all()
    assert (empty[1:, 40:48, 10:18] == 0.6).all() and (empty[0, 40:48, 10:18] == 1).all()
    assert (empty[0, 50:, :30] < 0.65).all(), "the kept thing's own colour does not bleed into the background"


def test_blurring_spreads_but_keeps_the_light():
    percept = noise(1, 0.0)
    blurred = masked(percept, fill="blur", blur=0.1)
    assert blurred.std() < 0.2 * percept.images.std()
    torch.testing.assert_close(blurred.mean(), percept.images.mean(), atol=0.01, rtol=0)


def test_without_regions_it_says_what_to_put_before_it():
    with pytest.raises(UserError, match=r"'masking'.*object_centric"):
        masked(Percept(images=torch.zeros(1, 1, 3, 8, 8)))
