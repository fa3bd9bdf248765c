"""A batch in which every sample draws from a random generator of its own, so that it draws what it would have drawn alone.

Heads draw from torch's global generator, for the whole batch at once. Inside `own_generators(seeds)` such a draw is made sample by
sample: its first dimension is B samples times whatever a head draws per sample, samples slowest, as in all our heads. A draw that is
not so shaped raises. Draws with a generator of their own are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

SHAPED = {torch.randn, torch.rand}
LIKE = {torch.randn_like: torch.randn, torch.rand_like: torch.rand}
DRAWN = {torch.multinomial, Tensor.multinomial, torch.bernoulli, Tensor.bernoulli}
ELSEWHERE = {torch.randint, torch.randint_like, torch.randperm, torch.normal, Tensor.normal_, Tensor.uniform_, Tensor.random_,
             Tensor.exponential_, Tensor.bernoulli_}
"""Random functions that no head of ours samples with: refused, rather than silently shared between robots."""
RANDOM = frozenset(SHAPED | LIKE.keys() | DRAWN | ELSEWHERE)


class own_generators(TorchFunctionMode):
    """`with own_generators(seeds):`, one seed for each of the B samples."""

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        super().__init__()
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if function not in RANDOM or kwargs.get("generator") is not None:  # nearly always: every operation comes through here
            return function(*args, **kwargs)
        kwargs = {name: value for name, value in kwargs.items() if name != "generator"}
        if function in LIKE:
            like = args[0]
            function, args = LIKE[function], (like.shape,)
            kwargs = {"device": like.device, "dtype": like.dtype} | kwargs
        if function in SHAPED:
            shape = tuple(kwargs.pop("size", args[0] if len(args) == 1 and not isinstance(args[0], int) else args))
            part = (self._share(shape[0] if shape else 0, function), *shape[1:])
            return torch.cat([function(part, generator=generator, **kwargs) for generator in self.generators])
        if function in DRAWN:
            source, *rest = args
            share = self._share(len(source), function)
            return torch.cat([function(part, *rest, generator=generator, **kwargs)
                              for part, generator in zip(source.split(share), self.generators, strict=True)])
        raise NotImplementedError(f"{function.__name__} in a batch of robots with seeds of their own")

    def _share(self, length: int, function: Callable) -> int:
        """How much of a draw of that length belongs to each sample."""
        samples = len(self.generators)
        if length == 0 or length % samples:
            raise NotImplementedError(f"{function.__name__} draws {length} for {samples} samples: not the same for each")
        return length // samples
