"""The processes that train one policy together, and what they must do as one. A run on one process is a crew of one.

Replicated (DDP): every process holds the whole policy and computes its share of the batch; gradients are averaged.
Sharded (`train.shard`, FSDP2: Zhao et al., arXiv 2304.11277, in torch's per-parameter form): every process keeps a slice of each weight
and of its Adam moments, and gathers a layer's weights while it is computed.

Either way a step is that of one process with the whole batch: the loss is a mean over valid steps, so each part of each process counts by
its number of them. Start them with torchrun; see docs/training.md.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from robot_io import UserError
from vla.policy import Policy
from vla.recipe import Recipe


def first_of_crew() -> bool:
    """Whether this is the process that speaks for all, as torchrun tells it, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


class Crew:
    """One process' view of all of them."""

    def __init__(self, recipe: Recipe) -> None:
        """Raises `UserError` if the recipe cannot be divided among so many processes."""
        train = recipe.train
        AcceleratorState._reset_state()  # else a second run in this process could not have another precision
        # Some parameters take no part in some steps: a projection of tokens while there are none. Buffers are alike from the start and stay so.
        self.accelerator = Accelerator(  # which finds the others on a machine without accelerators only if told that it is one
            cpu=train.device == "cpu" or not torch.accelerator.is_available(), mixed_precision={"float32": "no", "bfloat16": "bf16"}[train.precision],
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True, gradient_as_bucket_view=True,
                                                             broadcast_buffers=False)])
        self.rank, self.size = self.accelerator.process_index, self.accelerator.num_processes
        self.device = self.accelerator.device
        self.shards = train.shard and self.size > 1
        self.compiles = train.compile
        if self.size > 1 and train.batch_size // self.size < train.accumulate:
            raise UserError("train.batch_size", f"{train.batch_size} samples for {self.size} processes with {train.accumulate} parts each",
                            "at least one sample a part", "raise train.batch_size, or lower train.accumulate or the processes")
        if self.shards and recipe.tuning.quantize:
            raise UserError("train.shard", "quantised layers cannot be cut into slices", "tuning.quantize=null, or whole copies",
                            "set train.shard=false")

    @property
    def main(self) -> bool:
        return self.rank == 0

    def own(self, index: np.ndarray) -> np.ndarray:
        """This process' share of a batch of frames."""
        return index[self.rank :: self.size]

    def shard(self, policy: Policy) -> None:
        """Cut every parameter into slices, one per process; the policy must be on its device and alike everywhere."""
        mesh = init_device_mesh(self.device.type, (self.size,))
        for layer in repeated_layers(policy.backbone):
            fully_shard(layer, mesh=mesh)
        fully_shard(policy, mesh=mesh)

    def wrap(self, policy: Policy) -> nn.Module:
        """What to call instead of the policy. Compiled are the layers that repeat: one of them stands for all, and what is between them,
        tokenising for one, is not for a compiler."""
        if self.compiles:
            for layer in repeated_layers(policy):
                layer.compile()
        return policy if self.shards else self.accelerator.prepare(policy)

    def backward(self, model: nn.Module, loss: Tensor, *, last: bool) -> None:
        """Add the gradients of one part of the batch. `loss` counts by its share of the whole batch, which other processes' share in."""
        scaled = loss * self.size  # gradients are averaged over processes
        if self.shards:
            model.set_requires_gradient_sync(last)
        self.accelerator.backward(scaled)

    def syncing(self, model: nn.Module, *, last: bool) -> AbstractContextManager:
        """Around forward and backward of one part: processes exchange gradients with the last one only."""
        if self.shards:
            return self.accelerator.autocast()
        return nullcontext() if last else self.accelerator.no_sync(model)

    def clip(self, parameters: Iterable[nn.Parameter], limit: float | None) -> Tensor:
        """Shorten the gradient to `limit`; returns its norm before."""
        norm = torch.nn.utils.clip_grad_norm_(list(parameters), limit or math.inf)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def sum(self, values: Tensor) -> Tensor:
        return self.accelerator.reduce(values, "sum") if self.size > 1 else values

    def wait(self) -> None:
        """For all the others."""
        if self.size > 1:
            self.accelerator.wait_for_everyone()

    def let_go(self, policy: Policy) -> None:
        """Of gathered weights, which a forward pass without a backward one leaves behind."""
        if self.shards:
            for module in policy.modules():
                if isinstance(module, FSDPModule):
                    module.reshard()

    def whole(self, policy: Policy) -> dict[str, Tensor]:
        """The state of a sharded policy in one piece, on the host. All processes must ask."""
        return {name: (value.full_tensor() if isinstance(value, DTensor) else value).detach().cpu()
                for name, value in policy.state_dict().items()}


def repeated_layers(module: nn.Module) -> list[nn.Module]:
    """The layers of every stack."""
    return [layer for stack in module.modules() if isinstance(stack, nn.ModuleList) and len(stack) > 1 for layer in stack]
