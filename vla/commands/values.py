"""`vla values`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vla.commands.shared import Json, tell


def values(
    run: Annotated[Path, typer.Argument(help="Folder of a `vla rl` run.")],
    seed: Annotated[int, typer.Option(min=0, help="The scene to film.")] = 10_000,
    out: Annotated[Path | None, typer.Option(help="Folder of the film and the figure; RUN if left out.")] = None,
    as_json: Json = False,
) -> None:
    """Look at a critic: Q against return, calibration, and the value along a rollout as a strip under its film.

    Examples:

    - `vla values runs/qc`

    - `vla values runs/qc --seed 10007 --out figures`
    """
    from vla.evaluate.drivers import preload
    from vla.rl.diagnostics import advice, read_log
    from vla.rl.look import look

    preload()
    seen = look(run, out or run, seed)
    found = {"film": str(seen.film), "figure": str(seen.figure), "success": seen.trial.success, "steps": seen.trial.steps,
             "numbers": seen.numbers, "advice": advice(read_log(run))}
    tell(found, as_json, f"{seen.figure}, {seen.film}: {found['advice']}")
