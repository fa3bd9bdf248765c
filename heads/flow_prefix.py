"""Real-time chunking for flow matching (Black et al., arXiv 2506.07339): draw a chunk whose first steps are already decided.

While a chunk is computed, the robot carries out steps of the one before. Those are frozen: they stay on the straight line
between their noise and their value, and so arrive there. The steps after them are pulled towards the previous chunk by
pseudoinverse guidance (sec. IV-A, eq. 2): the velocity is moved by the vector-Jacobian product of the clean estimate with its weighted
error, times a weight that grows without bound near both ends and is clipped there (β, sec. IV-A). Overlapping chunks then agree on
what they are doing, also where two ways of doing it exist.

Shapes: N chunks at once, T = horizon, A action dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from heads.draws import for_every_draw
from heads.flow_matching import VelocityField
from heads.head import Prefix


@dataclass(frozen=True)
class Kept:
    """A prefix, for every draw.

    Attributes:
        actions: `float [N, T, A]`.
        weights: `float [N, T, 1]`, 1 where frozen, 0 where free.
        largest: β, bound of the guidance's weight.
    """

    actions: Float[Tensor, "n t a"]
    weights: Float[Tensor, "n t 1"]
    largest: float

    @classmethod
    def of(cls, prefix: Prefix, shape: tuple[int, ...], like: Tensor, largest: float) -> Kept:
        """For a sample of `shape` (samples, draws, horizon, action dimensions).

        Raises:
            UserError: the prefix has another shape.
        """
        return cls(*for_every_draw(prefix, shape, like), largest)

    def pull(self, field: VelocityField) -> VelocityField:
        """The field, turned towards the prefix by as much as its steps weigh."""

        def turned(chunk: Tensor, time: float) -> Tensor:
            with torch.enable_grad():
                chunk = chunk.detach().requires_grad_()
                velocity = field(chunk, time)
                clean = chunk - time * velocity
                error = (self.weights * (self.actions - clean)).detach()
                (gradient,) = torch.autograd.grad(clean, chunk, error)
            return velocity.detach() - self.weight(time) * gradient

        return turned

    def weight(self, time: float) -> float:
        """min(β, (1 - τ) / (τ r²)) with r² = (1 - τ)² / (τ² + (1 - τ)²) and τ = 1 - time."""
        room = time * (1.0 - time)
        return self.largest if room <= 0.0 else min(self.largest, (time**2 + (1.0 - time) ** 2) / room)

    def freeze(self, field: VelocityField, noise: Float[Tensor, "n t a"]) -> VelocityField:
        """The field with frozen steps on the straight line from their noise."""
        frozen, line = self.weights >= 1.0, noise - self.actions
        return lambda chunk, time: torch.where(frozen, line, field(chunk, time))

    def follow(self, field: VelocityField, noise: Float[Tensor, "n t a"],
               integrate: Callable[[VelocityField, Tensor], Tensor]) -> Float[Tensor, "n t a"]:
        """The chunk that goes on from the prefix. Outside of inference mode only: it differentiates the field."""
        return self.settle(integrate(self.freeze(self.pull(field), noise), noise))

    def settle(self, chunk: Float[Tensor, "n t a"]) -> Float[Tensor, "n t a"]:
        """Frozen steps to the bit: their line ends there, but for rounding."""
        return torch.where(self.weights >= 1.0, self.actions, chunk)


@contextmanager
def differentiable(kept: Kept, noise: Tensor) -> Iterator[tuple[Kept, Tensor]]:
    """Inference mode left for a while, with copies of both that may be differentiated; so must be whatever else the field uses."""
    with torch.inference_mode(False), torch.no_grad():
        yield replace(kept, actions=kept.actions.clone(), weights=kept.weights.clone()), noise.clone()
