"""`tiny` in words: what is told of a scene is true, nothing held out is ever taught, and a speaker learns, is kept and is counted."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backbones.context import Inputs
from backbones.tiny import teach_words
from backbones.tiny.examine_words import captions, exam, judge_answers, judge_captions, parse
from backbones.tiny.model import Tiny
from backbones.tiny.scenes import ARRAYS, EMPTY, HELD_OUT, open_arrays
from backbones.tiny.sentences import DESCRIBE, PAIRS, QUESTIONS, TAUGHT, Thing, ask, caption, things
from backbones.tiny.speech import Speaker, fingerprint
from backbones.tiny.word_lessons import Lessons
from robot_io import UserError
from robot_io.tabletop.scene import COLORS, SHAPES

RED, BLUE, PINK = (Thing("red", "cube", (0.4, 0.1, 0.02), False), Thing("blue", "ball", (0.5, 0.0, 0.02), False),
                   Thing("pink", "ball", (0.45, -0.1, 0.1), True))  # fmt: skip
places = st.tuples(st.floats(0.3, 0.6), st.floats(-0.2, 0.2), st.just(0.02))


@st.composite
def tables(draw, pairs=TAUGHT):
    found = draw(st.lists(st.tuples(st.sampled_from(pairs), places), max_size=7, unique_by=lambda one: one[0]))
    held = draw(st.integers(-3, max(0, len(found) - 1)))
    return sorted((Thing(*pair, place, i == held) for i, (pair, place) in enumerate(found)), key=lambda thing: -thing.place[1])


def speaker(seed: int = 0) -> Speaker:
    torch.manual_seed(seed)
    config = Tiny.Config(weights=None, dim=32, layers=2, heads=2, queries=2, eye_width=8, eye_blocks=0)
    return Speaker(Tiny(config, Inputs(2, (96, 96), 0)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four scenes whose labels are drawn and whose pictures are noise, as `backbones.tiny.scenes` stores them."""
    folder, rng = tmp_path_factory.mktemp("scenes"), np.random.default_rng(0)
    arrays = open_arrays(folder, 4)
    for name in ARRAYS:
        arrays[name][:] = 0
    arrays["images"][:] = rng.integers(0, 256, (4, 2, 1, 1, 3)) + 0 * arrays["images"]
    arrays["kinds"][:] = EMPTY
    for i in range(4):
        for slot in range(i + 1):
            color, shape = TAUGHT[int(rng.integers(len(TAUGHT)))]
            arrays["kinds"][i, slot] = list(COLORS).index(color), list(SHAPES).index(shape)
            arrays["pixels"][i, 0, slot, :2] = 12
            arrays["places"][i, slot] = rng.uniform(-0.2, 0.6, 3)
    arrays["held"][2, 0] = True
    arrays["pixels"][3, :, 1] = 0
    return folder


def test_a_caption_tells_from_left_to_right_what_shows_and_what_is_held(folder):
    assert caption([RED, BLUE, PINK]) == "a red cube left of a blue ball; the gripper holds a pink ball"
    assert caption([]) == "nothing; the gripper is empty"
    assert caption([Thing("orange", "cross", (0.4, 0, 0), False)]) == "an orange cross; the gripper is empty"
    stored = open_arrays(folder)
    rows = [things({name: stored[name][i] for name in ARRAYS}) for i in range(4)]
    assert [len(there) for there in rows] == [1, 2, 3, 3], "the last scene hides one of four"
    assert all(left.place[1] >= right.place[1] for there in rows for left, right in itertools.pairwise(there))
    assert [sum(thing.held for thing in there) for there in rows] == [0, 0, 1, 0]


@settings(max_examples=30)
@given(tables(PAIRS), st.integers(0, 99))
def test_a_caption_can_be_read_back(there, seed):
    names, held = parse(caption(there))
    assert names == [thing.name for thing in there if not thing.held]
    assert held == next((thing.name for thing in there if thing.held), None)
    counts = judge_captions([caption(there)], [there])
    assert all(hit == of for name, (hit, of) in counts.items() if name != "invented") and counts["invented"][0] == 0


@settings(max_examples=30)
@given(tables(), st.integers(0, 99))
def test_answers_are_true_and_no_question_names_what_is_held_out(there, seed):
    rng = np.random.default_rng(seed)
    for kind in QUESTIONS:
        if not (asked := ask(there, rng, kind)):
            continue
        question, answer = asked
        assert not any(" ".join(pair) in f"{question} {answer}" for pair in HELD_OUT)
        words = question.rstrip("?").split()
        if kind == "colour":
            assert [thing.colour for thing in there if thing.shape == words[-1]] == [answer]
        elif kind == "shape":
            assert [thing.shape for thing in there if thing.colour == words[-2]] == [answer]
        elif kind == "presence":
            assert (answer == "yes") == (tuple(words[-2:]) in {thing.pair for thing in there})
        elif kind == "count" and "objects" in words:
            wanted = [thing for thing in there if words[2] in ("objects", thing.colour)]
            assert answer == ("none", "one", "two", "three", "four", "five", "six", "seven")[len(wanted)]
        elif kind == "hand":
            held = [thing.name for thing in there if thing.held]
            assert answer == "nothing" if not held else answer.endswith(held[0])


@settings(max_examples=30)
@given(st.integers(0, 300))
def test_relations_are_the_robots_own(seed):
    question, answer = ask([RED, BLUE, PINK], np.random.default_rng(seed), "relation")
    sides = question.removeprefix("is the ").rstrip("?")
    relation = next(word for word in ("left of", "right of", "nearer than", "farther than") if word in sides)
    left, right = (next(t for t in (RED, BLUE, PINK) if part.strip() in (t.name, f"the {t.name}", t.shape, f"the {t.shape}"))
                   for part in sides.split(relation))
    y, x = (left.place[1] - right.place[1], np.hypot(*left.place[:2]) - np.hypot(*right.place[:2]))
    true = {"left of": y > 0, "right of": y < 0, "nearer than": x < 0, "farther than": x > 0}[relation]
    assert answer == ("yes" if true else "no")
    assert right is not left and "ball " not in question.replace("blue ball", "").replace("pink ball", ""), "two balls are told by colour"


def test_held_out_pairs_are_asked_about_only_where_that_is_wanted():
    there = [Thing("green", "ball", (0.4, 0.1, 0.0), False), BLUE]
    asked = [ask(there, np.random.default_rng(i), "presence", HELD_OUT) for i in range(40)]
    assert all(any(" ".join(pair) in question for pair in HELD_OUT) for question, _ in asked)
    assert {answer for _, answer in asked} == {"yes", "no"}
    assert {ask(there, np.random.default_rng(i), "relation", HELD_OUT)[0].split()[2] for i in range(9)} == {"green"}


def test_a_lesson_is_a_function_of_its_number_and_cells_are_seen_once(folder, monkeypatch):
    lessons = Lessons(folder, speaker())
    first, again = lessons.draw(3, 3), lessons.draw(3, 3)
    assert torch.equal(first.cells, again.cells) and first.questions == again.questions and first.captions == again.captions
    assert lessons.draw(4, 3).questions != first.questions
    monkeypatch.setattr(Speaker, "see", None)  # a second look would need it
    assert np.array_equal(Lessons(folder, speaker()).cells, lessons.cells)


def test_it_learns_four_scenes_goes_on_where_it_stopped_and_is_kept(folder, tmp_path):
    whole, halves = tmp_path / "whole.safetensors", tmp_path / "halves.safetensors"
    taught = speaker()
    before, lens = fingerprint(taught.trunk), fingerprint(taught.lens)
    teach_words.teach_lens(open_arrays(folder), taught, whole, 12, 4, 6e-3)
    assert fingerprint(taught.lens) != lens
    lens, lessons = fingerprint(taught.lens), Lessons(folder, taught)
    teach_words.teach_words(lessons, {"same": lessons}, taught, whole, 100, 4, 6e-3, 100)
    assert fingerprint(taught.trunk) == before and fingerprint(taught.lens) == lens, "the trunk is never changed, nor the lens by words"
    truths = [caption(there) for there in lessons.there]
    assert captions(taught, lessons, np.arange(4)) == truths
    cells, prompts = lessons.take(np.arange(4)), [[DESCRIBE, "what is the gripper holding?"]] * 4
    said = taught.write(cells, prompts)
    alone = [taught.write(cells[i:i + 1], [[prompt]])[0][0] for i in range(4) for prompt in prompts[i]]
    assert alone == [text for mine in said for text in mine], "neither neighbours nor padding change what is said"
    assert taught.loss(taught.look(cells), prompts, said) < taught.loss(taught.look(cells), prompts, said[::-1]), "nor does reading it at once"

    class Stop(Exception):
        pass

    def stop(number, batch, draw=lessons.draw):
        if number == 8:
            raise Stop
        return draw(number, batch)

    once, lessons.draw, draw = speaker(), stop, lessons.draw
    with pytest.raises(Stop):
        teach_words.teach_words(lessons, {}, once, halves, 12, 4, 6e-3, 6)
    lessons.draw = draw
    again, unbroken = speaker(seed=5), speaker()
    for part in ("trunk", "lens"):
        getattr(again, part).load_state_dict(getattr(once, part).state_dict())
    teach_words.teach_words(lessons, {}, again, halves, 12, 4, 6e-3, 6)
    teach_words.teach_words(lessons, {}, unbroken, tmp_path / "unbroken.safetensors", 12, 4, 6e-3, 6)
    assert all(torch.equal(value, unbroken.taught()[name]) for name, value in again.taught().items())

    loaded = Speaker.load(whole, speaker().trunk)
    assert captions(loaded, lessons, np.arange(4)) == [caption(there) for there in lessons.there], "also after half precision"
    with pytest.raises(UserError, match="taught on trunk"):
        Speaker.load(whole, speaker(seed=3).trunk)
    with pytest.raises(UserError, match="neither shipped nor a file"):
        Speaker.load(tmp_path / "nothing.safetensors")
    table = exam(loaded, lessons, "here", np.arange(4), PAIRS, "digest", "command")
    exact = next(row for row in table if row["metric"] == "exact_percent")
    assert (exact["mean"], exact["n"]) == (100.0, 4) and exact["low"] < 60
    assert {row["cell"]["asked"] for row in table} >= {"caption", *QUESTIONS} - {"colour", "shape"}


def test_captions_and_answers_are_counted():
    said = ["a red cube left of a pink ball left of a red cross; the gripper is empty", "a blue ball left of a red cube; the gripper is empty"]
    counts = judge_captions(said, [[RED, BLUE, PINK], [RED, BLUE]])
    assert counts == {"exact": (0, 2), "named": (4, 5), "invented": (1, 5), "order": (0, 1), "hand": (1, 2)}
    assert judge_captions(said, [[RED, BLUE, PINK], [RED, BLUE]], [("red", "cross"), ("blue", "ball")])["named"] == (1, 2)
    assert judge_captions(["a red cube left of a red cube; the gripper is empty"], [[RED]])["invented"] == (1, 2)
    assert judge_captions(["red left of"], [[RED]]) == {"exact": (0, 1), "named": (0, 1), "invented": (1, 1), "order": (0, 0), "hand": (1, 1)}
    assert judge_answers(["yes", "no", "no"], ["yes", "yes", "no"], ["no", "yes", "yes"]) == {
        "right": (2, 3), "majority": (2, 3), "elsewhere": (1, 3)}
