import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_io.tabletop.scene import COLORS, SHAPES
from robot_io.tabletop.tasks import BOWL_SPACING, SPACING, Task, draw_layout

EVERYTHING = {"colors": tuple(COLORS), "shapes": tuple(SHAPES)}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**40), st.integers(0, 6), st.sampled_from(["pick", "place"]), st.booleans())
def test_layouts_are_unambiguous_and_uncrowded(seed, distractors, kind, paraphrase):
    task = Task(task=kind, distractors=min(distractors, 4 if kind == "place" else 6), paraphrase=paraphrase, **EVERYTHING)
    layout = draw_layout(task, np.random.default_rng(seed))
    assert len(layout.items) == 1 + task.distractors and len(layout.bowls) == (kind == "place")
    names = [item.name for item in layout.items]
    assert len(set(names)) == len(names)
    assert [name in layout.instruction for name in names] == [i == layout.target for i in range(len(names))]
    spots = np.array([item.position for item in layout.items])
    apart = np.linalg.norm(spots[:, None] - spots, axis=-1) + np.eye(len(spots))
    assert apart.min() >= SPACING
    for bowl in layout.bowls:
        assert np.linalg.norm(spots - bowl.position, axis=-1).min() >= BOWL_SPACING


def test_a_seed_is_a_layout():
    task = Task(distractors=3)
    assert draw_layout(task, np.random.default_rng(5)) == draw_layout(task, np.random.default_rng(5))
    assert draw_layout(task, np.random.default_rng(5)) != draw_layout(task, np.random.default_rng(6))


def test_two_bowls_are_told_apart():
    layout = draw_layout(Task(task="place", bowls=2), np.random.default_rng(0))
    assert f"{layout.bowls[layout.bowl].color} bowl" in layout.instruction


def test_paraphrases_are_used_only_when_asked():
    def phrases(paraphrase):
        task = Task(paraphrase=paraphrase, colors=("red", "blue"), shapes=("cube",))
        drawn = (draw_layout(task, np.random.default_rng(seed)) for seed in range(40))
        return {layout.instruction.replace("blue", "red") for layout in drawn}

    assert phrases(False) == {"pick up the red cube"}
    assert len(phrases(True)) >= 3


@pytest.mark.parametrize(("options", "message"), [
    ({"colors": ("red", "blu")}, "did you mean 'blue'"),
    ({"shapes": ("cubes",)}, "did you mean 'cube'"),
    ({"colors": ("red",), "shapes": ("cube",)}, "more colors or shapes"),
    ({"task": "place", "bowls": 0}, "leave bowls out"),
])
def test_impossible_tasks_say_what_to_change(options, message):
    with pytest.raises(ValueError, match=message):
        Task(**options)
