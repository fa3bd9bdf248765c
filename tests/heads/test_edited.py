"""Edited draws: a small step from what the inner head would do, chosen by the critic."""

from __future__ import annotations

import torch
from toy_context import INNER, OUTPUT, context, loves

from heads.best_of import BestOf
from heads.critic import ChunkCritic
from heads.edited import Edited
from robot_io.registry import ComponentConfig

OPTIONS = {"head": INNER, "critic": ChunkCritic.Config(width=8, heads=2), "draws": 8}


def edited(size: float = 0.2) -> Edited:
    torch.manual_seed(0)
    head = Edited(Edited.Config(**OPTIONS, size=size, width=16), OUTPUT, critic=loves()).eval()
    torch.nn.init.normal_(head.head.denoiser.predict.weight, std=0.3)
    return head


def sampled(head: BestOf, n: int = 2) -> torch.Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        return head.sample(context(5), n=n)


def test_an_editor_that_moves_nothing_leaves_the_best_of_n():
    head = edited()
    plain = BestOf(BestOf.Config(**OPTIONS), OUTPUT, head.head, head.critic)
    assert sampled(head).shape == (5, 2, OUTPUT.horizon, OUTPUT.action_dim)
    torch.testing.assert_close(sampled(head), sampled(plain))


def test_edits_go_where_the_critic_says_and_no_further_than_their_size():
    head = edited()
    plain = sampled(BestOf(BestOf.Config(**OPTIONS), OUTPUT, head.head, head.critic))
    with torch.no_grad():
        head.editor.move[-1].bias.fill_(9.0)  # as far up as it goes
    found = sampled(head)
    torch.testing.assert_close(found, (plain + 0.2).clamp(max=1), atol=1e-4, rtol=0)
    with torch.no_grad():
        head.editor.move[-1].bias.fill_(-9.0)
    torch.testing.assert_close(sampled(head), plain)  # what the critic likes less is not done


def test_its_configuration_survives_being_written():
    config = Edited.Config(**OPTIONS, size=0.1)
    again = Edited.Config.model_validate(config.model_dump(mode="json"))
    assert again == config and isinstance(again.head, ComponentConfig) and again.head.steps == 5
