"""A grid in YAML, for who would rather not write Python: factors × levels, every combination a cell.

    name: perception_heads
    recipe: raw                      # a preset or a recipe.yaml
    common: [train.steps=400]        # overrides of every cell
    seeds: [0, 1]                    # training seeds
    trials: 100
    split: validation                # test once the choice is made
    quick: {overrides: [train.steps=100], seeds: [0], trials: 12}    # with --quick
    factors:
      perception:
        raw: []
        masked: ["perception=[{kind: object_centric}, {kind: masking}]"]
      head:
        diffusion: [head.kind=diffusion]
        tokens: [head.kind=tokens]
    without:                         # combinations to leave out
      - {perception: raw, head: tokens}
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from robot_io import UserError
from robot_io.errors import nearest
from vla.ablate import Cell, Grid, Quick
from vla.overrides import explain

Levels = Annotated[dict[str, tuple[str, ...]], Field(min_length=1)]


def _some(factors: dict[str, Levels]) -> dict[str, Levels]:
    if not factors:
        raise UserError("grid factors", "none", "at least one with its levels", "name what is compared under `factors`")
    return factors


class QuickFile(BaseModel):
    """As `vla.ablate.Quick`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    overrides: tuple[str, ...] = Quick.overrides
    seeds: tuple[int, ...] = Field(Quick.seeds, min_length=1)
    trials: int = Field(Quick.trials, ge=1)


class GridFile(BaseModel):
    """See the module's text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    recipe: str
    common: tuple[str, ...] = ()
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    trials: int = Field(100, ge=1)
    split: Literal["test", "validation"] = "test"
    quick: QuickFile = QuickFile()
    factors: Annotated[dict[str, Levels], AfterValidator(_some)]
    without: tuple[dict[str, str], ...] = ()


def read_grid(path: Path | str) -> Grid:
    """The grid in a YAML file.

    Raises:
        UserError: it is not one; names the field.
    """
    try:
        written = yaml.safe_load(Path(path).read_text())
        file = GridFile.model_validate(written)
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"grid {path}", f"cannot be read ({error})", "a YAML file", "see vla/grids/from_file.py") from None
    except ValidationError as error:
        raise explain(error, GridFile, f"grid {path}") from None
    for left_out in file.without:
        _known(left_out, file, path)
    cells = tuple(_cell(file.factors, levels) for levels in product(*file.factors.values())
                  if not any(_matches(left_out, dict(zip(file.factors, levels, strict=True))) for left_out in file.without))
    return Grid(file.name, file.recipe, cells, file.common, file.seeds, file.trials, file.split,
                Quick(**file.quick.model_dump()))


def _cell(factors: dict[str, Levels], levels: tuple[str, ...]) -> Cell:
    chosen = dict(zip(factors, levels, strict=True))
    return Cell(chosen, tuple(override for factor, level in chosen.items() for override in factors[factor][level]))


def _matches(left_out: dict[str, str], levels: dict[str, str]) -> bool:
    return all(levels[factor] == level for factor, level in left_out.items())


def _known(left_out: dict[str, str], file: GridFile, path: Path | str) -> None:
    for factor, level in left_out.items():
        if factor not in file.factors or level not in file.factors[factor]:
            raise UserError(f"grid {path}, without", f"'{factor}: {level}' is no level of it",
                            f"one of {', '.join(file.factors.get(factor, file.factors))}",
                            nearest(level, file.factors.get(factor, file.factors)))
