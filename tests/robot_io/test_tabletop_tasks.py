import pytest

from robot_io.tabletop.objects import HELD_OUT
from robot_io.tabletop.tasks import Task


def test_known_pairs_leave_out_what_is_held_out():
    everything, seen = Task().known_pairs, Task(pairs="seen").known_pairs
    assert len(everything) == 18 and len(seen) == 15  # a red cross takes a shape that is not asked for
    assert set(everything) - set(seen) == set(HELD_OUT) - {("red", "cross")}


@pytest.mark.parametrize(("options", "message"), [
    ({"colors": ("red", "blu")}, "did you mean 'blue'"),
    ({"shapes": ("cubes",)}, "did you mean 'cube'"),
    ({"colors": ("red",), "shapes": ("cube",)}, "more colors or shapes"),
    ({"task": "place", "bowls": 0}, "leave bowls out"),
    ({"pairs": "held_out", "colors": ("red", "blue")}, "green ball or purple cube"),
    ({"colors": ("green", "red"), "shapes": ("ball",), "pairs": "seen"}, "make 1 pairs with pairs='seen'"),
    ({"colors": ("red", "blue"), "shapes": ("cube",), "absent": True}, "more colors or shapes"),
    ({"relation": True, "distractors": 0}, "objects of one shape to choose between"),
    ({"relation": True, "absent": True}, "absent=false"),
    ({"relation": True, "colors": ("red",)}, "leave no shape in two colors"),
])
def test_impossible_tasks_say_what_to_change(options, message):
    with pytest.raises(ValueError, match=message):
        Task(**options)
