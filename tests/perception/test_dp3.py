"""DP3's encoder: one token whatever the order and number of points, that moves with them."""

import torch

from perception.dp3 import Dp3
from perception.percept import Percept


def encode(values: torch.Tensor, mask: torch.Tensor, **options) -> Percept:
    torch.manual_seed(0)
    return Dp3(Dp3.Config(**options))(None, Percept(maps={"cloud": values, "cloud_mask": mask}))


def test_the_token_depends_on_the_set_of_points_alone():
    values, mask = torch.rand(2, 40, 9), torch.ones(2, 40, dtype=torch.bool)
    found = encode(values, mask)
    assert found.tokens.shape == (2, 1, 64) and found.token_mask.all()
    torch.testing.assert_close(encode(values.flip(1), mask).tokens, found.tokens)
    padded = torch.cat([values, torch.full((2, 9, 9), 7.0)], 1)  # what lies where there is no point does not matter
    there = torch.cat([mask, torch.zeros(2, 9, dtype=torch.bool)], 1)
    torch.testing.assert_close(encode(padded, there).tokens, found.tokens)
    assert not torch.allclose(encode(values + 0.1, mask).tokens, found.tokens)
    assert not encode(values, ~mask).token_mask.any()


def test_colours_are_left_out_unless_asked_for():
    values, mask = torch.rand(1, 40, 9), torch.ones(1, 40, dtype=torch.bool)
    dark = values.clone()
    dark[..., 3:6] = 0
    torch.testing.assert_close(encode(dark, mask).tokens, encode(values, mask).tokens)
    assert not torch.allclose(encode(dark, mask, colors=True).tokens, encode(values, mask, colors=True).tokens)


def test_it_has_the_papers_size():
    """Three layers of 64, 128 and 256, and a projection to 64: about 60 thousand parameters."""
    assert 55_000 < sum(p.numel() for p in Dp3(Dp3.Config()).parameters()) < 62_000
