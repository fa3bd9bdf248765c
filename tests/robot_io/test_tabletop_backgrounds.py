import colorsys

import numpy as np
import pytest

from robot_io.tabletop import backgrounds, textures
from robot_io.tabletop.robot import TabletopRobot


def looks(robot, seeds):
    """For each seed: textures of the covered surfaces, their hues, the lamp's brightness."""
    model = robot.model
    for seed in seeds:
        robot.reset(seed)
        covers = [model.geom(name) for name in (backgrounds.BOARD, backgrounds.FLOOR, backgrounds.WALL)]
        names = [model.material(int(geom.matid[0])).name.partition("/")[0] for geom in covers]
        hues = [colorsys.rgb_to_hsv(*map(float, geom.rgba[:3]))[0] for geom in covers]
        yield names, hues, float(model.light_diffuse.mean() / 0.55)


def test_a_test_shows_nothing_that_training_shows():
    found = {}
    for split in ("train", "test"):
        robot = TabletopRobot(background="all", background_split=split)
        names, hues, lamps = zip(*looks(robot, range(40)), strict=True)
        found[split] = {name for row in names for name in row}, {int(hue * backgrounds.HUES) for row in hues for hue in row}, lamps
    (train, train_hues, train_lamps), (test, test_hues, test_lamps) = found["train"], found["test"]
    assert train == textures.TRAIN.keys() and test == textures.TEST.keys()
    assert not train_hues & test_hues
    assert min(train_lamps) > 0.7 and max(train_lamps) < 1.32
    assert not any(0.85 < lamp < 1.1 for lamp in test_lamps)


@pytest.mark.parametrize("kind", ["table", "backdrop", "lighting", "all"])
def test_a_background_changes_the_picture_and_nothing_else(kind):
    plain, other = TabletopRobot(image_size=64), TabletopRobot(image_size=64, background=kind)
    for robot in (plain, other):
        robot.reset(5)
    assert plain.layout == other.layout
    np.testing.assert_array_equal(plain.state(), other.state())
    for camera, mask in plain.masks().items():
        np.testing.assert_array_equal(mask, other.masks()[camera])
    before, after = plain.observe().cameras["front"], other.observe().cameras["front"]
    background = plain.masks()["front"] == 0
    changed = np.abs(before.rgb.astype(int) - after.rgb)[background].max(-1) > 10
    assert changed.mean() > {"table": 0.8, "backdrop": 0.1, "lighting": 0.8, "all": 0.8}[kind]
    if kind in ("table", "lighting"):
        np.testing.assert_array_equal(before.depth, after.depth)
    first = after.rgb
    other.reset(6)
    assert np.abs(other.observe().cameras["front"].rgb.astype(int) - first).mean() > 5
    other.reset(5)
    np.testing.assert_array_equal(other.observe().cameras["front"].rgb, first)
    for robot in (plain, other):
        robot.act(np.array([0.01, 0, -0.01, 0, 0, 0, 1.0]))
    np.testing.assert_array_equal(plain.state(), other.state())
    plain.close()
    other.close()
