"""Continuous actions to bins and back, elementwise: OpenVLA's arithmetic (arXiv 2406.09246, sec. 3.2) and plain bins.

A binning turns every number of a normalised action into one of `classes` classes, and a class into the centre of its
bin. Values outside [-1, 1] are clipped. Shapes are kept: `[…]` float to `[…]` int64 and back.

OpenVLA bins with 256 *edges*, hence 255 intervals. Its `np.digitize` gives indices 1 … 256; index 256 is only the value
1.0 itself and decodes as 255 does. Our class is that index less one, and its token is `vocabulary - index`, so that 256
actions take the last 256 ids of the vocabulary, 31744 … 31999 for Llama 2's 32000.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Binning:
    """A table of edges and centres. Build one with `uniform_binning` or `openvla_binning`.

    Double precision as in NumPy: in single precision, values on an edge would fall into the neighbouring bin. No
    module, so that casting a policy to bfloat16 leaves the table alone.

    Attributes:
        edges: `float64 [E]`, ascending.
        centres: `float64 [C]`, what each class decodes to; C is E - 1, or E when the last edge is a class of its own.
    """

    edges: Tensor
    centres: Tensor

    @property
    def classes(self) -> int:
        return len(self.centres)

    def encode(self, actions: Float[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """The class of each number, 0 … classes - 1. As in `np.digitize`, a bin owns its lower edge."""
        edges = self.edges.to(actions.device)
        inside = actions.to(edges.dtype).clamp(edges[0], edges[-1])
        return (torch.bucketize(inside, edges, right=True) - 1).clamp(0, self.classes - 1)

    def decode(self, classes: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The centre of each class's bin, as float32."""
        return self.centres.to(classes.device)[classes].float()


@dataclass(frozen=True)
class Windows:
    """The bins around every bin, W of them, so that a mean around the likeliest bin need not look at all C.

    Attributes:
        bins: `int64 [C, W]`, filled up with the last bin.
        centres: `float32 [C, W]`, theirs.
        filling: `float32 [C, W]`, 0, or -inf where it is only filled up.
    """

    bins: Tensor
    centres: Tensor
    filling: Tensor

    @classmethod
    def of(cls, binning: Binning, reach: float) -> Windows:
        """All bins whose centres are within `reach` of the bin's own."""
        centres = binning.centres.float()
        near = (centres - centres.unsqueeze(1)).abs() <= reach
        widest = int(near.sum(1).max())
        order = (~near).long().argsort(dim=1, stable=True)[:, :widest]
        inside = near.gather(1, order)
        bins = torch.where(inside, order, len(centres) - 1)
        return cls(bins, centres[bins], torch.zeros_like(centres[bins]).masked_fill(~inside, -torch.inf))

    def mean(self, logits: Float[Tensor, "*shape c"]) -> Float[Tensor, "*shape"]:
        """The mean of the distribution within the window of its likeliest bin."""
        rows = logits.flatten(0, -2)
        best = rows.max(-1).indices  # twice as fast as argmax on the CPU
        bins, filling, centres = (table.to(rows.device).index_select(0, best) for table in (self.bins, self.filling, self.centres))
        weights = rows.gather(1, bins).float().add_(filling).softmax(-1)
        return (weights * centres).sum(-1).view(logits.shape[:-1])


def uniform_binning(bins: int = 256) -> Binning:
    """`bins` equal bins on [-1, 1], each half-open but the last, which owns 1.0."""
    edges = np.linspace(-1.0, 1.0, bins + 1)
    return Binning(torch.from_numpy(edges), torch.from_numpy((edges[:-1] + edges[1:]) / 2))


def openvla_binning(bins: int = 256) -> Binning:
    """OpenVLA's bins: `bins` edges, `bins - 1` intervals, a last class for 1.0 that folds onto the last interval."""
    edges = np.linspace(-1.0, 1.0, bins)
    centres = (edges[:-1] + edges[1:]) / 2
    return Binning(torch.from_numpy(edges), torch.from_numpy(np.append(centres, centres[-1])))


def classes_to_ids(classes: Int[Tensor, "*shape"], vocabulary: int) -> Int[Tensor, "*shape"]:
    """Token ids at the end of a vocabulary of that size: class 0 is the last id, as OpenVLA has it."""
    return vocabulary - 1 - classes


def ids_to_classes(ids: Int[Tensor, "*shape"], vocabulary: int, bins: int = 256) -> Int[Tensor, "*shape"]:
    """The inverse of `classes_to_ids`; a stray id outside the action tokens goes to the nearest of them."""
    return (vocabulary - 1 - ids).clamp(0, bins - 1)
