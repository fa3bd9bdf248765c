"""The contract of an expert, the network of the flow head: noisy chunk, time and context in, velocity out.

Two methods, as for a denoiser (`heads.denoisers.denoiser`): what depends on the context alone is computed once, by `condition`,
for all steps and draws. It may be a sequence of any length, so it comes as `Seen`. Shapes: B samples (or draws, or repeats of
them), T = horizon, A action dimensions, L positions of the context.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from backbones.context import Context


@dataclass(frozen=True)
class Seen:
    """What an expert needs of the context, whatever the noise and the time.

    Attributes:
        parts: tensors `[B, …]`.
        mask: `bool [B, L]`, which positions are real; None where there are none to tell apart.
    """

    parts: tuple[Tensor, ...]
    mask: Bool[Tensor, "b l"] | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> Seen:
        """The same with every tensor changed."""
        return Seen(tuple(map(change, self.parts)), None if self.mask is None else change(self.mask))

    def repeat(self, n: int) -> Seen:
        """Every sample n times, consecutively."""
        return self if n == 1 else self.each(lambda tensor: tensor.repeat_interleave(n, 0))

    def hide(self, stand_ins: Sequence[Tensor], hidden: Bool[Tensor, " b"]) -> Seen:
        """The same, but where `hidden`, with the stand-ins in place of the parts: what is seen by who sees nothing."""
        return Seen(tuple(
            torch.where(hidden.view(-1, *[1] * (part.dim() - 1)), stand_in, part)
            for part, stand_in in zip(self.parts, stand_ins, strict=True)
        ), self.mask)

    def and_blind(self, stand_ins: Sequence[Tensor]) -> Seen:
        """Both halves of a batch for classifier-free guidance: this, and then this with all of it hidden."""
        twice = self.each(lambda tensor: torch.cat([tensor, tensor]))
        size = len(self.parts[0])
        return twice.hide(stand_ins, torch.arange(2 * size, device=self.parts[0].device) >= size)


class Expert(nn.Module):
    """`condition_shapes`: for each of the parts of `Seen` the shape that broadcasts to one sample of it, so that a head can
    learn stand-ins for what is not seen."""

    condition_shapes: tuple[tuple[int, ...], ...]

    def condition(self, context: Context) -> Seen:
        """All that the network needs of the context.

        Raises:
            UserError: the context lacks it.
        """
        raise NotImplementedError

    def forward(self, noisy: Float[Tensor, "b t a"], time: Float[Tensor, " b"], seen: Seen) -> Float[Tensor, "b t a"]:
        """`time` is 0 for a clean chunk and 1 for pure noise, as in π0's code; the velocity points towards the noise."""
        raise NotImplementedError
