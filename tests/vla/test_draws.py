"""Robots computed together: each draws what it would have drawn alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from toy_robot import ToyRobot

from vla.data import Demonstrations
from vla.draws import own_generators
from vla.policy import Policy

SEEDS = (3, 2**62, 5)
DRAWS = {
    "randn": lambda b: torch.randn(b * 2, 4, 3),
    "randn with a tuple": lambda b: torch.randn((b, 1, 7), dtype=torch.float64),
    "rand by keyword": lambda b: torch.rand(size=(b, 5)),
    "randn_like": lambda b: torch.randn_like(torch.empty(b, 2, 2)),
    "multinomial": lambda b: torch.linspace(1, 9, 9).expand(b * 4, 9).multinomial(3, replacement=True),
    "twice": lambda b: torch.randn(b, 20) * torch.randn(b, 20),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_batch_draws_what_its_samples_draw_alone(draw: Callable[[int], torch.Tensor]) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with own_generators(SEEDS, torch.device("cpu")):
        together = draw(len(SEEDS))
    assert torch.equal(before, torch.get_rng_state())
    alone = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        alone.append(draw(1))
    assert torch.equal(together, torch.cat(alone))


def test_what_cannot_be_shared_out_is_refused_and_own_generators_are_left_alone() -> None:
    with own_generators(SEEDS, torch.device("cpu")):
        for draw in (lambda: torch.randn(4, 2), lambda: torch.randint(9, (3,)), lambda: torch.empty(3).normal_()):
            with pytest.raises(NotImplementedError):
                draw()
        assert torch.randn(4, generator=torch.Generator().manual_seed(1)).shape == (4,)


@pytest.mark.parametrize("head", ["head.kind=diffusion", "head.kind=diffusion head.sampler=ddpm", "head.kind=tokens head.temperature=1"])
def test_robots_inferred_together_act_as_each_alone(toy_recipe: Callable, head: str) -> None:
    recipe = toy_recipe(*head.split())
    data, robot = Demonstrations(recipe), ToyRobot()
    policy = Policy.build(recipe, data.spec, data.normalizer())
    with torch.no_grad():  # a new head's last layer is zero
        for parameter in policy.head.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    observations = []
    for seed in range(3):
        robot.reset(seed)
        observations.append(robot.observe())

    def sessions() -> list:
        found = [policy.session() for _ in observations]
        for number, session in enumerate(found):
            session.reset(10 + number)
        found[1].infer(observations[1])  # one of them is further on in its episode
        return found

    alone = [session.infer(observation) for session, observation in zip(sessions(), observations, strict=True)]
    together = policy.infer_together(sessions(), observations)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.actions, other.actions, atol=1e-5)
        assert one.time == other.time
    assert not np.allclose(together[0].actions, together[2].actions)
