"""Each algorithm finds out what is good: on episodes of one chunk that succeed when its first numbers are large."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from toy_context import OUTPUT

from backbones.context import Context
from heads.critic import ChunkCritic
from heads.critic_outputs import HLGauss
from heads.diffusion import Diffusion
from heads.head import Head
from heads.regression import FCDecoder, Regression
from vla.rl import ALGORITHMS
from vla.rl.algorithm import Algorithm, draws, follower, follows_gradients, move, values_fixed
from vla.rl.data import Transitions
from vla.rl.iql import expectile_loss
from vla.rl.loop import Trainer
from vla.rl.recipe import Optim
from vla.rl.returns import monte_carlo, prefix_returns

EPISODES, STEPS = 48, OUTPUT.horizon


def data(good: float = 0.0) -> tuple[Transitions, Context]:
    """Episodes of random chunks; those succeed whose first numbers are above `good` on average."""
    random = np.random.default_rng(0)
    chunks = random.uniform(-1, 1, (EPISODES, 1, OUTPUT.action_dim)).repeat(STEPS, 1).astype(np.float32)
    won = chunks[:, 0, 0] > good
    reward = np.zeros((EPISODES, STEPS), np.float32)
    reward[:, -1] = won
    ends = np.repeat(np.arange(STEPS, EPISODES * STEPS + 1, STEPS), STEPS)
    found = prefix_returns(reward.ravel(), ends, STEPS, 0.9)
    frames = np.arange(EPISODES * STEPS)
    windows = chunks.reshape(-1, OUTPUT.action_dim)[np.minimum(frames[:, None] + np.arange(STEPS), ends[:, None] - 1)]
    columns = {name: torch.from_numpy(getattr(found, name)) for name in ("earned", "discount", "next")}
    transitions = Transitions(
        actions=torch.from_numpy(windows), inside=torch.from_numpy(found.valid), valid=torch.ones(windows.shape[:2], dtype=torch.bool), mc=torch.from_numpy(monte_carlo(reward.ravel(), ends, 0.9)),
        success=torch.from_numpy(won.repeat(STEPS)), source=torch.zeros(len(frames), dtype=torch.long), episode=torch.from_numpy(frames // STEPS),
        training=torch.from_numpy(frames), validation=torch.arange(0), weight=np.ones(len(frames)), sources=("chunks",), **columns)
    readout = torch.linspace(-1, 1, OUTPUT.context_dim).repeat(len(frames), OUTPUT.queries, 1)
    readout[..., 0] += torch.from_numpy(frames % STEPS)[:, None]  # all that a state tells is how far the episode is
    return transitions, Context(readout, torch.ones(readout.shape[:2], dtype=torch.bool), readout)


def regression() -> Head:
    torch.manual_seed(0)
    return Regression(Regression.Config(error="mse", trunk=FCDecoder.Config(width=32)), OUTPUT)


def diffusion() -> Head:
    torch.manual_seed(0)
    head = Diffusion(Diffusion.Config(steps=2, denoiser={"kind": "mlp", "width": 32, "depth": 1, "condition": 8, "dropout": 0.0}), OUTPUT)
    torch.nn.init.normal_(head.denoiser.predict.weight, std=0.3)
    return head


def trained(kind: str, head: Head, steps: int, **config: Any) -> tuple[Algorithm, Context]:
    torch.manual_seed(1)
    critic = ChunkCritic(ChunkCritic.Config(width=16, layers=1, heads=2, members=1, output=HLGauss.Config()), OUTPUT)
    algorithm = ALGORITHMS.load(kind)
    made = algorithm(algorithm.Config(**config), head, critic, STEPS, OUTPUT)
    transitions, contexts = data()
    trainer = Trainer(made, contexts, transitions, Optim(
        steps=steps, batch_size=48, critic_learning_rate=1e-2, actor_learning_rate=1e-2, tau=0.1, refresh=20))
    for step in range(steps):
        trainer.advance(step)
    trainer.learner.eval()
    starts = torch.arange(0, EPISODES * STEPS, STEPS)
    return made, Context(contexts.hidden[starts], contexts.mask[starts], contexts.readout[starts])


@torch.no_grad()
def first_number(algorithm: Algorithm, starts: Context) -> float:
    torch.manual_seed(0)
    return float(algorithm.act(starts, starts)[..., 0].mean())


@pytest.mark.parametrize(("kind", "options"), [
    ("co_rft", {"bc_weight": 0.02, "actor_after": 30, "actor_every": 1}), ("cal_ql", {"bc_weight": 0.02, "actor_after": 30, "conservative": 0.1})])
def test_a_deterministic_policy_climbs(kind: str, options: dict[str, Any]):
    assert first_number(*trained(kind, regression(), 80, **options)) > 0.6, "imitating successes would give 0.5"


def test_the_best_of_many_is_better_than_what_is_drawn():
    algorithm, starts = trained("q_chunking", diffusion(), 80, draws=16)
    torch.manual_seed(0)
    with torch.no_grad():
        drawn = float(algorithm.head.sample(starts, n=16)[..., 0].mean())
    assert first_number(algorithm, starts) > drawn + 0.2


def test_edits_leave_what_is_drawn_towards_higher_values_but_no_further_than_their_size():
    algorithm, starts = trained("edits", diffusion(), 80, draws=8, size=0.3, actor_after=40)
    with torch.no_grad():
        torch.manual_seed(0)
        drawn = algorithm.head.sample(starts, n=1)
        moved = algorithm.editor.edited(starts, drawn) - drawn
    assert moved[..., 0].mean() > 0.1 and moved.abs().max() <= 0.3 + 1e-6


def test_a_distilled_policy_goes_where_values_are_high_but_not_far_from_its_teacher():
    free, near = (trained("q_chunking", diffusion(), 90, extract="distil", distil_weight=weight, actor_after=40) for weight in (0.1, 1000.0))
    teacher = float(free[0].teacher.sample(free[1], n=8)[..., 0].mean())
    assert first_number(*free) > teacher + 0.2
    assert abs(first_number(*near) - teacher) < 0.15


def test_weighted_regression_prefers_what_succeeded_and_without_weights_does_not():
    weighted, plain = (trained("iql", regression(), 100, beta=beta, actor_after=30, expectile=0.5) for beta in (20.0, 0.0))
    assert first_number(*weighted) > 0.3
    assert abs(first_number(*plain)) < 0.2, "imitating everything gives 0"


def test_imitating_successes_alone_is_the_control():
    assert first_number(*trained("iql", regression(), 60, beta=0.0, successes_only=True, actor_after=0)) == pytest.approx(0.5, abs=0.2)


def test_an_expectile_is_between_mean_and_maximum():
    numbers, found = torch.tensor([0.0, 0.0, 0.0, 1.0]), {}
    for expectile in (0.5, 0.9):
        centre = torch.zeros(1, requires_grad=True)
        optimizer = torch.optim.SGD([centre], lr=0.3)
        for _ in range(300):
            loss = expectile_loss(numbers - centre, expectile)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found[expectile] = float(centre.detach())
    assert found == pytest.approx({0.5: 0.25, 0.9: 0.75}, abs=1e-3)


def test_followers_follow_and_are_not_trained():
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3))
    slow = follower(network)
    assert not list(slow.parameters()) and slow.state_dict().keys() == network.state_dict().keys()
    with torch.no_grad():
        network[0].bias.add_(1.0)
    before = slow[0].bias.clone()
    move(slow, network, 0.25)
    torch.testing.assert_close(slow[0].bias, before + 0.25)


def test_heads_are_told_apart_by_what_they_do():
    _, contexts = data()
    assert (follows_gradients(regression(), contexts), draws(regression(), contexts)) == (True, False)
    assert (follows_gradients(diffusion(), contexts), draws(diffusion(), contexts)) == (False, True)


def test_an_actor_s_gradient_does_not_reach_the_critic():
    critic = ChunkCritic(ChunkCritic.Config(width=16, layers=1, heads=2), OUTPUT)
    torch.nn.init.normal_(critic.members[0].value.weight)
    _, contexts = data()
    chunk = torch.zeros(len(contexts.mask), 1, STEPS, OUTPUT.action_dim, requires_grad=True)
    values_fixed(critic, contexts, chunk)[0].sum().backward()
    assert chunk.grad.abs().sum() > 0 and all(parameter.grad is None for parameter in critic.parameters())
