"""Pretraining of `tiny`: labels say what the pictures show, lessons ask what the labels say, and weights come out that load."""

from itertools import islice

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from backbones.tiny.examine_words import judge_captions
from backbones.tiny.model import Tiny
from backbones.tiny.pretrain import METRE, Teacher, auroc, distribution, pretrain
from backbones.tiny.scenes import ARRAYS, EMPTY, HELD_OUT, VIEWS, N, open_arrays, scenes
from backbones.tiny.sentences import things
from perception import PERCEPTION
from perception.percept import Batch, raw
from robot_io import UserError
from robot_io.tabletop.scene import COLORS, SHAPES


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    rows = list(islice(scenes(0, held_out=False), 12))
    return {name: np.stack([row[name] for row in rows]) for name in ARRAYS}


def test_held_out_pairs_are_never_shown(arrays):
    colors, shapes = list(COLORS), list(SHAPES)
    shown = {(colors[c], shapes[s]) for c, s in arrays["kinds"].reshape(-1, 2) if c != EMPTY}
    assert shown and not shown & set(HELD_OUT)
    row = next(scenes(0, held_out=True))
    assert {(colors[c], shapes[s]) for c, s in row["kinds"] if c != EMPTY} & set(HELD_OUT)


def test_cells_hold_the_colour_of_the_object_they_are_said_to_show(arrays):
    """Mean colour of the cells that lie wholly inside a red, green or blue object."""
    for name, channel in (("red", 0), ("green", 1), ("blue", 2)):
        found = []
        for scene, view, slot, cell in np.argwhere(arrays["pixels"] == 64):
            if arrays["kinds"][scene, slot, 0] == list(COLORS).index(name):
                y, x = divmod(cell, 12)
                found.append(arrays["images"][scene, view, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].mean((0, 1)))
        if found:
            assert np.mean(found, 0).argmax() == channel


def test_questions_are_answered_by_the_labels(arrays):
    teacher = Teacher(arrays)
    lesson = teacher.lesson(np.arange(12), np.random.default_rng(0))
    colors, shapes = list(COLORS), list(SHAPES)
    for question, words in enumerate(lesson.words):
        scene = question // 2
        there = {f"{colors[c]} {shapes[s]}": slot for slot, (c, s) in enumerate(arrays["kinds"][scene]) if c != EMPTY}
        asked = [slot for name, slot in there.items() if name in words]
        assert bool(asked) == bool(lesson.present[question])
        if asked:
            place = arrays["places"][scene, asked[0]]
            np.testing.assert_allclose(lesson.place[question, :3] / METRE, place, atol=1e-5)
            np.testing.assert_allclose(lesson.place[question, 3:] / METRE, place - arrays["tool"][scene], atol=1e-5)
        else:
            assert (lesson.where[question, :, -1] == 1).all(), "what is not there is pointed at nowhere"
    torch.testing.assert_close(lesson.where.sum(-1), torch.ones(len(lesson.words), len(VIEWS)))


def test_a_lesson_is_a_function_of_its_seed(arrays):
    first, second = (Teacher(arrays).lesson(np.arange(4), np.random.default_rng(5)) for _ in range(2))
    assert first.words == second.words and torch.equal(first.images, second.images)


def test_nothing_visible_is_an_answer_of_its_own():
    visible = np.zeros((1, 1, 2, N), np.float32)
    visible[0, 0, 1, 7] = 30
    found = distribution(visible)
    assert found[0, 0, 0, -1] == 1 and found[0, 0, 1, 7] == 1


def test_auroc_of_perfect_chance_and_inverted_scores():
    label = torch.tensor([False, False, True, True])
    assert auroc(torch.tensor([0.1, 0.2, 0.3, 0.4]), label) == 1.0
    assert auroc(torch.tensor([0.5, 0.5, 0.5, 0.5]), label) == 0.5
    assert auroc(torch.tensor([0.4, 0.3, 0.2, 0.1]), label) == 0.0


def test_a_few_steps_leave_weights_that_the_backbone_takes(arrays, tmp_path):
    stored = open_arrays(tmp_path / "scenes", 12)
    for name, value in arrays.items():
        stored[name][:] = value
    out = tmp_path / "weights.safetensors"
    pretrain(tmp_path / "scenes", {"seen": tmp_path / "scenes"}, out, steps=2, batch=4, peak=1e-3, every=2, init=None)
    from backbones.context import Inputs

    fresh = Tiny(Tiny.Config(weights=str(out)), Inputs(2, (128, 128), 4))
    fresh.load_pretrained()
    assert torch.equal(fresh.query, load_file(out)["query"])
    assert out.with_suffix(".jsonl").exists()


def summary(views: dict[str, np.ndarray], **options: str) -> list[str]:
    """What `summary` with captioner `tiny` says of pictures `uint8 [B, H, W, 3]`."""
    front_end = PERCEPTION.load("summary")(PERCEPTION.configure({"kind": "summary", "captioner": {"kind": "tiny", **options}}))
    count = len(next(iter(views.values())))
    batch = Batch({name: torch.from_numpy(value) for name, value in views.items()}, torch.zeros(count, 1), ["go"] * count)
    assert front_end.state_dict() == {}, "a policy folder does not carry the speaker"
    return front_end(batch, raw(batch)).text


def test_the_shipped_speaker_tells_what_is_there(arrays):
    views = {view: arrays["images"][:, v] for v, view in enumerate(VIEWS)}
    truths = [things({name: arrays[name][i] for name in ARRAYS}) for i in range(12)]
    hits, there = judge_captions(summary(views), truths)["named"]
    assert hits > 0.5 * there > 5, "one pair of sixty is right by chance"
    assert summary(dict(reversed(views.items()))) == summary(views), "whatever the order of the cameras"
    assert set(summary(views, question="how many objects are there?")) <= {"one", "two", "three", "four", "five", "six", "seven"}
    with pytest.raises(UserError, match="'wrist'"):
        summary({"front": views["front"]})
