import warnings

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env

from robot_io.tabletop.expert import Expert


def make(**options):
    return gymnasium.make("robot_io.tabletop:swapvla/Tabletop-v0", image_size=64, **options)


def test_it_passes_gymnasiums_own_check():
    env = make(render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a state has no natural bounds
        check_env(env.unwrapped)
    env.close()


def test_an_episode_ends_with_the_reward_and_draws_nothing_unasked():
    env = make(images=False)
    observation, info = env.reset(seed=3)
    expert = Expert(env.unwrapped.robot)
    assert list(observation) == ["state"] and info["instruction"].startswith("pick up the ")
    reward, terminated, truncated = 0.0, False, False
    while not (terminated or truncated):
        assert reward == 0
        observation, reward, terminated, truncated, info = env.step(expert.decide()[1])
    assert reward == 1 and terminated and not info["wrong_object"]
    assert observation["state"].dtype == np.float32 and env.unwrapped.robot._cameras is None
