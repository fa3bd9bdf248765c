"""Action tokens in a language model's vocabulary: ids, losses and decoding, on a tiny Llama of transformers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from toy_context import OUTPUT, all_valid, chunk, context
from toy_llama import STOP, having_read, prefix, toy_llama

from backbones.context import Context
from backbones.continuation import LanguageHead, run
from heads.binning import openvla_binning
from heads.head import Output
from heads.vocabulary import Codec, ParallelVocabulary, TokenConfig, Vocabulary
from robot_io import UserError

TOKENS = OUTPUT.horizon * OUTPUT.action_dim
WORDS = 40  # of 48 logits, the last 16 of 40 are actions
SMALL = {"bins": 16}


@pytest.fixture(scope="module")
def llama():
    return toy_llama(48)


def spoken(llama, batch: int) -> Context:
    """The context of a backbone that has read the prefix."""
    return having_read(llama, WORDS, batch)


def all_at_once(llama, batch: int) -> Context:
    """The context of a backbone with a readout for every token."""
    readout = torch.randn(batch, TOKENS, 16, generator=torch.Generator().manual_seed(4))
    return Context(readout, torch.ones(batch, TOKENS, dtype=torch.bool), readout, continuation=LanguageHead(llama, WORDS))


def one_after_the_other(**options) -> Vocabulary:
    return Vocabulary(Vocabulary.Config(**{**SMALL, **options}), OUTPUT)


def in_parallel(**options) -> ParallelVocabulary:
    return ParallelVocabulary(ParallelVocabulary.Config(**{**SMALL, **options}), replace(OUTPUT, queries=TOKENS))


BOTH = [(one_after_the_other, spoken), (in_parallel, all_at_once)]


def ids_of(actions: torch.Tensor) -> torch.Tensor:
    """OpenVLA's arithmetic in NumPy, with 16 edges and a vocabulary of 40."""
    return torch.from_numpy(WORDS - np.digitize(actions.clamp(-1, 1).numpy(), np.linspace(-1, 1, 16))).flatten(1)


def test_openvlas_ids_over_the_whole_range():
    codec = Codec(TokenConfig(kind="vocabulary"), openvla_binning(256), Output(1, 1, 1, 1), vocabulary=32000)
    edges = np.linspace(-1, 1, 256)
    actions = np.concatenate([np.linspace(-1.3, 1.3, 4001), edges, (edges[1:] + edges[:-1]) / 2])
    ids = codec.encode(torch.from_numpy(actions)[:, None, None], torch.ones(len(actions), 1, dtype=torch.bool))[:, 0]
    assert ids.tolist() == (32000 - np.digitize(np.clip(actions, -1, 1), edges)).tolist()
    assert (int(ids.min()), int(ids.max())) == (31744, 31999)
    assert len(codec.decode(torch.arange(31744, 32000)[:, None]).unique()) == 255


def test_loss_is_the_language_models_own_on_action_and_stop_tokens(llama):
    actions = chunk(2)
    ids = F.pad(ids_of(actions), (0, 1), value=STOP)
    embeds, mask = prefix(2)
    whole = torch.cat([embeds, llama.model.embed_tokens(ids)], 1)
    labels = torch.cat([torch.full((2, 5), -100), ids], 1)
    real = torch.cat([mask, torch.ones_like(ids, dtype=torch.bool)], 1)
    expected = llama(inputs_embeds=whole, attention_mask=real, position_ids=(real.cumsum(1) - 1).clamp(min=0), labels=labels).loss
    loss = one_after_the_other().loss(spoken(llama, 2), actions, all_valid(2))
    torch.testing.assert_close(loss.total, expected)


def test_parallel_loss_is_the_cross_entropy_of_every_position(llama):
    seen, actions = all_at_once(llama, 2), chunk(2)
    expected = F.cross_entropy(llama.lm_head(seen.readout).flatten(0, 1), ids_of(actions).flatten())
    torch.testing.assert_close(in_parallel().loss(seen, actions, all_valid(2)).total, expected)


@pytest.mark.parametrize("head, seen", BOTH, ids=["vocabulary", "parallel"])
def test_invalid_steps_influence_neither_loss_nor_gradients(llama, head, seen):
    valid = all_valid(3)
    valid[0, 2:] = valid[2] = False
    found = []
    for filling in (0.3, float("nan")):
        actions = chunk(3)
        actions[~valid] = filling
        llama.zero_grad()
        loss = head().loss(seen(llama, 3), actions, valid)
        loss.total.backward()
        found.append([loss.total.detach(), *(p.grad.clone() for p in llama.parameters() if p.grad is not None)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("head, seen", BOTH, ids=["vocabulary", "parallel"])
def test_a_batch_without_a_valid_step_gives_a_zero_loss(llama, head, seen):
    assert head().loss(seen(llama, 2), chunk(2), ~all_valid(2)).total == 0.0


def test_greedy_decoding_chooses_the_likeliest_token_given_those_before(llama):
    seen, head = spoken(llama, 2), one_after_the_other(constrained=True)
    actions = head.sample(seen)
    assert actions.shape == (2, 1, OUTPUT.horizon, OUTPUT.action_dim)
    embeds, mask = prefix(2)
    ids = torch.zeros(2, 0, dtype=torch.long)
    for _ in range(TOKENS):
        whole = torch.cat([embeds, llama.model.embed_tokens(ids)], 1)
        hidden = run(llama, whole, torch.cat([mask, torch.ones_like(ids, dtype=torch.bool)], 1))
        logits = llama.lm_head(hidden[:, -1])
        ids = torch.cat([ids, 24 + logits[:, 24:40].argmax(-1, keepdim=True)], 1)
    expected = head.binning.decode(39 - ids).view(2, 1, OUTPUT.horizon, OUTPUT.action_dim)
    torch.testing.assert_close(actions, expected)


def test_a_stray_token_counts_as_the_nearest_action_and_constrained_decoding_has_none(llama):
    seen = all_at_once(llama, 1)
    free, bound = in_parallel(), in_parallel(constrained=True)
    likeliest = llama.lm_head(seen.readout).argmax(-1)[0]
    stray = ((likeliest < 24) | (likeliest >= 40)).view(OUTPUT.horizon, OUTPUT.action_dim)
    assert stray.any()
    ends = free.sample(seen)[0, 0][stray].abs()
    torch.testing.assert_close(ends, torch.full_like(ends, 14 / 15))
    expected = bound.binning.decode(15 - llama.lm_head(seen.readout)[..., 24:40].argmax(-1))
    torch.testing.assert_close(bound.sample(seen).flatten(1), expected)


@pytest.mark.parametrize("head, seen", BOTH, ids=["vocabulary", "parallel"])
def test_log_prob_is_the_frequency_of_the_draws(llama, head, seen):
    made = head(constrained=True, temperature=1.0)
    torch.manual_seed(0)
    with torch.no_grad():
        draws = made.sample(seen(llama, 1), n=3000)[0]
        for value in draws[:, 0, 0].unique()[:4]:  # not the highest, which two ids stand for
            same = draws[:, 0, 0] == value
            probability = made.log_prob(seen(llama, 1), draws[same][:1])[0, 0, 0].exp()
            torch.testing.assert_close(same.float().mean(), probability, atol=0.03, rtol=0)


def test_the_probabilities_of_all_chunks_sum_to_one(llama):
    """Two numbers of four bins: all 16 pairs scored, the second number given the first."""
    head = Vocabulary(Vocabulary.Config(bins=4, constrained=True), Output(1, 2, 16, 1))
    values = openvla_binning(4).edges
    pairs = torch.cartesian_prod(values, values)[:, None]
    seen = replace(spoken(llama, 2), continuation=spoken(llama, 2).continuation.repeat(16))
    log_prob = head.log_prob(seen, pairs.repeat(2, 1, 1))
    assert log_prob.shape == (32, 1, 2)
    torch.testing.assert_close(log_prob.sum((1, 2)).exp().view(2, 16).sum(1), torch.ones(2))


@pytest.mark.parametrize("head, seen", BOTH, ids=["vocabulary", "parallel"])
def test_one_sample_is_learnt_to_within_a_bin(llama, head, seen):
    from copy import deepcopy

    model, actions = deepcopy(llama), chunk(2)
    made, optimizer = head(), torch.optim.Adam(model.parameters(), lr=2e-2)
    for _ in range(60):
        loss = made.loss(seen(model, 2), actions, all_valid(2))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert loss.parts["accuracy"] == 1.0
    assert (made.sample(seen(model, 2))[:, 0] - actions).abs().max() <= 1 / 15 + 1e-6


@pytest.mark.parametrize("head, seen", BOTH, ids=["vocabulary", "parallel"])
def test_draws_differ_and_several_of_the_likeliest_are_refused(llama, head, seen):
    draws = head(temperature=1.0, constrained=True).sample(seen(llama, 2), n=3)
    assert draws.shape == (2, 3, OUTPUT.horizon, OUTPUT.action_dim)
    assert not torch.equal(draws[:, 0], draws[:, 1])
    with pytest.raises(UserError, match="temperature"):
        head().sample(seen(llama, 2), n=2)


@pytest.mark.parametrize("head, seen", BOTH, ids=["vocabulary", "parallel"])
@pytest.mark.parametrize("argument", ["noise", "guide", "condition"])
def test_an_unsupported_argument_is_refused(llama, head, seen, argument):
    with pytest.raises(UserError, match=argument):
        head().sample(seen(llama, 1), **{argument: torch.zeros(1)})


@pytest.mark.parametrize("head", [one_after_the_other, in_parallel])
def test_a_backbone_without_a_language_model_is_refused(head):
    with pytest.raises(UserError, match="openvla"):
        head().loss(context(2), chunk(2), all_valid(2))


def test_one_token_after_the_other_needs_more_than_an_output_layer(llama):
    with pytest.raises(UserError, match="go on decoding"):
        one_after_the_other().sample(all_at_once(llama, 1))


def test_too_few_readouts_say_how_many_are_needed():
    with pytest.raises(UserError, match=r"backbone\.queries=12"):
        ParallelVocabulary(ParallelVocabulary.Config(), OUTPUT)
