"""Best of N with any scorer: a head draws N chunks, a function of context and chunks says which to carry out.

Wraps the head of a trained policy; nothing is trained, nothing is saved. A scorer is any callable: a critic's value, a simulator, a
rule about collisions. Two that need nothing else are here: `agreement`, the draw that the others are nearest to (self-consistency:
it stands in the larger mode, never between two), and `smoothness`. To train a critic and keep it in the policy: `vla.rl`.

Shapes: B samples, n draws asked for, N drawn to choose from, T = horizon, A action dimensions. Out: `[B,n,T,A]`, normalised.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from backbones.context import Context
from heads.head import Guide, Head, Loss, Prefix
from robot_io import UserError

Scorer = Callable[[Context, Float[Tensor, "b n t a"]], Float[Tensor, "b n"]]
"""The higher, the better. Actions are normalised."""


class Chooser(Head):
    """`head`, but of `draws` chunks the one that `scorer` likes best. For n chunks, each is chosen among draws of its own."""

    def __init__(self, head: Head, scorer: Scorer, draws: int) -> None:
        super().__init__()
        if draws < 1:
            raise UserError("best of N", f"N = {draws}", "at least 1", "draw more")
        self.head, self.scorer, self.draws = head, scorer, draws
        self.supports = head.supports - {"noise"}

    def save_assets(self, folder: Path) -> None:
        raise UserError("saving this policy", "its head was wrapped to choose among draws", "the head itself",
                        "save the policy as it was; wrap it after loading")

    def loss(self, context: Context, actions: Float[Tensor, "b t a"], valid: Bool[Tensor, "b t"]) -> Loss:
        return self.head.loss(context, actions, valid)

    def sample(self, context: Context, *, n: int = 1, noise: Tensor | None = None, guide: Guide | None = None,
               condition: Tensor | None = None, prefix: Prefix | None = None) -> Float[Tensor, "b n t a"]:
        """n chunks, each the best of `draws`."""
        self.refuse_unsupported(noise=noise, guide=guide, condition=condition, prefix=prefix)
        given: dict[str, Any] = {"guide": guide, "condition": condition, "prefix": prefix}
        groups = self.propose(context, n, {name: value for name, value in given.items() if value is not None})
        drawn = groups.flatten(1, 2)
        scores = self.scorer(context, drawn)
        if scores.shape != drawn.shape[:2]:
            raise UserError("scorer", f"it gave scores of shape {tuple(scores.shape)}", f"{tuple(drawn.shape[:2])}: one for each draw",
                            "return [B, n] for actions [B, n, T, A]")
        best = scores.unflatten(1, groups.shape[1:3]).argmax(-1)
        return groups.gather(2, best[:, :, None, None, None].expand(-1, -1, 1, *drawn.shape[2:])).squeeze(2)

    def propose(self, context: Context, n: int, given: dict[str, Any]) -> Float[Tensor, "b n m t a"]:
        """What each of n chunks is chosen from."""
        return self.head.sample(context, n=n * self.draws, **given).unflatten(1, (n, self.draws))


def agreement(context: Context, actions: Float[Tensor, "b n t a"]) -> Float[Tensor, "b n"]:
    """How near the other draws are: minus the mean distance to them."""
    flat = actions.flatten(2)
    return -torch.cdist(flat, flat).mean(-1)


def smoothness(context: Context, actions: Float[Tensor, "b n t a"]) -> Float[Tensor, "b n"]:
    """Minus the mean squared change of the change from step to step."""
    return -actions.diff(n=2, dim=2).square().mean((2, 3))
