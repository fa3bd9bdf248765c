"""How fast training goes and what holds it up: samples a second, the share of time spent waiting for data, memory, and MFU.

MFU (model FLOPs utilisation, Chowdhery et al., arXiv 2204.02311, appendix B) is here the operations of a step, counted as torch carries
them out forward and backward, a second, as a share of what a large matrix product reaches on the same device: its practical peak
instead of a data sheet's. Recomputed activations count, so with gradient checkpointing it reads high.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode

PEAK_SIZE, PEAK_ROUNDS = 1024, 5


class Meter:
    """Of one process."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.flops: int | None = None
        self.peak: float | None = None
        self._restart()

    @contextmanager
    def step(self, *, count: bool = False) -> Iterator[None]:
        """Around one step of the optimizer.

        Args:
            count: also count its operations, once; costs a little.
        """
        began = time.perf_counter()
        if count and self.flops is None:
            counter = FlopCounterMode(display=False)
            # The counter does not see into compiled code.
            with torch.compiler.set_stance("force_eager"), counter:
                yield
            self.flops, self.peak = counter.get_total_flops(), peak_flops(self.device, self.dtype)
            self._restart()  # this step was slower than others
            return
        yield
        self.seconds += time.perf_counter() - began
        self.steps += 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the fetching of a batch."""
        began = time.perf_counter()
        yield
        self.waited += time.perf_counter() - began

    def read(self, batch_size: int) -> dict[str, float]:
        """What was measured since the last reading."""
        found = {"host_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
        if self.device.type == "cuda":
            found["gpu_mb"] = torch.cuda.max_memory_allocated(self.device) / 2**20
        if self.steps:
            found |= {"samples_per_second": self.steps * batch_size / self.seconds, "data_wait": self.waited / self.seconds}
            if self.flops is not None:
                found["mfu"] = self.flops * self.steps / self.seconds / self.peak
        self._restart()
        return {name: round(value, 4) for name, value in found.items()}

    def _restart(self) -> None:
        self.steps, self.seconds, self.waited = 0, 0.0, 0.0


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product: the fastest of a few."""
    a, b = (torch.randn(PEAK_SIZE, PEAK_SIZE, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(PEAK_ROUNDS):
        _wait(device)
        began = time.perf_counter()
        a @ b
        _wait(device)
        best = min(best, time.perf_counter() - began)
    return 2 * PEAK_SIZE**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
