"""Cal-QL's floor holds; CQL's values fall through it."""

from __future__ import annotations

import pytest
import torch

from vla.rl.conservative import push, soft_push

VALID = torch.ones(3, 2, dtype=torch.bool)
FLOOR = torch.tensor([0.2, 0.5, 0.8])


def pushed_down(calibrated: bool, soft: bool) -> torch.Tensor:
    """Values of tried actions after many steps of the conservative term alone."""
    tried = torch.ones(2, 3, 4, 2, requires_grad=True)
    done, floor = torch.full((2, 3, 1, 2), 0.6), FLOOR if calibrated else None
    optimizer = torch.optim.SGD([tried], lr=2.0)
    for _ in range(400):
        if soft:
            values = tried if floor is None else torch.maximum(tried, floor[:, None, None])
            loss = soft_push(values, done, VALID, temperature=0.1)
        else:
            loss = push(tried, done, VALID, floor=floor)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return tried.detach()


@pytest.mark.parametrize("soft", [False, True], ids=["mean", "log-sum-exp"])
def test_the_floor_is_not_undercut_but_plain_cql_s_is(soft: bool):
    step = 2.0 / 12  # the largest move of one update
    calibrated, plain = pushed_down(True, soft), pushed_down(False, soft)
    assert (calibrated >= FLOOR[:, None, None] - step).all()
    assert (calibrated <= 1.0).all() and calibrated.mean() < 0.8
    assert (plain < FLOOR[:, None, None] - step).all()


def test_values_below_the_floor_are_left_alone_and_the_data_s_are_pushed_up():
    tried, done = torch.full((1, 3, 1, 2), 0.1, requires_grad=True), torch.zeros(1, 3, 1, 2, requires_grad=True)
    push(tried, done, VALID, floor=FLOOR).backward()
    assert tried.grad.abs().max() == 0 and (done.grad < 0).all()


def test_prefixes_that_cross_the_end_do_not_count():
    valid = VALID.clone()
    valid[1, 1] = False
    tried, done = torch.ones(1, 3, 2, 2, requires_grad=True), torch.zeros(1, 3, 1, 2)
    push(tried, done, valid, floor=None).backward()
    assert (tried.grad[0, 1, :, 1] == 0).all() and (tried.grad[0, 1, :, 0] > 0).all()


def test_importance_weights_make_the_estimate_independent_of_where_it_draws():
    """log ∫ exp Q over [-1, 1]^1, from uniform draws and from a Gaussian's."""
    torch.manual_seed(0)
    uniform = torch.rand(1, 20_000) * 2 - 1
    normal = torch.distributions.Normal(0.0, 1.0)
    drawn = normal.sample((1, 40_000))
    drawn = drawn[drawn.abs() < 1][None, :20_000]
    estimates = []
    for actions, density in ((uniform, torch.full_like(uniform, 0.5).log()),
                             (drawn, normal.log_prob(drawn) - (normal.cdf(torch.tensor(1.0)) - normal.cdf(torch.tensor(-1.0))).log())):
        q = (2 * actions)[None, ..., None]
        found = soft_push(q, torch.zeros(1, 1, 1, 1), torch.ones(1, 1, dtype=torch.bool), temperature=1.0, log_density=density[..., None])
        estimates.append(float(found) - torch.tensor(float(actions.shape[1])).log().item())
    exact = torch.tensor(2.0).sinh().log().item()
    assert estimates == pytest.approx([exact, exact], abs=0.05)
