"""The README's picture shows the trial that the policy really had."""

import numpy as np
from PIL import Image

from robot_io.tabletop.robot import TabletopRobot
from vla.normalize import Normalizer
from vla.policy import Policy
from vla.poster import GAP, MOMENTS, SIZE, poster
from vla.recipe import load_recipe


def test_a_twin_with_larger_pictures_repeats_the_trial(tmp_path):
    recipe = load_recipe("toy", ["robot={kind: tabletop, max_steps: 6}"])
    robot = TabletopRobot()
    rng = np.random.default_rng(0)
    actions, state = rng.uniform(-0.02, 0.02, (50, 7)).astype(np.float32), rng.normal(size=(50, 16)).astype(np.float32)
    Policy.build(recipe, robot.spec, Normalizer.measure(robot.spec, actions, state)).save(tmp_path / "policy")
    picture = tmp_path / "picture.png"
    assert poster(str(tmp_path / "policy"), 3, picture) is False  # six steps lift nothing
    strip = np.asarray(Image.open(picture))
    assert strip.shape == (SIZE + GAP + (SIZE - GAP) // 2, MOMENTS * (SIZE + GAP), 3)
    first, last = strip[:SIZE, :SIZE], strip[:SIZE, -SIZE - GAP : -GAP]
    assert first.std() > 10 and np.abs(first.astype(int) - last).max() > 30, "the arm must be seen to move"
