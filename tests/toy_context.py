"""Contexts, a two-mode data set, and a critic with a simple taste, for the tests of the heads."""

import torch

from backbones.context import Context
from heads.critic import ChunkCritic
from heads.head import Head, Output

OUTPUT = Output(horizon=4, action_dim=3, context_dim=16, queries=2)


def context(batch: int, seed: int = 0) -> Context:
    """Random readouts, and a hidden sequence whose last two positions are padding."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(batch, 6, OUTPUT.context_dim, generator=generator)
    mask = torch.ones(batch, 6, dtype=torch.bool)
    mask[:, 4:] = False
    return Context(hidden, mask, torch.randn(batch, OUTPUT.queries, OUTPUT.context_dim, generator=generator))


def chunk(batch: int, seed: int = 0) -> torch.Tensor:
    shape = (batch, OUTPUT.horizon, OUTPUT.action_dim)
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


def all_valid(batch: int) -> torch.Tensor:
    return torch.ones(batch, OUTPUT.horizon, dtype=torch.bool)


def two_modes(batch: int) -> torch.Tensor:
    """Every chunk is 0.5 throughout or -0.5 throughout, with equal chances and whatever the context."""
    side = torch.randint(0, 2, (batch, 1, 1)).float() - 0.5
    return side.expand(batch, OUTPUT.horizon, OUTPUT.action_dim)


def fit(head: Head, steps: int, lr: float, seed: int = 0, *, seen=None, actions=None) -> float:
    """Train on one batch, or with `actions=None` on fresh two-mode chunks; returns the last loss."""
    torch.manual_seed(seed)
    seen = context(64) if seen is None else seen
    batch = len(seen.readout)
    optimizer = torch.optim.Adam(head.parameters(), lr=lr)
    for _ in range(steps):
        loss = head.loss(seen, two_modes(batch) if actions is None else actions, all_valid(batch)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    head.eval()
    return loss.item()


def gradients(head: Head, actions: torch.Tensor, valid: torch.Tensor) -> tuple[float, list[torch.Tensor]]:
    """Loss and gradients, with the same random draws every time."""
    head.zero_grad()
    torch.manual_seed(1)
    loss = head.loss(context(len(actions)), actions, valid).total
    loss.backward()
    return loss.item(), [weight.grad.clone() for weight in head.parameters() if weight.grad is not None]


def assert_invalid_steps_do_not_count(head: Head) -> None:
    """Whatever stands in the padding, even NaN, loss and gradients are the same to the bit."""
    valid = all_valid(3)
    valid[0, 2:] = valid[2] = False
    actions, other = chunk(3), chunk(3)
    other[~valid] = float("nan")
    loss, expected = gradients(head, actions, valid)
    loss_other, found = gradients(head, other, valid)
    assert loss == loss_other
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


INNER = {"kind": "diffusion", "steps": 5, "denoiser": {"kind": "mlp", "width": 16, "depth": 1, "condition": 8, "dropout": 0.0}}


class Loves(ChunkCritic):
    """A critic whose value of a prefix is the sum of its first numbers."""

    def forward(self, context: Context, actions: torch.Tensor) -> torch.Tensor:
        return actions[..., 0].cumsum(-1).expand(2, *actions.shape[:3])


def loves() -> Loves:
    return Loves(ChunkCritic.Config(width=8, heads=2), OUTPUT)
