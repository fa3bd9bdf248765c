"""The tokens head: masking, fitting, sampling, scoring, and what it refuses."""

import pytest
import torch
from pydantic import ValidationError
from toy_context import OUTPUT, all_valid, assert_invalid_steps_do_not_count, chunk, context, fit

from heads.tokens import Tokens
from robot_io import UserError

FLAT = {"kind": "flat", "width": 32, "depth": 1, "features": 16, "dropout": 0.0}
QUERY = {"kind": "query", "width": 32, "depth": 1, "dropout": 0.0}
SMALL = {"bins": 16, "basis": None, "smoothing": 0.0, "window": 0.0, "decoder": FLAT}


def build(seed: int = 0, **options) -> Tokens:
    torch.manual_seed(seed)
    return Tokens(Tokens.Config(**{**SMALL, **options}), OUTPUT)


def test_invalid_steps_influence_neither_loss_nor_gradients():
    assert_invalid_steps_do_not_count(build())


def test_loss_is_the_cross_entropy_of_the_valid_numbers():
    head, actions, valid = build(), chunk(3), all_valid(3)
    valid[1, 1:] = False
    logits = head.logits(context(3))
    expected = torch.nn.functional.cross_entropy(logits[valid].flatten(0, 1), head.binning.encode(actions)[valid].flatten())
    torch.testing.assert_close(head.loss(context(3), actions, valid).total, expected)


def test_a_batch_without_a_valid_step_gives_a_zero_loss():
    loss = build().loss(context(2), chunk(2), ~all_valid(2)).total
    loss.backward()
    assert loss == 0.0


@pytest.mark.parametrize("options", [
    {}, {"binning": "openvla"}, {"decoder": {**QUERY, "reads": "hidden"}},
    {"bins": 256, "basis": 32, "smoothing": 4.0, "window": 0.25},
])
def test_one_sample_is_learnt_to_within_a_bin(options):
    head, actions = build(**options), chunk(1)
    fit(head, 80, 5e-3, seen=context(1), actions=actions)
    width = 2 / (min(head.config.bins, 64) - 1)
    assert (head.sample(context(1))[:, 0] - actions).abs().max() <= width


@pytest.mark.parametrize("options", [{}, {"basis": 12, "smoothing": 1.0}])
def test_loss_goes_to_zero_on_one_sample(options):
    assert fit(build(**options), 100, 5e-3, seen=context(1), actions=chunk(1)) < 0.01


def test_draws_visit_both_modes_and_nothing_between():
    head = build(temperature=1.0)
    fit(head, 80, 5e-3)
    draws = head.sample(context(4), n=64)
    assert draws.shape == (4, 64, OUTPUT.horizon, OUTPUT.action_dim)
    assert (draws.abs() - 0.5).abs().lt(0.1).float().mean() > 0.99
    assert 0.3 < (draws > 0).float().mean() < 0.7


def test_the_most_likely_chunk_ignores_torchs_seed_and_draws_follow_it():
    greedy, drawing = build(), build(temperature=1.0)
    samples = {}
    for seed in (1, 2):
        for name, head in (("greedy", greedy.eval()), ("drawing", drawing.eval())):
            torch.manual_seed(seed)
            samples[name, seed] = head.sample(context(2))
    assert torch.equal(samples["greedy", 1], samples["greedy", 2])
    assert not torch.equal(samples["drawing", 1], samples["drawing", 2])


def test_log_prob_is_the_frequency_of_the_draws():
    head = build(bins=4, temperature=1.0).eval()
    seen = context(1)
    draws = head.sample(seen, n=20_000)
    for value in head.binning.centres.float():
        probability = head.log_prob(seen, torch.full((1, OUTPUT.horizon, OUTPUT.action_dim), float(value))).exp()
        torch.testing.assert_close((draws == value).float().mean(1), probability, atol=0.02, rtol=0)


def test_the_window_spans_from_the_likeliest_bin_to_the_mean():
    logits = torch.tensor([3.0, 0.0, 2.0, 2.0]).log().expand(1, OUTPUT.horizon, OUTPUT.action_dim, 4)  # at ∓0.75, ∓0.25
    for window, value in ((0.0, -0.75), (0.5, -0.75), (1.0, -0.35), (2.0, -0.25 / 7)):
        found = build(bins=4, window=window).likeliest(logits)
        torch.testing.assert_close(found, torch.full_like(found, value))


@pytest.mark.parametrize("argument", ["noise", "guide", "condition"])
def test_an_unsupported_argument_is_refused(argument):
    with pytest.raises(UserError, match=argument):
        build().sample(context(1), **{argument: torch.zeros(1)})


def test_several_draws_of_the_most_likely_chunk_are_refused():
    with pytest.raises(UserError, match="temperature"):
        build().sample(context(1), n=2)


@pytest.mark.parametrize("options", [
    {"bin": 12}, {"bins": 1}, {"temperature": -1.0}, {"binning": "octo"}, {"decoder": {"kind": "rnn"}},
    {"decoder": {"kind": "flat", "reads": "hidden"}},
])
def test_a_wrong_configuration_is_refused(options):
    with pytest.raises(ValidationError):
        Tokens.Config(**options)
