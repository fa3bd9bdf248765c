"""Trial files as one parquet table, for pandas, polars or DuckDB. The JSON lines stay the record: they survive a kill in mid-trial."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from robot_io.files import replacing
from vla.evaluate.trials import read_rows

NESTED = ("robot", "versions")
"""Configurations of any shape: kept as JSON text, so that files of different robots make one table."""


def to_parquet(files: Mapping[str, Path | str], path: Path | str) -> int:
    """Write the trials of all `files` (by the name that the column `name` shows) and return how many there are."""
    rows = [{"name": name, **row} | {key: json.dumps(row[key], sort_keys=True) for key in NESTED if key in row}
            for name, file in files.items() for row in read_rows(file)]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = pa.Table.from_pylist([{column: row.get(column) for column in columns} for row in rows])
    with replacing(Path(path)) as part:
        pq.write_table(table, part)
    return len(rows)
