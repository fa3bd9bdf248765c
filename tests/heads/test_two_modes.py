"""Two equally good ways around an obstacle: regression averages them, heads that draw whole chunks take one or the other."""

import pytest
import torch

from benchmarks.two_modes import KINDS, OBSTACLE, draw, learn, make, one_way, ways


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_demonstrations_go_one_way_each_and_both_about_equally_often():
    shown = ways(400)
    assert one_way(shown).float().mean() > 0.95 and shown.norm(dim=-1).min() > OBSTACLE
    assert 0.4 < (shown.mean(1)[:, 1] > 0).float().mean() < 0.6
    assert not one_way(shown * torch.tensor([1.0, 0.0])).any()


def test_regression_goes_through_the_obstacle():
    chunks = draw(learn(make(KINDS["regression, MSE"]), steps=100), 4)
    assert not one_way(chunks).any() and chunks.norm(dim=-1).min() < OBSTACLE / 2


def test_parallel_tokens_avoid_it_step_by_step_but_mix_the_ways():
    chunks = draw(learn(make(KINDS["tokens, parallel"]), steps=150), 64)
    assert one_way(chunks).float().mean() < 0.1
    assert (chunks.norm(dim=-1).amin(1) > OBSTACLE).float().mean() > 0.8


@pytest.mark.parametrize(("name", "steps", "rate", "share"), [
    ("tokens, FAST", 100, 4e-3, 0.9), ("diffusion", 250, 3e-3, 0.8), ("flow to the chunk", 250, 3e-3, 0.8)])
def test_heads_that_draw_whole_chunks_take_either_way(name: str, steps: int, rate: float, share: float):
    chunks = draw(learn(make(KINDS[name]), steps=steps, rate=rate), 200)
    assert one_way(chunks).float().mean() > share
    assert 0.3 < (chunks.mean(1)[:, 1] > 0).float().mean() < 0.7
