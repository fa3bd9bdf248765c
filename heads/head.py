"""The head contract: `loss` to train it, `sample` to act with it.

Everything here is normalised: actions are in the units of `vla.normalize`, roughly [-1, 1].

Shapes: B samples, n draws per sample, T = horizon steps, A action dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from backbones.context import Context
from robot_io import UserError

Guide = Callable[[Tensor, Tensor], Tensor]
"""`guide(actions [B·n, T, A], level [B·n])` → a gradient of the same shape, added while denoising."""


@dataclass(frozen=True)
class Output:
    """The size of what a head predicts, and of what it reads.

    Attributes:
        horizon: T, steps predicted.
        action_dim: A.
        context_dim: D, width of the context.
        queries: K, number of readouts.
    """

    horizon: int
    action_dim: int
    context_dim: int
    queries: int


@dataclass(frozen=True)
class Prefix:
    """Actions that are already decided when a chunk is drawn, because they will have been carried out by then.

    Attributes:
        actions: `float [B, T, A]`, normalised.
        frozen: `float or bool [T]`, or `[B, T]` where samples differ: 1 where the chunk must equal `actions`, 0 where it is free, between
            where it should stay near.
    """

    actions: Float[Tensor, "b t a"]
    frozen: Tensor


@dataclass(frozen=True)
class Loss:
    """`total` is what is minimised (a scalar tensor); `parts` are named scalars for the log."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


class Head(nn.Module):
    """The contract of an action head. `supports` names which of `noise`, `guide`, `condition` and `prefix` its `sample` honours.

    `sampling` names the options of its configuration that decide how it samples and nothing else: a trained policy may be opened
    with others. `repeated` names the submodule that `sample` calls over and over, if it does: the one that is worth compiling.
    """

    supports: frozenset[str] = frozenset()
    sampling: frozenset[str] = frozenset()
    repeated = ""

    def load_pretrained(self) -> None:
        """Start from the published weights that the configuration names, if it does. Called once, when a new policy is made; a
        saved policy brings its own."""

    def study(self, demonstrated: Callable[[], tuple[Float[Tensor, "m t a"], Bool[Tensor, "m t"]]]) -> None:
        """Learn from the demonstrated chunks (and which of their steps are valid) what is no weight, such as a tokenizer. Called
        once, before training."""

    def save_assets(self, folder: Path) -> None:
        """Write what rebuilding needs besides weights into the new folder `folder`, which is yet to be made: small text files only."""

    def load_assets(self, folder: Path) -> None:
        """Read back what `save_assets` wrote. Called when a policy is loaded, whether or not there is such a folder."""

    def loss(self, context: Context, actions: Float[Tensor, "b t a"], valid: Bool[Tensor, "b t"]) -> Loss:
        """Imitation loss; steps where `valid` is False (past the end of the episode) do not count."""
        raise NotImplementedError

    def sample(
        self,
        context: Context,
        *,
        n: int = 1,
        noise: Tensor | None = None,
        guide: Guide | None = None,
        condition: Tensor | None = None,
        prefix: Prefix | None = None,
    ) -> Float[Tensor, "b n t a"]:
        """Draw n chunks per sample. Randomness comes from torch's global generator unless `noise` fixes it."""
        raise NotImplementedError

    def draw_noise(self, generators: Sequence[torch.Generator], batch: int, n: int) -> Float[Tensor, "b n t a"] | None:
        """What `sample` would draw for its `noise`, from one generator for the whole batch or one for each sample; None of a head that
        draws anything else."""
        return None

    def refuse_unsupported(self, **asked: object) -> None:
        """Raise a `UserError` for an argument that is given but not in `supports`."""
        for name, value in asked.items():
            if value is not None and name not in self.supports:
                raise UserError(
                    f"head {type(self).__name__}",
                    f"cannot honour '{name}'",
                    f"one of {', '.join(sorted(self.supports)) or 'none'}",
                    f"choose a head that supports {name}",
                )
