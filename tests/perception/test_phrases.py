"""Instruction → phrases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception.phrases import Goal, Relation, parse
from robot_io.tabletop.layout import RELATIONS
from robot_io.tabletop.objects import COLORS, NAMED
from robot_io.tabletop.scene import BOWL_COLORS
from robot_io.tabletop.tasks import PICK, PLACE

things = st.builds("{} {}".format, st.sampled_from(sorted(COLORS)), st.sampled_from(sorted(NAMED)))
bowls = st.sampled_from(["bowl", *(f"{color} bowl" for color in BOWL_COLORS)])
manners = st.sampled_from(["{}", "Please {}.", "{}, please", "Can you {}?", "now {}!"])


@given(st.sampled_from(PICK), things, manners)
def test_every_way_to_ask_for_a_pick_names_its_target(template, thing, manner):
    assert parse(manner.format(template.format(object=thing))) == Goal(thing)


@given(st.sampled_from(PLACE), things, bowls, manners)
def test_every_way_to_ask_for_a_place_names_target_and_container(template, thing, bowl, manner):
    assert parse(manner.format(template.format(object=thing, bowl=bowl))) == Goal(thing, bowl)


@given(st.sampled_from((*PICK, *PLACE)), st.sampled_from(sorted(NAMED)), st.sampled_from(list(RELATIONS)), bowls)
def test_every_relation_of_the_benchmark_is_taken_off_the_phrase(template, shape, relation, bowl):
    goal = parse(template.format(object=f"{shape} {relation}", bowl=bowl))
    expected = {"on the left": Relation("left"), "on the right": Relation("right"), "nearest to the robot": Relation("next to", "robot"),
                "farthest from the robot": Relation("farthest", "robot")}[relation]
    assert goal == Goal(shape, bowl if "{bowl}" in template else "", relation=expected)


@pytest.mark.parametrize(("instruction", "goal"), [
    ("put the coffee bag in the grey bin", Goal("coffee bag", "grey bin")),
    ("pick up the red cube and put it in the bowl", Goal("red cube", "bowl")),
    ("pick up the object on the left", Goal("object", relation=Relation("left"))),
    ("grasp the rightmost one", Goal("object", relation=Relation("right"))),
    ("take the cube in the middle", Goal("cube", relation=Relation("middle"))),
    ("move the left cube to the bowl", Goal("cube", "bowl", relation=Relation("left"))),
    ("lift the closest ball", Goal("ball", relation=Relation("nearest"))),
    ("pick up the cup behind the bowl", Goal("cup", relation=Relation("behind", "bowl"))),
    ("put the cup in front of the red cube into the bowl", Goal("cup", "bowl", relation=Relation("in front of", "red cube"))),
    ("pick up the ball next to the cup", Goal("ball", relation=Relation("next to", "cup"))),
    ("pick up the red cube, not the blue one", Goal("red cube", excluded=("blue object",))),
    ("take the mug without touching the plate or the bowl", Goal("mug", excluded=("plate", "bowl"))),
    ("take the apple out of the bowl", Goal("apple")),
    ("put cube in bowl", Goal("cube", "bowl")),
    ("polish the small brass lamp", Goal("small brass lamp")),
    ("open drawer", Goal("open drawer")),
    ("", Goal("")),
])
def test_sentences(instruction, goal):
    assert parse(instruction) == goal


@given(st.text(max_size=80))
def test_any_text_is_parsed(text):
    assert isinstance(parse(text).target, str)


@given(st.lists(st.sampled_from(["put", "pick", "take", "the", "a", "red", "cube", "on", "left", "in", "front", "of", "not", "it", "one", "behind", "nearest", "to", "bowl", "and"]), max_size=12))
def test_no_word_is_invented(words):
    goal = parse(" ".join(words))
    assert set(f"{goal.target} {goal.container} {' '.join(goal.excluded)}".split()) <= {*words, "object"}
