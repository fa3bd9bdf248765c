"""Real-time chunking through the policy: prefixes in the robot's units."""

from collections.abc import Callable

import numpy as np
import pytest
from toy_robot import ToyRobot

from robot_io import Observation, Underway, UserError
from vla.data import Demonstrations
from vla.policy import Policy

FLOW = ("head={kind: flow, steps: 3, expert: {width: 16, depth: 1, condition: 8}}",)


def observe() -> Observation:
    robot = ToyRobot()
    robot.reset(3)
    return robot.observe()


def build(recipe) -> Policy:
    data = Demonstrations(recipe)
    return Policy.build(recipe, data.spec, data.normalizer())


@pytest.fixture(scope="module", params=["flow", "diffusion"])
def policy(request, toy_recipe: Callable) -> Policy:
    return build(toy_recipe(*(FLOW if request.param == "flow" else ("head.kind=diffusion",))))


def test_frozen_actions_come_back_in_the_robots_units_and_the_rest_is_new(policy: Policy):
    free = policy.act([observe()], seed=1)[0].actions
    given = free[:3] + 0.01
    found = policy.session().infer(observe(), Underway(given, delay=2)).actions
    assert policy.takes_prefix
    np.testing.assert_allclose(found[:2], given[:2], atol=1e-5)
    assert found.shape == free.shape and np.abs(found[2:] - free[2:]).max() > 1e-4


def test_without_a_prefix_nothing_changes(policy: Policy):
    expected = policy.act([observe()], seed=1)[0].actions
    nothing = Underway(np.zeros((0, 2), np.float32), delay=0)
    assert np.array_equal(policy.act([observe()], seed=1, prefixes=[nothing])[0].actions, expected)


def test_robots_in_the_middle_of_different_chunks_are_answered_together_as_each_alone(policy: Policy):
    running = policy.act([observe()], seed=1)[0].actions + 0.05
    prefixes = [Underway(running[:3], delay=2), Underway(running[1:3], delay=0), Underway(running[:0], delay=0)]

    def sessions() -> list:
        found = [policy.session() for _ in prefixes]
        for seed, session in enumerate(found):
            session.reset(seed)
        return found

    alone = [session.infer(observe(), prefix) for session, prefix in zip(sessions(), prefixes, strict=True)]
    together = policy.infer_together(sessions(), [observe()] * 3, prefixes)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.actions, other.actions, atol=1e-5)
    np.testing.assert_allclose(together[0].actions[:2], running[:2], atol=1e-5)


def test_what_cannot_be_followed_is_refused(policy: Policy, toy_recipe: Callable):
    fine = Underway(np.zeros((2, 2), np.float32), delay=1)
    with pytest.raises(UserError, match="one for each"):
        policy.act([observe(), observe()], prefixes=[fine])
    with pytest.raises(UserError, match=r"\[P, 2\]"):
        policy.act([observe()], prefixes=[Underway(np.zeros((2, 5), np.float32), delay=0)])
    tokens = build(toy_recipe())
    assert not tokens.takes_prefix
    with pytest.raises(UserError, match="prefix"):
        tokens.infer(observe(), fine)


def test_parts_that_do_not_go_together_are_refused_before_anything_is_built(toy_recipe: Callable):
    recipe = toy_recipe("head={kind: vocabulary}")
    data = Demonstrations(recipe)
    with pytest.raises(UserError, match="head 'vocabulary' on backbone 'tiny'"):
        Policy.build(recipe, data.spec, data.normalizer())
