"""The embedded captioner: words, what it is taught, that it can learn, how it is judged, and its file."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perception.captioner.captioner import EmbeddedCaptioner
from perception.captioner.examine import facts, rows, tally
from perception.captioner.lessons import Household, caption
from perception.captioner.model import Captioner
from perception.captioner.storage import load_weights, save_weights
from perception.captioner.train import begin, padded, trained
from perception.captioner.words import Words, clauses
from robot_io import UserError

TRUTH = "kitchen; near the fridge; hand: cup; counter: apple, book; fridge open; stove off"


@pytest.fixture(scope="module")
def lessons() -> Household:
    return Household()


def test_every_caption_comes_back_from_its_numbers(lessons):
    words = Words.of(lessons.texts())
    _, captions = lessons.draw(0, 40)
    assert len(set(captions)) > 20
    assert [words.decode(words.encode(caption)) for caption in captions] == captions


@given(st.integers(1, 6))
def test_long_captions_are_cut_between_things(at_most):
    cut = clauses("a; b; c; d", at_most)
    assert cut == ("; ".join("abcd"[:at_most]) + (f"; {4 - at_most} more" if at_most < 4 else ""))


def test_tables_are_told_from_left_to_right_without_what_hardly_shows():
    ids = np.zeros((128, 128), np.uint8)
    ids[10:20, 90:100], ids[60:70, 60:70], ids[5, 5] = 1, 2, 3
    assert caption(ids, np.array(["red cube", "blue ball", "green ball"])) == "a blue ball in the middle; a red cube at the upper right"
    assert caption(ids * 0, np.array(["red cube"])) == "nothing"


def test_test_layouts_are_never_drawn_and_lessons_repeat(lessons):
    first, again = lessons.draw(3, 5), lessons.draw(3, 5)
    assert torch.equal(first[0], again[0]) and first[1] == again[1] and lessons.draw(4, 5)[1] != first[1]
    assert 5 not in lessons.layouts and 6 not in lessons.layouts


def test_it_learns_to_tell_pictures_apart(lessons, tmp_path):
    torch.manual_seed(0)
    words = Words.of(lessons.texts())
    model = Captioner(len(words), dim=48, layers=1, heads=2, width=8)
    images, captions = lessons.draw(0, 3)
    target, optimizer = padded(captions, words), torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(60):
        loss = model.loss(images, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_weights(model, words, tmp_path / "captioner.safetensors")
    captioner = EmbeddedCaptioner(weights=str(tmp_path / "captioner.safetensors"))
    assert captioner.captions(images) == captions, "also after half precision"
    assert [captioner.captions(image[None])[0] for image in images] == captions


def test_it_starts_from_the_grounders_eyes_and_keeps_its_first_layers(lessons):
    model, _ = begin(lessons)
    kept = {id(parameter) for part in (model.encoder.stem, model.encoder.down4) for parameter in part.parameters()}
    assert kept and not kept & {id(parameter) for parameter in trained(model, frozen=False)}
    assert len(trained(model, frozen=True)) < len(trained(begin(lessons)[0], frozen=False))
    assert sum(parameter.numel() for parameter in model.parameters()) < 2.4e6, "half precision in 5 MB"


def test_scores_are_of_things_and_places():
    assert facts(TRUTH)["apple", "counter"] == 1 and facts(TRUTH)["hand", ""] == 1 and facts(TRUTH)["cup", "hand"] == 1
    said = "kitchen; near the fridge; hand: cup; counter: apple; fridge open: book; stove on"
    found = tally([said], [TRUTH], {"apple", "book", "stove"})
    assert found == {"recall": (3, 3), "precision": (3, 3), "right_place": (1, 3), "exact": (0, 1)}
    table = tally(["a red cube on the left; a red cube in the middle"], ["a red cube on the left; a blue ball in the middle"])
    assert table["recall"] == (1, 2) and table["precision"] == (1, 2) and table["right_place"] == (1, 1)
    assert {row["metric"] for row in rows({"pictures": "x"}, found, "hash", "command")} == {f"{name}_percent" for name in found}


def test_files_that_are_not_there_or_not_its_own_are_refused(tmp_path):
    with pytest.raises(UserError, match="neither shipped nor a file"):
        load_weights(tmp_path / "nothing.safetensors")
    (tmp_path / "wrong.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="do not fit"):
        load_weights(tmp_path / "wrong.safetensors")
