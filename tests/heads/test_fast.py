"""The FAST head: it learns chunks, commits to a mode, and always spells a chunk."""

from functools import cache
from pathlib import Path

import pytest
import torch
from toy_context import OUTPUT, all_valid, assert_invalid_steps_do_not_count, chunk, context, fit

from heads.fast import Fast
from heads.fast_tokenizer import FastTokenizer
from robot_io import UserError

SMALL = {"width": 32, "depth": 2, "attention_heads": 2, "dropout": 0.0, "vocabulary": 128}
SHAPE = (OUTPUT.horizon, OUTPUT.action_dim)


def build(studied: torch.Tensor | None = None, **options) -> Fast:
    torch.manual_seed(0)
    head = Fast(Fast.Config(**{**SMALL, **options}), OUTPUT)
    studied = chunk(200) if studied is None else studied
    head.study(lambda: (studied, all_valid(len(studied))))
    return head


BOTH_MODES = torch.tensor([0.5, -0.5]).repeat(8).view(16, 1, 1).expand(-1, *SHAPE)
"""What the tokenizer is trained on: always the same, so that weights and tokenizer go together."""


@cache
def two_mode_weights() -> dict[str, torch.Tensor]:
    head = build(BOTH_MODES)
    fit(head, 60, 5e-3)
    return head.state_dict()


def two_mode_head(**options) -> Fast:
    head = build(BOTH_MODES, **options).eval()
    head.load_state_dict(two_mode_weights())
    return head


def test_one_sample_is_learnt_to_within_rounding():
    head, actions = build(), chunk(1)
    assert fit(head, 80, 5e-3, seen=context(1), actions=actions) < 0.1
    assert (head.sample(context(1))[:, 0] - actions).abs().mean() < 0.05


def test_draws_visit_both_modes_and_nothing_between():
    torch.manual_seed(0)
    draws = two_mode_head(temperature=1.0).sample(context(4), n=32)
    assert draws.shape == (4, 32, *SHAPE)
    side = draws.mean((2, 3)).sign()[..., None, None]
    assert (draws - 0.5 * side).abs().amax((2, 3)).lt(0.1).float().mean() > 0.95
    assert 0.3 < (side > 0).float().mean() < 0.7


def test_the_likeliest_chunk_is_one_of_the_modes():
    assert ((two_mode_head().sample(context(4)).abs() - 0.5).abs() < 0.1).all()


@pytest.mark.parametrize("reads", ["readout", "hidden"])
def test_an_untrained_head_spells_whole_chunks_that_depend_on_the_sample_alone(reads: str):
    head = build(reads=reads).eval()
    for weight in head.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    together = head.sample(context(3))
    assert together.shape == (3, 1, *SHAPE) and together.isfinite().all()
    alone = context(3)
    rows = slice(1, 2)
    alone = type(alone)(alone.hidden[rows], alone.mask[rows], alone.readout[rows])
    torch.testing.assert_close(head.sample(alone), together[1:2])
    assert not torch.equal(together[0], together[1])


def test_the_loss_is_that_of_decoding_step_by_step():
    """Teacher forcing in one pass, against the logits that `generate` sees when the right tokens are fed back."""
    head, actions = build().eval(), chunk(2)
    speaker, spoken = head.speaker(context(2), cached=True)
    ids = head.encode(actions, torch.ones(2, dtype=torch.bool), spoken)
    fed, seen = iter(ids.clamp(min=0).T), []

    def choose(logits):
        seen.append(logits)
        return next(fed)

    speaker.generate(ids.shape[1], choose)
    expected = torch.nn.functional.cross_entropy(torch.stack(seen, 1).flatten(0, 1), ids.flatten(), ignore_index=-100)
    torch.testing.assert_close(head.loss(context(2), actions, all_valid(2)).total, expected, rtol=1e-5, atol=1e-5)


def test_invalid_steps_influence_neither_loss_nor_gradients():
    assert_invalid_steps_do_not_count(build())


def test_a_batch_without_a_valid_step_gives_a_zero_loss():
    assert build().loss(context(2), chunk(2), ~all_valid(2)).total == 0.0


def test_the_published_tokenizer_needs_its_vocabulary(tmp_path: Path):
    FastTokenizer.train(chunk(200), vocabulary=128).save(tmp_path)
    head = Fast(Fast.Config(**SMALL, tokenizer=str(tmp_path)), OUTPUT)
    head.load_pretrained()
    size = head.tokenizer.size
    head.study(lambda: pytest.fail("it has a tokenizer already"))
    with pytest.raises(UserError, match=f"set head.vocabulary={size}"):
        Fast(Fast.Config(**{**SMALL, "vocabulary": size - 1}, tokenizer=str(tmp_path)), OUTPUT).load_pretrained()
    with pytest.raises(UserError, match=r"hf download nowhere/fast"):
        Fast(Fast.Config(**SMALL, tokenizer="nowhere/fast"), OUTPUT).load_pretrained()


def test_what_cannot_be_honoured_is_refused():
    with pytest.raises(UserError, match="temperature"):
        build().sample(context(1), n=2)
    with pytest.raises(UserError, match="prefix"):
        build().sample(context(1), prefix=object())
    with pytest.raises(UserError, match="attention_heads"):
        build(width=36, attention_heads=4)
    with pytest.raises(UserError, match="tokenizer has not been trained"):
        Fast(Fast.Config(**SMALL), OUTPUT).sample(context(1))
