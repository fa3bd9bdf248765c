"""FAST's tokenizer: the published arithmetic written out, round trip and compression, the published layout, and its grammar."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dct, idct
from tokenizers import ByteLevelBPETokenizer
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from heads.fast_tokenizer import FastTokenizer, Grammar, coefficients
from robot_io import UserError

T, A = 16, 4


def smooth(count: int, seed: int = 0) -> torch.Tensor:
    """Chunks as robots make them: sums of a few slow waves, within [-1, 1]."""
    random = torch.Generator().manual_seed(seed)
    time = torch.linspace(0, 1, T)
    phase, speed, size = (torch.rand(3, count, A, 3, generator=random) * torch.tensor([6.3, 2.0, 0.33]).view(3, 1, 1, 1)).unbind(0)
    return (size.unsqueeze(1) * torch.sin(phase.unsqueeze(1) + 6.3 * speed.unsqueeze(1) * time[:, None, None])).sum(-1)


@pytest.fixture(scope="module")
def trained() -> FastTokenizer:
    return FastTokenizer.train(smooth(400), scale=10.0, vocabulary=512)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the published layout, made the published way: transformers' wrapper around a byte-level BPE whose alphabet is
    the characters themselves."""
    folder = tmp_path_factory.mktemp("fast")
    tokens = np.around(dct(smooth(400).numpy().astype(np.float64), axis=1, norm="ortho") * 10).astype(int)
    low, high = -354, int(tokens.max())
    bpe = ByteLevelBPETokenizer()
    bpe._tokenizer.train_from_iterator(
        ("".join(map(chr, chunk.flatten() - low)) for chunk in tokens),
        BpeTrainer(vocab_size=2048, min_frequency=2, show_progress=False, special_tokens=[],
                   initial_alphabet=[chr(i) for i in range(high - low + 1)], max_token_length=10000))
    PreTrainedTokenizerFast(tokenizer_object=bpe, clean_up_tokenization_spaces=False).save_pretrained(folder)
    (folder / "processor_config.json").write_text(
        '{"action_dim": null, "auto_map": {"AutoProcessor": "processing_action_tokenizer.UniversalActionProcessor"}, "min_token": -354, '
        '"processor_class": "UniversalActionProcessor", "scale": 10, "time_horizon": null, "vocab_size": 2048}')
    return folder


@pytest.fixture(scope="module")
def grammars(trained: FastTokenizer, published: Path) -> list[tuple[FastTokenizer, Grammar]]:
    return [(made, Grammar.of(made)) for made in (trained, FastTokenizer.load(published))]


def test_coefficients_are_those_of_scipy():
    chunks = smooth(20, seed=1)
    expected = np.around(dct(chunks.numpy().astype(np.float64), axis=1, norm="ortho") * 10)
    assert np.array_equal(coefficients(chunks, 10.0).numpy(), expected)


def test_the_round_trip_errs_by_what_rounding_costs_and_no_more(trained: FastTokenizer):
    """Each coefficient errs by at most 0.05, and the transform keeps lengths: 0.05·√T at most in all of a dimension."""
    chunks = smooth(50, seed=1)
    found = trained.decode(trained.encode(chunks), T, A)
    error = (found - chunks).square().mean().sqrt().item()
    assert 0.01 < error < 0.05 / np.sqrt(3) * 1.3
    assert (found - chunks).square().sum(1).sqrt().max() < 0.05 * np.sqrt(T)


@pytest.mark.parametrize(("scale", "longest"), [(5.0, 0.30), (10.0, 0.35), (20.0, 0.55)])
def test_a_chunk_takes_far_fewer_tokens_than_numbers(scale: float, longest: float):
    tokenizer = FastTokenizer.train(smooth(400), scale=scale, vocabulary=512)
    lengths = [len(ids) for ids in tokenizer.encode(smooth(50, seed=1))]
    assert np.mean(lengths) < longest * T * A


def test_the_finer_the_scale_the_smaller_the_error_and_the_longer_the_tokens():
    chunks, errors, lengths = smooth(50, seed=1), [], []
    for scale in (3.0, 10.0, 30.0):
        tokenizer = FastTokenizer.train(smooth(400), scale=scale, vocabulary=512)
        ids = tokenizer.encode(chunks)
        errors.append((tokenizer.decode(ids, T, A) - chunks).abs().mean().item())
        lengths.append(np.mean([len(row) for row in ids]))
    assert errors == sorted(errors, reverse=True) and lengths == sorted(lengths)


def test_the_published_layout_gives_the_published_tokens_and_actions(published: Path):
    ours, theirs = FastTokenizer.load(published), PreTrainedTokenizerFast.from_pretrained(published)
    chunks = smooth(20, seed=1)
    symbols = np.around(dct(chunks.numpy().astype(np.float64), axis=1, norm="ortho") * 10).astype(int) + 354
    expected = [theirs("".join(map(chr, chunk.flatten())))["input_ids"] for chunk in symbols]
    found = ours.encode(chunks)
    assert found == expected
    back = np.stack([np.array([ord(c) for c in theirs.decode(ids)]).reshape(T, A) - 354 for ids in expected])
    np.testing.assert_allclose(ours.decode(found, T, A), idct(back / 10, axis=1, norm="ortho"), atol=1e-5)


def test_it_is_saved_and_loaded(trained: FastTokenizer, tmp_path: Path):
    trained.save(tmp_path)
    loaded, chunks = FastTokenizer.load(tmp_path), smooth(10, seed=2)
    assert {path.name for path in tmp_path.iterdir()} == {"processor_config.json", "tokenizer.json"}
    assert (loaded.scale, loaded.min_token, loaded.max_token, loaded.size) == (
        trained.scale, trained.min_token, trained.max_token, trained.size)
    assert loaded.encode(chunks) == trained.encode(chunks)


def test_training_twice_gives_the_same_tokens():
    first, second = (FastTokenizer.train(smooth(100), vocabulary=300) for _ in range(2))
    assert first.encode(smooth(20, seed=1)) == second.encode(smooth(20, seed=1))


def test_what_was_never_seen_is_clipped_not_lost(trained: FastTokenizer):
    wild = torch.full((1, T, A), 50.0)
    found = trained.decode(trained.encode(wild), T, A)
    assert 0.4 < found.mean() < 50.0  # as far as the coefficients seen in training reach


def test_unspellable_tokens_become_a_chunk_all_the_same(trained: FastTokenizer):
    for ids in ([], [0], [1] * 200):
        assert trained.decode([ids], T, A).shape == (1, T, A)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000))
def test_any_choice_the_grammar_allows_spells_a_whole_chunk(grammars: list[tuple[FastTokenizer, Grammar]], seed: int):
    random = torch.Generator().manual_seed(seed)
    for tokenizer, grammar in grammars:
        begun, is_open, ids = torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.bool), []
        while begun != T * A or is_open:
            allowed = grammar.allowed(begun, is_open, T * A)[0].nonzero().flatten()
            ids.append(int(allowed[torch.randint(len(allowed), (1,), generator=random)]))
            begun, is_open = grammar.advance(begun, is_open, torch.tensor([ids[-1]]))
        text = b"".join(tokenizer.pieces[token] for token in ids).decode("utf-8")  # strict
        assert len(text) == T * A


def test_encoded_chunks_are_allowed(grammars: list[tuple[FastTokenizer, Grammar]]):
    for tokenizer, grammar in grammars:
        for ids in tokenizer.encode(smooth(20, seed=3)):
            begun, is_open = torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.bool)
            for token in ids:
                assert grammar.allowed(begun, is_open, T * A)[0, token]
                begun, is_open = grammar.advance(begun, is_open, torch.tensor([token]))
            assert begun == T * A and not is_open


def test_what_is_not_a_tokenizer_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="hf download physical-intelligence/fast"):
        FastTokenizer.load(tmp_path)
    with pytest.raises(UserError, match="at least"):
        FastTokenizer.train(smooth(10), vocabulary=5)
    with pytest.raises(UserError, match="lower the scale"):
        FastTokenizer.train(smooth(10), scale=1e4)
