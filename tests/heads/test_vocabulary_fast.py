"""FAST tokens in a language model's vocabulary: ids, loss and constrained decoding, on a tiny Llama of transformers."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from toy_context import OUTPUT, all_valid, chunk, context
from toy_llama import STOP, having_read, prefix, toy_llama

from backbones.context import Context
from backbones.continuation import LanguageHead, run
from heads.vocabulary_fast import VocabularyFast
from robot_io import UserError

WORDS, SKIP = 200, 5  # of 208 logits
COUNT = OUTPUT.horizon * OUTPUT.action_dim


@pytest.fixture(scope="module")
def llama():
    return toy_llama(208)


@pytest.fixture(scope="module")
def head() -> VocabularyFast:
    made = VocabularyFast(VocabularyFast.Config(vocabulary=128, skip=SKIP), OUTPUT)
    made.study(lambda: (chunk(200), all_valid(200)))
    return made


def spoken(llama, batch: int) -> Context:
    """The context of a backbone that has read the prefix."""
    return having_read(llama, WORDS, batch)


def test_tokens_are_the_last_ids_but_for_those_skipped_and_then_the_answer_ends(llama, head):
    speaker, ids = head.speaker(spoken(llama, 2), cached=False)
    said = head.encode(chunk(2), torch.tensor([True, False]), ids)
    tokens = head.tokenizer.encode(chunk(2))[0]
    assert said[0].tolist() == [WORDS - 1 - SKIP - token for token in tokens] + [STOP]
    assert (said[1] == -100).all()
    logits = torch.arange(float(speaker.logits(torch.zeros(16)).shape[-1]))
    assert ids.among(logits).tolist() == [WORDS - 1 - SKIP - token for token in range(head.tokenizer.size)]


def test_loss_is_the_language_models_own(llama, head):
    actions = chunk(2)
    rows = [torch.tensor([WORDS - 1 - SKIP - token for token in row] + [STOP]) for row in head.tokenizer.encode(actions)]
    labels = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)
    embeds, mask = prefix(2)
    whole = torch.cat([embeds, llama.model.embed_tokens(labels.clamp(min=0))], 1)
    real = torch.cat([mask, torch.ones_like(labels, dtype=torch.bool)], 1)
    expected = llama(inputs_embeds=whole, attention_mask=real, position_ids=(real.cumsum(1) - 1).clamp(min=0),
                     labels=torch.cat([torch.full((2, 5), -100), labels], 1)).loss
    torch.testing.assert_close(head.loss(spoken(llama, 2), actions, all_valid(2)).total, expected)


def test_greedy_decoding_takes_the_likeliest_token_that_can_still_spell_a_chunk(llama, head):
    """Against whole passes over what was said so far, and trying out on the tokenizer what each token would spell."""
    embeds, mask = prefix(1)[0], torch.ones(1, 5, dtype=torch.bool)
    said: list[int] = []
    pieces = head.tokenizer.pieces
    spelt = b""
    while (len(spelt.decode("utf-8", "ignore")) < COUNT) or not _whole(spelt):
        ids = torch.tensor([[WORDS - 1 - SKIP - token for token in said]], dtype=torch.long)
        whole = torch.cat([embeds, llama.model.embed_tokens(ids)], 1)
        logits = llama.lm_head(run(llama, whole, F.pad(mask, (0, len(said)), value=True))[0, -1]).tolist()
        order = sorted(range(len(pieces)), key=lambda token, logits=logits: -logits[WORDS - 1 - SKIP - token])
        said.append(next(token for token in order if _may_follow(spelt, pieces[token])))
        spelt += pieces[said[-1]]
    seen = spoken(llama, 2)
    full = replace(seen, continuation=replace(seen.continuation, prefix=embeds, mask=mask, **_read(llama, embeds, mask)))
    torch.testing.assert_close(head.sample(full)[0], head.tokenizer.decode([said], OUTPUT.horizon, OUTPUT.action_dim))


def _read(llama, embeds, mask):
    from transformers import DynamicCache

    cache = DynamicCache(config=llama.config)
    return {"last": run(llama, embeds, mask, cache)[:, -1], "cache": cache}


def _whole(spelt: bytes) -> bool:
    try:
        spelt.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _may_follow(spelt: bytes, piece: bytes) -> bool:
    """Whether these bytes are, or can become, at most `COUNT` characters of one or two bytes."""
    if not piece:
        return False
    for ending in (b"", b"\x80"):
        try:
            text = (spelt + piece + ending).decode("utf-8")
        except UnicodeDecodeError:
            continue
        return len(text) <= COUNT and all(ord(character) <= 0x7FF for character in text)
    return False


def test_a_sample_is_learnt_and_draws_of_an_untrained_model_are_whole_chunks(llama, head):
    model, actions = deepcopy(llama), chunk(2)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    for _ in range(40):
        loss = head.loss(spoken(model, 2), actions, all_valid(2))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert loss.parts["right"] == 1.0
    assert (head.sample(spoken(model, 2))[:, 0] - actions).abs().max() < 0.15
    free = VocabularyFast(VocabularyFast.Config(vocabulary=128, temperature=1.0), OUTPUT)
    free.take(head.tokenizer)
    draws = free.sample(spoken(llama, 2), n=3)
    assert draws.shape == (2, 3, OUTPUT.horizon, OUTPUT.action_dim) and draws.isfinite().all()
    assert not torch.equal(draws[:, 0], draws[:, 1])


def test_invalid_steps_do_not_count(llama, head):
    valid = all_valid(3)
    valid[0, 2:] = valid[2] = False
    losses = []
    for filling in (0.3, float("nan")):
        actions = chunk(3)
        actions[~valid] = filling
        losses.append(head.loss(spoken(llama, 3), actions, valid).total)
    assert torch.equal(*losses)
    assert head.loss(spoken(llama, 2), chunk(2), ~all_valid(2)).total == 0.0


def test_a_backbone_or_a_tokenizer_that_does_not_fit_is_refused(llama, head):
    with pytest.raises(UserError, match="openvla"):
        head.loss(context(2), chunk(2), all_valid(2))
    seen = spoken(llama, 1)
    with pytest.raises(UserError, match="go on decoding"):
        head.sample(replace(seen, continuation=LanguageHead(llama, WORDS)))
    with pytest.raises(UserError, match="ids of the language model"):
        head.sample(replace(seen, continuation=replace(seen.continuation, vocabulary=100)))
    with pytest.raises(UserError, match="temperature"):
        head.sample(seen, n=2)
    with pytest.raises(UserError, match=r"vocabulary_fast.*tokenizer has not been trained"):
        VocabularyFast(VocabularyFast.Config(), OUTPUT).sample(seen)
