"""What a policy's backbone makes of every recorded frame, computed once and kept beside the frozen features.

The critic always looks through these eyes: those of the policy that the run began with. With `tune: head` the actor does too, and a
training step costs a head and a critic, no backbone.

Shapes: N frames, L positions, K readouts of width D.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from backbones.context import Context
from heads import HEADS
from robot_io import UserError
from robot_io.registry import ComponentConfig
from vla.cache import cache_root, cached_folder, key_of, open_arrays, weights_digest
from vla.data import Demonstrations
from vla.frames import Track
from vla.policy import Policy
from vla.train.features import Features, reach

AT_ONCE = 128


class Eyes:
    """A policy looking at the frames of one data set, through cached features where its perception is frozen."""

    def __init__(self, policy: Policy, demonstrations: Demonstrations, track: Track) -> None:
        self.policy, self.demonstrations = policy, demonstrations
        cached = reach(policy) is not None
        self.features = Features(policy, demonstrations, track) if cached else None
        self.frames = None if cached else demonstrations.open_frames(track, depth=policy.needs_depth)

    def context(self, index: Int[np.ndarray, " b"]) -> Context:
        """Of frames `index`, with gradients where the policy has any."""
        samples = self.demonstrations.columns(index, self.policy.device)
        if self.features is not None:
            return self.policy.context(samples.batch, self.features.percept(index, self.policy.device))
        return self.policy.context(self.frames.add_to(samples.batch, index))

    def all(self, track: Track) -> Context:
        """Of every frame, without gradients, from the cache or into it."""
        key = "contexts-" + key_of(policy=weights_digest(self.policy), data=self.demonstrations.digest, device=self.policy.device.type)
        folder = cached_folder(cache_root(self.demonstrations.recipe.data.cache), key, lambda folder: self._compute(folder, track))
        return Context(**{name: torch.from_numpy(np.array(values)) for name, values in open_arrays(folder).items()})

    @torch.no_grad()
    def _compute(self, folder: Path, track: Track) -> None:
        self.policy.eval()
        total = len(self.demonstrations.actions)
        parts = [self.context(np.arange(start, min(start + AT_ONCE, total)))
                 for start in track(range(0, total, AT_ONCE), "looking at every frame")]
        whole = join(parts)
        for name in ("hidden", "mask", "readout"):
            np.save(folder / f"{name}.npy", getattr(whole, name).cpu().numpy())


def require_readouts(head: ComponentConfig) -> None:
    """Refuse a head that reads more of the backbone than is kept of every frame: π0's, those that decode on in the language model, and a
    flow whose expert attends to the backbone's layers.

    Raises:
        UserError: it does.
    """
    more = {"layers", "continuation"} & {need for card in HEADS.cards() if card.kind == head.kind for need in card.needs}
    if getattr(getattr(head, "expert", None), "kind", None) == "joint":
        more.add("layers")
    if more:
        raise UserError(f"reinforcement learning of head '{head.kind}'", f"it reads the backbone's {' and '.join(sorted(more))}",
                        "a head that reads readouts or hidden states", "see `vla list heads`, and imitate with such a head first")
    if isinstance(inner := getattr(head, "head", None), ComponentConfig):
        require_readouts(inner)


def join(parts: list[Context]) -> Context:
    """One after the other; the shorter sequences are padded."""
    longest = max(part.hidden.shape[1] for part in parts)

    def pad(values: Tensor) -> Tensor:
        return torch.cat([values, values.new_zeros(len(values), longest - values.shape[1], *values.shape[2:])], 1)

    return Context(*(torch.cat([read(part) for part in parts]) for read in (
        lambda part: pad(part.hidden), lambda part: pad(part.mask), lambda part: part.readout)))


def rows(context: Context, index: Tensor | slice) -> Context:
    """Some of the samples."""
    return replace(context, hidden=context.hidden[index], mask=context.mask[index], readout=context.readout[index])


def in_parts(total: int, at_once: int, compute: Callable[[slice], Tensor]) -> Tensor:
    """`compute` on consecutive slices of `total` rows, put together: bounds the memory of a pass over everything."""
    return torch.cat([compute(slice(start, min(start + at_once, total))) for start in range(0, total, at_once)])
