"""Checkpoints from which a killed run goes on bit for bit: `checkpoints/step-000500/`.

    state.safetensors   weight/NAME     trainable parameters and buffers
                        adam/KEY/NAME   AdamW's state
                        ema/NAME        the moving average
    state-1.safetensors, …              the same of processes 1, …, where weights are cut into slices: each writes its rows
    state.json          step, seconds, and the digests of what the checkpoint leaves out: the data and the frozen weights

No generator state: every random draw of training is a function of (seed, step). The newest two are kept, so that one that
was damaged costs time, not the run. Any number of processes may continue, each reading the rows that are its own.
"""

from __future__ import annotations

import json
import shutil
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from robot_io import UserError
from vla.sealed import check_seal, partial_of, sealing
from vla.train.crew import Crew
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

    def load(self, stored: Stored) -> None:
        """Take over what `tensors` gave before."""
        for name, tensor in self._weights().items():
            stored.fill(tensor, f"weight/{name}")
        if self.ema is not None:
            for name, tensor in self.ema.average.items():
                stored.fill(tensor, f"ema/{name}")
        named = trainable(self.policy)
        names = {parameter: name for name, parameter in named.items()}
        order = [names[p] for group in self.optimizer.param_groups for p in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for full_name in stored.names:
            if full_name.startswith("adam/"):
                _, key, name = full_name.split("/", 2)
                moments.setdefault(order.index(name), {})[key] = stored.like(named[name], full_name)
        self.optimizer.load_state_dict({"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]})

    def _weights(self) -> dict[str, Tensor]:
        kept = trainable(self.policy).keys() | {name for name, _ in self.policy.named_buffers()}
        return {name: tensor for name, tensor in self.policy.state_dict().items() if name in kept}


class Stored:
    """The tensors of a checkpoint, read row by row, whichever processes wrote them."""

    def __init__(self, folder: Path) -> None:
        self._files = [safe_open(path, "pt") for path in sorted(folder.glob("state*.safetensors"))]
        self._parts: dict[str, list[tuple[int, int]]] = {}
        """By name: (first row, file) of each part, in order."""
        for number, file in enumerate(self._files):
            first_rows = json.loads((file.metadata() or {}).get("first_rows", "{}"))
            for name in file.keys():  # noqa: SIM118 (not a dict)
                self._parts.setdefault(name, []).append((first_rows.get(name, 0), number))

    @property
    def names(self) -> list[str]:
        return list(self._parts)

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Rows `start` to `stop` of a tensor, all of it if not told."""
        found = []
        for first, number in sorted(self._parts[name]):
            if stop is None:
                found.append(self._files[number].get_tensor(name))
                continue
            part = self._files[number].get_slice(name)
            low, high = max(start - first, 0), min(stop - first, part.get_shape()[0])
            if low < high:
                found.append(part[low:high])
        return found[0] if len(found) == 1 else torch.cat(found)

    def fill(self, target: Tensor, name: str) -> None:
        """Copy a tensor into `target`, of a sliced one only the rows that are here."""
        if not isinstance(target, DTensor):
            target.copy_(self.rows(name))
            return
        start, local = first_row(target), target.to_local()
        if len(local):
            local.copy_(self.rows(name, start, start + len(local)))

    def like(self, parameter: Tensor, name: str) -> Tensor:
        """A tensor that belongs to a parameter: sliced as that is, if it has its shape; whole otherwise."""
        if not isinstance(parameter, DTensor) or "/step/" in name:
            return self.rows(name)
        target = torch.zeros_like(parameter)
        self.fill(target, name)
        return target


def first_row(tensor: DTensor) -> int:
    """Of the slice that this process holds: slices are equal, but for the last ones."""
    mesh, length = tensor.device_mesh, tensor.shape[0]
    return min(mesh.get_local_rank() * -(-length // mesh.size()), length)


def save_checkpoint(state: State, folder: Path, crew: Crew) -> None:
    """Write the state after `state.step` steps, then drop the oldest checkpoints. All processes must call it."""
    target = folder / f"step-{state.step:06d}"
    with sealing(target) if crew.main else nullcontext(partial_of(target)) as partial:
        crew.wait()  # until there is a folder
        tensors = {name: tensor.detach() for name, tensor in state.tensors().items() if crew.main or isinstance(tensor, DTensor)}
        if tensors:
            first_rows = {name: first_row(tensor) for name, tensor in tensors.items() if isinstance(tensor, DTensor)}
            save_file({name: (tensor.to_local() if name in first_rows else tensor).cpu().contiguous() for name, tensor in tensors.items()},
                      partial / ("state.safetensors" if crew.main else f"state-{crew.rank}.safetensors"),
                      {"first_rows": json.dumps(first_rows)})
        if crew.main:
            (partial / "state.json").write_text(json.dumps(
                {"step": state.step, "seconds": state.seconds, "digests": state.digests}, indent=1))
        crew.wait()  # until every part is there
    if crew.main:
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
        state.load(Stored(checkpoint))
        state.step, state.seconds = described["step"], described["seconds"]
        return
    if checkpoints:
        raise UserError(f"run {folder.parent}", "none of its checkpoints is intact", "at least one",
                        f"delete {folder} to start over")


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)
