"""Spatial relations between candidates."""

import numpy as np
import pytest

from perception.grounding import SELECTORS
from perception.stages import Detections

PICTURE = np.zeros((100, 100, 3), np.uint8)


def at(*centres, scores=None, phrase=None, positions=None) -> Detections:
    """Boxes of 10 pixels around (x, y)."""
    boxes = np.array([[x - 5, y - 5, x + 5, y + 5] for x, y in centres], np.float32)
    count = len(boxes)
    return Detections(boxes, np.array(scores or [0.9] * count, np.float32), np.array(phrase or [0] * count),
                      None, None if positions is None else np.array(positions, np.float32))


def select(instruction, candidates, phrases=("cube",), references=None):
    selector = SELECTORS.load("relation")(SELECTORS.configure({"kind": "relation"}))
    return selector.select(PICTURE, candidates, phrases, instruction, references or [None] * len(phrases))


@pytest.mark.parametrize(("words", "expected"), [
    ("on the left", 0), ("in the middle", 1), ("on the right", 2), ("nearest to the camera", 2), ("at the back", 1),
])
def test_extremes_are_judged_in_the_picture(words, expected):
    assert select(f"pick up the cube {words}", at((10, 50), (50, 20), (90, 80))) == [expected]


def test_an_unsure_candidate_is_no_rival():
    assert select("pick up the cube on the left", at((10, 50), (50, 50), scores=[0.3, 0.9])) == [1]


@pytest.mark.parametrize(("words", "expected"), [
    ("to the left of the bowl", 0), ("behind the bowl", 2), ("in front of the bowl", None), ("next to the bowl", 2),
])
def test_landmarks(words, expected):
    candidates = at((10, 50), (95, 40), (52, 30), (50, 50), phrase=[0, 0, 0, 1])
    assert select(f"take the cube {words}", candidates, ("cube", "bowl"))[0] == expected


def test_without_its_landmark_nothing_is_chosen():
    assert select("take the cube behind the bowl", at((10, 50), (90, 50)), ("cube", "bowl")) == [None, None]


def test_the_robot_is_where_its_base_is():
    candidates = at((10, 10), (50, 90), (90, 50), phrase=[0, 0, 1], positions=[[0.5, 0.1, 0], [0.3, 0, 0], [0.5, 0, 0.2]])
    assert select("take the cube nearest to the robot", candidates, ("cube", "robot"))[0] == 1
    assert select("take the cube farthest from the robot", candidates, ("cube", "robot"))[0] == 0


def test_without_depth_the_robot_is_where_its_arm_enters_the_picture():
    masks = np.zeros((3, 100, 100), bool)
    masks[2, :70, 40:60] = True  # from the top, down to beside the lower cube
    candidates = at((50, 15), (50, 80), (50, 35), phrase=[0, 0, 1]).with_masks(masks)
    assert select("take the cube nearest to the robot", candidates, ("cube", "robot"))[0] == 0


def test_in_another_view_the_thing_is_found_by_its_looks():
    picture = PICTURE.copy()
    picture[45:55, 5:15], picture[45:55, 85:95] = (200, 30, 30), (30, 30, 200)
    reference = np.full((8, 8, 3), (40, 45, 180), np.uint8)
    selector = SELECTORS.load("relation")(SELECTORS.configure({"kind": "relation"}))
    assert selector.select(picture, at((10, 50), (90, 50)), ("cube",), "pick up the cube on the left", [reference]) == [1]


def test_no_relation_is_left_to_the_other_selector():
    assert select("pick up the cube", at((10, 50), (50, 50), scores=[0.5, 0.9])) == [1]
