"""A run's folder, and teaching in it: imitation, then reinforcement. A killed run goes on where it stopped, bit for bit.

    RUN/settings.yaml               whose run this is; others are refused
    RUN/imitation/, RUN/reinforce/  for each stage: checkpoints/, log.jsonl, model/ when it is finished
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from robot_io import UserError
from vla.apm.model import TextToAction
from vla.apm.settings import Settings, load_settings
from vla.files import write_text
from vla.sealed import SEAL, check_seal, sealing
from vla.train.checkpoint import State, restore_newest, save_checkpoint

STAGES = ("imitation", "reinforce")
KEEP_EVERY = 10
"""A checkpoint after so many reinforcement updates; after ten times as many imitation steps."""

Losses = Callable[[int], tuple[Tensor, dict[str, float]]]
"""The loss of a step, a function of its number and the model alone, and what to log."""


class Alone:
    """The crew of one that checkpoints are written by."""

    main, rank, size = True, 0, 1

    def wait(self) -> None:
        pass


def claim(settings: Settings, folder: Path) -> None:
    """The folder belongs to these settings.

    Raises:
        UserError: it belongs to others.
    """
    described = folder / "settings.yaml"
    if described.exists() and read_settings(folder) != settings:
        raise UserError(f"run {folder}", "it was started with other settings", "the same, to continue", "choose another run folder")
    write_text(described, yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False))


def read_settings(folder: Path) -> Settings:
    """
    Raises:
        UserError: it is no run of this kind.
    """
    try:
        return load_settings(yaml.safe_load((folder / "settings.yaml").read_text()))
    except FileNotFoundError:
        raise UserError(f"run {folder}", "it has no settings.yaml", "a folder made by `vla apm train`", "check the path") from None


def finished(folder: Path, stage: str) -> bool:
    return (folder / stage / "model" / SEAL).exists()


def load(folder: Path, stage: str) -> TextToAction:
    """The model that a stage made.

    Raises:
        UserError: that stage has not been finished.
    """
    if not finished(folder, stage):
        raise UserError(f"run {folder}", f"its stage '{stage}' is not finished", "a finished one", "run `vla apm train` on it")
    check_seal(folder / stage / "model", "text-to-action model")
    return TextToAction.load(folder / stage / "model", read_settings(folder).model)


def teach(model: TextToAction, folder: Path, stage: str, steps: int, losses: Losses, rates: Callable[[int], float], keep: int,
          say: Callable[[str], None]) -> None:
    """Carry out a stage from wherever it is, and save the model when it is done."""
    place = folder / stage
    optimizer = torch.optim.AdamW(model.parameters(), lr=rates(0), weight_decay=0.01, fused=True)
    for parameter in model.parameters():  # so that a checkpoint finds a moment for each
        parameter.grad = torch.zeros_like(parameter)
    state = State(model, optimizer, None, {})
    restore_newest(state, place / "checkpoints")
    model.train()
    for step in range(state.step, steps):
        for group in optimizer.param_groups:
            group["lr"] = rates(step)
        torch.manual_seed(step)  # dropout
        loss, told = losses(step)
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        state.step = step + 1
        if state.step % keep == 0 or state.step == steps:
            save_checkpoint(state, place / "checkpoints", Alone())
            _log(place / "log.jsonl", {"step": state.step, **told})
            say(f"{stage} {state.step}/{steps}: " + ", ".join(f"{name} {value:.3f}" for name, value in told.items()))
    model.eval()
    with sealing(place / "model") as partial:
        model.save(partial)


def _log(path: Path, row: dict[str, Any]) -> None:
    """Add a line; lines of steps that are done again are replaced."""
    old = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    write_text(path, "".join(json.dumps(line) + "\n" for line in [*(line for line in old if line["step"] < row["step"]), row]))
