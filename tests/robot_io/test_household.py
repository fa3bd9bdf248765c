"""The household: the grammar, preconditions, an expert that always gets there and never fails, and pictures that show what is said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_io import UserError
from robot_io.household.catalogue import CONTAINERS, FURNITURE, LAYOUTS, ROOMS, SURFACES, THINGS
from robot_io.household.describe import describe
from robot_io.household.expert import Expert
from robot_io.household.render import FURNITURE as DRAWN
from robot_io.household.render import SLOTS, render
from robot_io.household.skills import Skill, all_skills, parse
from robot_io.household.world import LIMIT, World

scenes = st.tuples(st.integers(0, len(LAYOUTS) - 1), st.integers(0, 100_000))


def walk_through(world, chooser):
    """Random skills of the grammar, executable or not."""
    rng = np.random.default_rng(chooser)
    for skill in rng.choice(np.array(all_skills(), object), 25):
        yield skill if isinstance(skill, Skill) else Skill(*skill)


@settings(max_examples=60)
@given(scenes)
def test_the_expert_reaches_every_goal_and_never_fails(scene):
    world = World(*scene)
    expert = Expert(world)
    assert not world.reached
    while not world.done:
        assert world.act(expert.decide()) == ""
        expert.watch()
    assert world.reached and world.steps < LIMIT


@settings(max_examples=30)
@given(scenes, st.integers(0, 1000))
def test_whatever_is_tried_nothing_is_lost_and_what_cannot_be_done_changes_nothing(scene, chooser):
    world = World(*scene)
    things = {*world.places}
    for skill in walk_through(world, chooser):
        before, seen = describe(world.sight()), dict(world.places)
        if world.act(skill):
            assert describe(world.sight()) == before and world.places == seen
        assert {*world.places} | ({world.holding} - {""}) == things
        assert not world.near or world.where[world.near] == world.room


def test_the_same_seed_is_the_same_house():
    one, same, other = World(3, 5), World(3, 5), World(3, 6)
    assert vars(one) == vars(same) and (one.places, one.goal) != (other.places, other.goal)
    with pytest.raises(UserError, match="household layout 7"):
        World(7, 0)


def test_preconditions_say_what_is_in_the_way():
    world = World(0, 1)
    world.room, world.near, world.open, world.on, world.holding = "kitchen", "fridge", set(), set(), ""
    world.places = {"apple": "fridge", "cup": "counter"}
    assert world.act(parse("[grab] <apple>")) == "the apple is not within reach", "it is behind a closed door"
    assert world.act(parse("[open] <fridge>")) == "" and world.act(parse("[grab] <apple>")) == ""
    assert world.act(parse("[grab] <cup>")) == "the hand holds the apple"
    assert world.act(parse("[putin] <apple> <microwave>")) == "the microwave is not within reach"
    assert world.act(parse("[walk] <microwave>")) == "" and world.act(parse("[putin] <apple> <microwave>")) == "the microwave is closed"
    world.act(parse("[open] <microwave>"))
    assert world.act(parse("[switchon] <microwave>")) == "the microwave is open"
    assert world.act(parse("[walk] <bed>")) == "there is no bed here"
    assert world.sight().contents["fridge"] == () and "fridge open" in describe(world.sight())


@pytest.mark.parametrize(("text", "found"), [
    ("walk to the kitchen", "not of the form"), ("[gorge] <apple>", "no skill"), ("[grab] <fridge>", "cannot be done to 'fridge'"),
    ("[putin] <apple>", "1 things"),
])
def test_what_is_no_sentence_of_the_grammar_is_refused(text, found):
    with pytest.raises(UserError, match=found):
        parse(text)


def test_every_sentence_is_read_as_it_was_written():
    assert all(parse(str(skill)) == skill for skill in all_skills())
    assert len({str(skill) for skill in all_skills()}) == len(all_skills())


def test_layouts_hold_every_piece_once_and_a_place_to_put_things():
    for layout in LAYOUTS:
        pieces = [piece for room in layout.values() for piece in room]
        assert len(pieces) == len(set(pieces)) and set(pieces) <= set(FURNITURE) and set(layout) <= set(ROOMS)
        for room in layout.values():
            assert len(room) <= len(SLOTS) and set(room) & set(SURFACES)
    assert set(DRAWN) == set(FURNITURE) and all(set(rooms) <= set(ROOMS) for rooms in THINGS.values())


@settings(max_examples=10)
@given(scenes)
def test_a_picture_shows_what_is_open_on_held_and_near(scene):
    world = World(*scene)
    world.open, world.on, world.holding = set(), set(), ""
    plain = render(world.sight(), world.number)
    assert plain.shape == (128, 128, 3) and np.array_equal(plain, render(world.sight(), world.number))
    piece = world.layout[world.room][0]
    changes = [("near", piece), ("holding", "book")]
    changes += [("open", {piece})] if piece in CONTAINERS else []
    for name, value in changes:
        before = getattr(world, name)
        setattr(world, name, value)
        assert (np.abs(render(world.sight(), world.number).astype(int) - plain).max(-1) > 20).sum() > 20, name
        setattr(world, name, before)
