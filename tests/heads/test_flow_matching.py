"""Flow matching's arithmetic: solvers' order on a known equation, the distribution of times, the line, and guidance."""

import math
from itertools import pairwise

import pytest
import torch
from scipy.stats import beta, kstest

from heads.draws import initial_noise
from heads.flow_matching import SOLVERS, BetaTime, UniformTime, between, guided, uncertainty
from robot_io import UserError


def swing(chunk: torch.Tensor, time: float) -> torch.Tensor:
    """dx/dt = x cos(t), whose solution is x(0) = x(1) exp(-sin(1))."""
    return chunk * math.cos(time)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("midpoint", 2)])
def test_solvers_have_their_order_of_convergence(solver: str, order: int):
    start = torch.ones(1, 1, 1, dtype=torch.float64)
    exact = math.exp(-math.sin(1.0))
    errors = [abs(SOLVERS[solver](swing, start, steps).item() - exact) for steps in (20, 40, 80)]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 7])
def test_a_straight_line_is_followed_exactly_in_any_number_of_steps(solver: str, steps: int):
    clean, noise = torch.randn(2, 3, 4, 2, dtype=torch.float64)
    found = SOLVERS[solver](lambda chunk, time: noise - clean, noise, steps)
    torch.testing.assert_close(found, clean)


def test_times_are_drawn_from_the_beta_distribution_of_pi0():
    torch.manual_seed(0)
    times = BetaTime().draw(20_000, torch.device("cpu"))
    assert times.min() >= 0.001 and times.max() <= 1.0
    assert kstest(((times - 0.001) / 0.999).numpy(), beta(1.5, 1.0).cdf).pvalue > 0.01
    assert times.mean().item() == pytest.approx(0.999 * 0.6 + 0.001, abs=0.01)


def test_uniform_times_are_uniform():
    torch.manual_seed(0)
    assert kstest(UniformTime().draw(20_000, torch.device("cpu")).numpy(), "uniform").pvalue > 0.01


def test_the_line_goes_from_the_chunk_to_the_noise():
    clean, noise = torch.randn(2, 3, 4, 2)
    for time, expected in ((0.0, clean), (1.0, noise), (0.5, (clean + noise) / 2)):
        torch.testing.assert_close(between(clean, noise, torch.full((3,), time)), expected)


def test_a_guide_moves_the_clean_estimate_by_variance_times_gradient():
    """For Gaussian chunks and a linear reward g·x, the guided field is exactly that of Gaussians moved by g."""
    gradient = torch.tensor([0.7, -0.3])

    def gaussian(mean: torch.Tensor):
        def field(chunk: torch.Tensor, time: float) -> torch.Tensor:
            share = (1.0 - time) / ((1.0 - time) ** 2 + time**2)
            clean = mean + share * (chunk - (1.0 - time) * mean)
            return (chunk - clean) / time

        return field

    tilted = guided(gaussian(torch.zeros(2)), lambda clean, level: gradient.expand_as(clean))
    chunk = torch.randn(5, 3, 2)
    for time in (1.0, 0.6, 0.1):
        torch.testing.assert_close(tilted(chunk, time), gaussian(gradient)(chunk, time), atol=1e-5, rtol=1e-5)


def test_uncertainty_falls_from_one_to_nothing():
    values = [uncertainty(time) for time in (1.0, 0.75, 0.5, 0.25, 0.0)]
    assert values[0] == 1.0 and values[2] == 0.5 and values[-1] == 0.0
    assert values == sorted(values, reverse=True)


def test_noise_of_another_shape_is_refused():
    with pytest.raises(UserError, match="noise"):
        initial_noise((2, 3, 4, 1), torch.zeros(2, 1, 4, 1), torch.zeros(1))
