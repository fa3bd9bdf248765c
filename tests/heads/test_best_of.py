"""Best of N: what is drawn by one head is chosen by a critic."""

from __future__ import annotations

import torch
from toy_context import INNER, OUTPUT, all_valid, chunk, context, loves

from heads.best_of import BestOf, by_critic
from heads.critic import ChunkCritic
from robot_io.registry import ComponentConfig


def test_a_prefix_may_decide_and_the_most_sceptical_member_does():
    drawn = torch.stack([chunk(3, seed) for seed in range(6)], 1)
    for read in (None, 1, 2):
        torch.testing.assert_close(by_critic(loves(), read)(context(3), drawn), drawn[:, :, :read, 0].sum(-1))
    split = ChunkCritic(ChunkCritic.Config(width=8, heads=2), OUTPUT)
    torch.nn.init.constant_(split.members[1].value.bias, -0.5)
    torch.testing.assert_close(by_critic(split)(context(3), drawn), torch.full((3, 6), -0.5))


def test_it_is_a_head_that_does_what_its_inner_head_may_do():
    torch.manual_seed(0)
    head = BestOf(BestOf.Config(head=INNER, critic=ChunkCritic.Config(width=8, heads=2), draws=16), OUTPUT, critic=loves()).eval()
    torch.nn.init.normal_(head.head.denoiser.predict.weight, std=0.3)
    with torch.no_grad():
        chosen, plain = head.sample(context(5), n=3), head.head.sample(context(5), n=48)
    assert chosen.shape == (5, 3, OUTPUT.horizon, OUTPUT.action_dim)
    assert chosen[..., 0].sum(-1).mean() > plain[..., 0].sum(-1).mean()
    torch.manual_seed(3)
    ours = head.loss(context(2), chunk(2), all_valid(2)).total
    torch.manual_seed(3)
    assert ours == head.head.loss(context(2), chunk(2), all_valid(2)).total


def test_its_configuration_survives_being_written():
    config = BestOf.Config(head=INNER, draws=4, read=2)
    again = BestOf.Config.model_validate(config.model_dump(mode="json"))
    assert again == config and isinstance(again.head, ComponentConfig) and again.head.steps == 5
