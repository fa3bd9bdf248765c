"""The ablations that this project reports: functions that return a `vla.ablate.Grid`, and YAML files beside them (`vla.grids.from_file`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from robot_io import UserError
from robot_io.errors import nearest
from vla.ablate import Grid
from vla.grids.backbones import backbones
from vla.grids.from_file import read_grid
from vla.grids.fusion import fusion
from vla.grids.heads import denoising, heads
from vla.grids.lift3d import lift3d
from vla.grids.lora import lora
from vla.grids.summary import summary

GRIDS: dict[str, Callable[[], Grid]] = {
    **{grid.__name__: grid for grid in (backbones, lora, heads, denoising, lift3d, summary, fusion)},
    **{path.stem: partial(read_grid, path) for path in sorted(Path(__file__).parent.glob("*.yaml"))},
}


def find_grid(name: str) -> Grid:
    """The grid of that name, or the one in that YAML file.

    Raises:
        UserError: there is none; names the nearest.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        return read_grid(name)
    if name not in GRIDS:
        raise UserError(f"grid '{name}'", "not known", f"one of {', '.join(GRIDS)}, or a YAML file", nearest(name, GRIDS))
    return GRIDS[name]()


__all__ = ["GRIDS", "find_grid"]
