import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_io.tabletop.layout import BOWL_SPACING, CENTRE, HALF_AREA, INNER, MARGIN, RELATIONS, SPACING, draw_layout
from robot_io.tabletop.objects import COLORS, HELD_OUT, NAMED, UNSEEN
from robot_io.tabletop.tasks import Task

GOLDEN = ("pick up the blue cube", 2, [
    0.421253635, -0.08334434, 0.01817915, -1.835835741, 0.419735416, 0.153693427, 0.020538856, 0.628159556,
    0.52560107, 0.026878555, 0.017898389, 2.067045253])
EVERYTHING = {"colors": tuple(COLORS), "shapes": tuple(NAMED)}


def draw(task, seed):
    return draw_layout(task, np.random.default_rng(seed))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**40), st.integers(0, 6), st.sampled_from(["pick", "place"]), st.booleans())
def test_layouts_are_unambiguous_and_uncrowded(seed, distractors, kind, paraphrase):
    task = Task(task=kind, distractors=min(distractors, 4 if kind == "place" else 6), paraphrase=paraphrase, **EVERYTHING)
    layout = draw(task, seed)
    assert len(layout.items) == 1 + task.distractors and len(layout.bowls) == (kind == "place")
    names = [item.name for item in layout.items]
    assert len(set(names)) == len(names)
    assert [name in layout.instruction for name in names] == [i == layout.target for i in range(len(names))]
    spots = np.array([item.position for item in layout.items])
    apart = np.linalg.norm(spots[:, None] - spots, axis=-1) + np.eye(len(spots))
    assert apart.min() >= SPACING
    for bowl in layout.bowls:
        assert np.linalg.norm(spots - bowl.position, axis=-1).min() >= BOWL_SPACING


def test_objects_stay_in_their_area_and_inner_and_outer_share_no_place():
    spots = {area: np.array([draw(Task(distractors=0, area=area), seed).items[0].position for seed in range(60)])
             for area in ("all", "middle", "inner", "outer")}
    reach = {area: np.abs(found - CENTRE) for area, found in spots.items()}
    assert (reach["middle"] <= 0.025).all() and (reach["inner"] <= INNER).all() and np.ptp(spots["inner"], 0).min() > 0.1
    assert ((reach["outer"] > INNER).any(1) & (reach["outer"] <= HALF_AREA).all(1)).all()
    assert 0.2 < (reach["all"] <= INNER).all(1).mean() < 0.5


def test_a_seed_is_a_layout():
    task = Task(distractors=3)
    assert draw(task, 5) == draw(task, 5)
    assert draw(task, 5) != draw(task, 6)


def test_two_bowls_are_told_apart():
    layout = draw_layout(Task(task="place", bowls=2), np.random.default_rng(0))
    assert f"{layout.bowls[layout.bowl].color} bowl" in layout.instruction


def test_paraphrases_are_used_only_when_asked():
    def phrases(paraphrase):
        task = Task(paraphrase=paraphrase, colors=("red", "blue"), shapes=("cube",))
        drawn = (draw(task, seed) for seed in range(40))
        return {layout.instruction.replace("blue", "red") for layout in drawn}

    assert phrases(False) == {"pick up the red cube"}
    assert len(phrases(True)) >= 3


def test_old_scenes_stay_as_they_were():
    """Shipped results name seeds; these layouts are of the release that made them."""
    layout = draw(Task(distractors=2), 7)
    assert layout.instruction == GOLDEN[0] and layout.target == GOLDEN[1]
    np.testing.assert_allclose([value for item in layout.items for value in (*item.position, item.half_width, item.yaw)], GOLDEN[2], rtol=1e-6)


def test_held_out_pairs_are_named_or_never_there():
    for seed in range(30):
        seen = draw(Task(pairs="seen", distractors=7), seed)
        assert not {(item.color, item.shape) for item in seen.items} & set(HELD_OUT)
        held_out = draw(Task(pairs="held_out", distractors=3), seed)
        named = held_out.items[held_out.target]
        assert (named.color, named.shape) in HELD_OUT and named.name in held_out.instruction


@pytest.mark.parametrize("options", [{}, {"pairs": "seen"}, {"clutter": "unseen"}, {"distractors": 5}])
def test_what_is_absent_is_asked_for_but_not_there(options):
    asked = set()
    for seed in range(20):
        layout = draw(Task(absent=True, **options), seed)
        assert layout.target is None and len(layout.items) == 1 + Task(**options).distractors
        assert not any(item.name in layout.instruction for item in layout.items)
        asked.add(layout.instruction)
    assert len(asked) > 5


def test_unseen_clutter_surrounds_the_named_object():
    places, looks = set(), set()
    for seed in range(20):
        layout = draw(Task(clutter="unseen", pairs="held_out", distractors=7), seed)
        others = [item for i, item in enumerate(layout.items) if i != layout.target]
        assert len({item.shape for item in others}) == 7 and all(item.shape in UNSEEN for item in others)
        assert not any(item.color in COLORS for item in others)
        places.add(layout.target)
        looks |= {item.texture for item in others}
    assert len(places) > 4 and len(looks) == 6  # the slot does not give the target away; five textures and none


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**40), st.integers(1, 5), st.sampled_from(["pick", "place"]))
def test_only_the_relation_decides(seed, distractors, kind):
    layout = draw(Task(task=kind, relation=True, distractors=distractors, pairs="seen"), seed)
    (phrase,) = (phrase for phrase in RELATIONS if phrase in layout.instruction)
    meant = layout.items[layout.target]
    alike = [item for item in layout.items if item.shape == meant.shape]
    assert len(alike) >= 2 and f"the {meant.shape} {phrase}" in layout.instruction and meant.color not in layout.instruction
    sign = 1 if phrase in ("on the right", "farthest from the robot") else -1  # the front camera's right is the base's left, y > 0
    measure = [sign * (np.hypot(*item.position) if "robot" in phrase else item.position[1]) for item in alike]
    assert alike[int(np.argmax(measure))] is meant and np.diff(np.sort(measure)[-2:])[0] >= MARGIN


def test_a_table_of_one_shape_is_all_alike():
    layout = draw(Task(relation=True, distractors=3, shapes=("cube",)), 0)
    assert [item.shape for item in layout.items] == ["cube"] * 4
