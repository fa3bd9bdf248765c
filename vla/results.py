"""Results as data, and every table in the documentation made from them.

`docs/results/NAME.json` is a list of rows

    {"cell": {factor: level, …}, "metric": "success", "mean": …, "low": …, "high": …, "n": …, "seeds": […],
     "recipe": hash, "command": how it was made}

and a table in `README.md` or `docs/*.md` is a block

    <!-- table: NAME -->
    …
    <!-- /table -->

which `python -m vla.results` fills: a line per cell, a column per factor and per metric (`<!-- table: NAME
metrics=success,wrong_object -->` picks some). `across=FACTOR` turns one factor's levels into columns, for the first metric; `only=A,B` keeps
the levels named, of whatever factor. `python -m vla.results --check` fails if a table is stale.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from robot_io import UserError
from vla.files import write_text

Row = dict[str, Any]

REQUIRED = ("cell", "metric", "mean", "low", "high", "n", "seeds", "recipe")
SHARES = ("success", "success_in_5_s", "wrong_object", "abstention", "as_it_should", "moved_wrongly", "crashed", "log_lost")
"""Metrics that are shares of trials, shown in per cent; others carry their unit in their name (`latency_ms`)."""
BLOCK = re.compile(r"<!-- table: (?P<name>[\w./-]+)(?P<options>[^>]*?) -->\n(?P<body>.*?)<!-- /table -->", re.DOTALL)


def save_rows(path: Path | str, rows: Iterable[Row]) -> None:
    """Write rows atomically, one per line so that a change reads well in a diff."""
    path, rows = Path(path), list(rows)
    for row in rows:
        _check(row, str(path))
    write_text(path, "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


def merge_rows(path: Path | str, rows: Iterable[Row]) -> None:
    """Add rows to those in a file, each in the place of the one with its cell and metric, if there is one."""
    rows = list(rows)
    known = load_rows(path) if Path(path).is_file() else []
    new = {_name(row): row for row in rows}
    save_rows(path, [new.pop(_name(row), row) for row in known] + list(new.values()))


def _name(row: Row) -> str:
    return json.dumps([row["cell"], row["metric"]], sort_keys=True)


def load_rows(path: Path | str) -> list[Row]:
    try:
        rows = json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"results '{path}'", "no such file", "rows saved by vla.results.save_rows",
                        "run the command beside the table, or correct its name") from None
    except json.JSONDecodeError as error:
        raise UserError(f"results '{path}'", f"is not JSON ({error})", "a list of rows", "make the file again") from None
    for row in rows:
        _check(row, str(path))
    return rows


def markdown(rows: list[Row], metrics: list[str] | None = None) -> str:
    """A markdown table: a line per cell in order of appearance, a column per factor, metric and number of trials."""
    metrics = metrics or list(dict.fromkeys(row["metric"] for row in rows))
    factors = list(dict.fromkeys(factor for row in rows for factor in row["cell"]))
    lines: dict[str, dict[str, Row]] = {}
    for row in rows:
        lines.setdefault(json.dumps(row["cell"], sort_keys=True), {})[row["metric"]] = row
    table = [[*factors, *(metric.replace("_", " ") for metric in metrics), "trials"]]
    table.append(["---"] * len(factors) + ["---:"] * (len(metrics) + 1))
    for by_metric in lines.values():
        cell = next(iter(by_metric.values()))["cell"]
        trials = next((str(by_metric[m]["n"]) for m in metrics if m in by_metric), "–")
        values = [show(by_metric[metric]) if metric in by_metric else "–" for metric in metrics]
        table.append([*(str(cell.get(factor, "–")) for factor in factors), *values, trials])
    return "\n".join("| " + " | ".join(line) + " |" for line in table)


def across(rows: list[Row], factor: str, metric: str) -> str:
    """A markdown table of one metric: a line per cell without `factor`, a column per level of it."""
    rows = [row for row in rows if row["metric"] == metric]
    levels = list(dict.fromkeys(row["cell"][factor] for row in rows))
    lines: dict[tuple[tuple[str, Any], ...], dict[str, Row]] = {}
    for row in rows:
        lines.setdefault(tuple((f, level) for f, level in row["cell"].items() if f != factor), {})[row["cell"][factor]] = row
    factors = list(dict.fromkeys(f for key in lines for f, _ in key))
    table = [[*factors, *levels, "trials each"], ["---"] * len(factors) + ["---:"] * (len(levels) + 1)]
    for key, by_level in lines.items():
        values = [show(by_level[level]) if level in by_level else "–" for level in levels]
        counts = sorted({row["n"] for row in by_level.values()})
        table.append([*(str(dict(key).get(f, "–")) for f in factors), *values, "–".join(map(str, dict.fromkeys((counts[0], counts[-1]))))])
    return "\n".join("| " + " | ".join(line) + " |" for line in table)


def show(row: Row) -> str:
    """`92.0 % [85.0, 95.9]` for shares, `41.2 [39.8, 43.0]` for the rest; without brackets if there is no interval."""
    if row["mean"] is None or math.isnan(row["mean"]):
        return "–"
    scale, unit = (100, " %") if row["metric"] in SHARES else (1, "")
    number = f"{scale * row['mean']:.1f}{unit}"
    return number if row["low"] == row["high"] else f"{number} [{scale * row['low']:.1f}, {scale * row['high']:.1f}]"


def fill(text: str, results: Path) -> str:
    """`text` with every table block made anew from the files in `results`."""

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        options = dict(option.split("=", 1) for option in match["options"].split())
        rows = load_rows(results / f"{name}.json")
        commands = list(dict.fromkeys(row["command"] for row in rows if row.get("command")))
        made = " and ".join(f"`{command}`" for command in commands) or "hand"
        if "only" in options:
            kept = options["only"].replace("_", " ").split(",")
            rows = [row for row in rows if any(str(level) in kept for level in row["cell"].values())]
        metrics = options["metrics"].split(",") if "metrics" in options else None
        table = across(rows, options["across"], (metrics or ["success"])[0]) if "across" in options else markdown(rows, metrics)
        note = f"Made by {made}; rows in `docs/results/{name}.json`. Brackets: 95 % intervals."
        return f"<!-- table: {name}{match['options']} -->\n{table}\n\n{note}\n<!-- /table -->"

    return BLOCK.sub(block, text)


def pages(root: Path) -> list[Path]:
    return [path for path in [root / "README.md", *sorted((root / "docs").rglob("*.md"))] if path.is_file()]


def stale(root: Path) -> list[Path]:
    """Pages whose tables are not what their results say."""
    return [page for page in pages(root) if fill(page.read_text(), root / "docs" / "results") != page.read_text()]


def _check(row: Row, where: str) -> None:
    if missing := [key for key in REQUIRED if key not in row]:
        raise UserError(f"results '{where}'", f"a row lacks {', '.join(missing)}", f"all of {', '.join(REQUIRED)}",
                        "save rows with vla.results.save_rows")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m vla.results", description="Make the tables of the documentation.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a table is stale")
    parser.add_argument("--root", type=Path, default=Path(), help="where README.md and docs/ are")
    arguments = parser.parse_args()
    try:
        outdated = stale(arguments.root)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for page in outdated:
        if arguments.check:
            print(f"{page}: a table is stale; run `python -m vla.results`", file=sys.stderr)
            continue
        write_text(page, fill(page.read_text(), arguments.root / "docs" / "results"))
        print(f"{page}: tables made anew")
    return 1 if arguments.check and outdated else 0


if __name__ == "__main__":
    raise SystemExit(main())
