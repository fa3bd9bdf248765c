"""Checkpoints from which a killed run goes on bit for bit: `checkpoints/step-000500/`.

    state.safetensors   weight/NAME     trainable parameters and buffers
                        adam/KEY/NAME   AdamW's state
                        ema/NAME        the moving average
    state.json          step, seconds, and the digests of what the checkpoint leaves out: the data and the frozen weights

No generator state: every random draw of training is a function of (seed, step). The newest two are kept, so that one that
was damaged costs time, not the run.
"""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from robot_io import UserError
from vla.sealed import check_seal, sealing
from vla.train.optimizer import Ema, trainable

KEPT = 2


@dataclass
class State:
    """Everything that changes while training. `digests` name what does not change, and is not saved."""

    policy: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    digests: dict[str, str]
    step: int = 0
    seconds: float = 0.0

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state by a unique name; they share memory with the live ones."""
        named = trainable(self.policy)
        saved = {f"weight/{name}": tensor for name, tensor in self._weights().items()}
        for name, parameter in named.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                saved[f"adam/{key}/{name}"] = value
        if self.ema is not None:
            saved |= {f"ema/{name}": tensor for name, tensor in self.ema.average.items()}
        return saved

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` gave before."""
        for name, tensor in self._weights().items():
            tensor.copy_(tensors[f"weight/{name}"])
        if self.ema is not None:
            for name, tensor in self.ema.average.items():
                tensor.copy_(tensors[f"ema/{name}"])
        names = {parameter: name for name, parameter in trainable(self.policy).items()}
        order = [names[p] for group in self.optimizer.param_groups for p in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for full_name, tensor in tensors.items():
            if full_name.startswith("adam/"):
                _, key, name = full_name.split("/", 2)
                moments.setdefault(order.index(name), {})[key] = tensor
        self.optimizer.load_state_dict({"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]})

    def _weights(self) -> dict[str, Tensor]:
        kept = trainable(self.policy).keys() | {name for name, _ in self.policy.named_buffers()}
        return {name: tensor for name, tensor in self.policy.state_dict().items() if name in kept}


def save_checkpoint(state: State, folder: Path) -> None:
    """Write the state after `state.step` steps, then drop the oldest checkpoints."""
    with sealing(folder / f"step-{state.step:06d}") as partial:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors().items()},
                  partial / "state.safetensors")
        (partial / "state.json").write_text(json.dumps(
            {"step": state.step, "seconds": state.seconds, "digests": state.digests}, indent=1))
    for old in _newest_first(folder)[KEPT:]:
        shutil.rmtree(old)


def restore_newest(state: State, folder: Path) -> None:
    """Continue from the newest intact checkpoint, or leave `state` at its start if there is none at all.

    Raises:
        UserError: none is intact, or the data or the frozen weights are not those the run began with.
    """
    checkpoints = _newest_first(folder)
    for checkpoint in checkpoints:
        try:
            check_seal(checkpoint, "checkpoint")
        except UserError as error:
            warnings.warn(f"{error}; falling back to the one before", stacklevel=2)
            continue
        described = json.loads((checkpoint / "state.json").read_text())
        for thing, digest in described["digests"].items():
            if state.digests[thing] != digest:
                raise UserError(f"run {folder.parent}", f"{thing} changed since it began (digest {digest}, now "
                                f"{state.digests[thing]})", "the same, to continue", "bring it back, or start a new run folder")
        state.load(load_file(checkpoint / "state.safetensors"))
        state.step, state.seconds = described["step"], described["seconds"]
        return
    if checkpoints:
        raise UserError(f"run {folder.parent}", "none of its checkpoints is intact", "at least one",
                        f"delete {folder} to start over")


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)
