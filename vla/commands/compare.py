"""`vla compare` and `vla trials`: what trial files say, and the files as one table."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from vla.commands.shared import Json, named, tell

Files = Annotated[list[str], typer.Argument(metavar="NAME=FILE...", help="Trial files (`vla evaluate --out`), by the name that the table shows.")]
EXAMPLE = "raw=runs/raw/test.jsonl"


def compare(
    trials: Files,
    by: Annotated[str | None, typer.Option(help="Also success by this field of the trials: instruction, robot.task.distractors, …")] = None,
    as_json: Json = False,
) -> None:
    """Which of several policies differ on the same scenes: success with 95 % intervals, and letters that those not told apart share.

    Examples:

    - `vla compare raw=runs/raw/test.jsonl grounded=runs/grounded/test.jsonl`

    - `vla compare raw=runs/raw/test.jsonl grounded=runs/grounded/test.jsonl --by instruction` (and whether instructions differ)
    """
    from rich.console import Console
    from rich.markdown import Markdown

    from vla.evaluate.conditions import by_condition, heterogeneity
    from vla.evaluate.conditions import table as by_table
    from vla.evaluate.letters import rank
    from vla.evaluate.letters import table as lettered
    from vla.evaluate.trials import read_rows

    rows = {name: list(read_rows(file)) for name, file in (named(trial, EXAMPLE) for trial in trials)}
    standings, pairs = rank({name: {row["seed"]: row["success"] for row in own} for name, own in rows.items()})
    rates = {name: by_condition(own, by) for name, own in rows.items()} if by else {}
    if as_json:
        found = {"standings": [asdict(standing) for standing in standings], "pairs": [asdict(pair) for pair in pairs]}
        if by:
            found["by"] = {name: {condition: rate.to_dict() for condition, rate in of_policy.items()} for name, of_policy in rates.items()}
            found["heterogeneity"] = {name: heterogeneity(of_policy) for name, of_policy in rates.items()}
        print(json.dumps(found))
        return
    console = Console()
    console.print(Markdown(lettered(standings)))
    if by:
        console.print(Markdown(by_table(rates, by)))


def trials(
    files: Files,
    out: Annotated[Path, typer.Option(help="The table.")] = Path("trials.parquet"),
    as_json: Json = False,
) -> None:
    """Every trial of these files as one parquet table: seed, outcome, times, recipe hash, setting, versions.

    Examples:

    - `vla trials raw=runs/raw/test.jsonl grounded=runs/grounded/test.jsonl --out trials.parquet`
    """
    from vla.evaluate.export import to_parquet

    count = to_parquet(dict(named(file, EXAMPLE) for file in files), out)
    tell({"out": str(out), "trials": count}, as_json, f"{out}: {count} trials")
