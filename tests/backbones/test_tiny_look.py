"""`tiny`'s shortcut to the pictures: no keys and values of theirs are made, and nothing else changes."""

import pytest
import torch

from backbones.tiny.model import Attention, Look


def look(dim: int = 32, heads: int = 4) -> Look:
    torch.manual_seed(0)
    return Look(dim, heads)


@pytest.mark.parametrize("length", [1, 8, 9])  # nine are too many for the shortcut
def test_it_is_the_attention_it_stands_for_in_value_and_gradient(length: int):
    ours, memory = look(), torch.randn(3, 70, 32, requires_grad=True)
    x, weight = torch.randn(3, length, 32, requires_grad=True), torch.randn(3, length, 32)
    inputs = [x, memory, *(linear.weight for linear in (ours.q, ours.k, ours.v, ours.o)), ours.v.bias]
    one, other = ours(x, memory), Attention.forward(ours, x, memory)
    torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    for got, expected in zip(*(torch.autograd.grad(y, inputs, weight) for y in (one, other)), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_an_adapted_layer_is_asked_itself():
    class Adapted(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) + 1

    ours, x, memory = look(), torch.randn(2, 3, 32), torch.randn(2, 70, 32)
    plain = ours(x, memory)
    ours.v = Adapted(32, 32)
    ours.v.load_state_dict(look().v.state_dict())
    torch.testing.assert_close(ours(x, memory), plain + ours.o.weight.sum(1), atol=1e-5, rtol=1e-4)
