"""`robot_io.registry`: components by name or by address, and a mistake in either is one clear error."""

import pytest

from robot_io import ROBOTS, UserError
from robot_io.registry import load_address


def test_a_class_of_ones_own_is_as_good_as_a_registered_one():
    config = ROBOTS.configure({"kind": "toy_robot:ToyRobot", "limit": 7})
    assert ROBOTS.load(config.kind)(config).config.limit == 7


@pytest.mark.parametrize("address, message", [
    ("toy_robot:ToyRobt", "module 'toy_robot' has no 'ToyRobt'"), ("no_such.module:X", "there is no module 'no_such'"),
])
def test_a_wrong_address_says_which_half_is_wrong(address, message):
    with pytest.raises(UserError, match=message):
        load_address(address)


def test_an_unknown_kind_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'tabletop'"):
        ROBOTS.load("tabeltop")
