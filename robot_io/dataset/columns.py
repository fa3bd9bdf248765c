"""Parquet columns as NumPy arrays and back.

A feature of shape [1] is a plain column, [n] a fixed-size list, [H, W] a list of lists (that is how Hugging Face
`datasets` stores its `Array2D`). Depth is `uint16` millimetres, delta-encoded and zstd-compressed: a smooth 128×128
picture takes a few hundred bytes, one with sensor noise some ten thousand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robot_io.errors import UserError

ROWS_PER_GROUP = 64
DEPTH_UNIT = 0.001  # metres
DEPTH_LIMIT = 65.535  # metres: the largest uint16 in millimetres


def read(path: Path, names: list[str], rows: tuple[int, int] | None = None) -> pa.Table:
    """Columns of a parquet file, all rows or `rows = (first, count)`; reads only the row groups it must."""
    try:
        with pq.ParquetFile(path) as file:
            if rows is None:
                return file.read(columns=names, use_threads=False)
            first, count = rows
            starts = np.cumsum([0, *(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups))])
            groups = [i for i in range(file.num_row_groups) if starts[i] < first + count and starts[i + 1] > first]
            table = file.read_row_groups(groups, columns=names, use_threads=False)
            return table.slice(first - int(starts[groups[0]]), count) if groups else table
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from None


def count_rows(path: Path) -> tuple[int, list[str]]:
    """Rows and column names of a parquet file, from its footer."""
    try:
        metadata = pq.read_metadata(path)
        return metadata.num_rows, metadata.schema.to_arrow_schema().names
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"data set file {path}", "missing", "a complete LeRobotDataset", "copy the data set again")
    return UserError(f"data set file {path}", f"cannot be read as parquet ({str(error).splitlines()[0]})",
                     "a complete parquet file", "it is damaged or was never closed: copy or record it again")


def to_numpy(column: pa.ChunkedArray, shape: tuple[int, ...]) -> np.ndarray:
    """A column as an array `[rows]` (shape (1,)) or `[rows, *shape]`."""
    flat = column.combine_chunks()
    flat = flat.storage if isinstance(flat, pa.ExtensionArray) else flat
    while pa.types.is_list(flat.type) or pa.types.is_fixed_size_list(flat.type) or pa.types.is_large_list(flat.type):
        flat = flat.flatten()
    values = flat.to_numpy(zero_copy_only=False)
    if shape == (1,):
        shape = ()
    if values.size != len(column) * int(np.prod(shape)):
        raise ValueError(f"{values.size} numbers in {len(column)} rows")
    return values.reshape(len(column), *shape)


def to_arrow(values: np.ndarray) -> pa.Array:
    """The inverse of `to_numpy` for `[rows]`, `[rows, n]` and `[rows, H, W]`."""
    flat = pa.array(values.reshape(-1))
    if values.ndim == 1 or values.shape[1:] == (1,):  # shape [1] is a plain column
        return flat
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    rows, height, width = values.shape
    lines = pa.ListArray.from_arrays(pa.array(np.arange(rows * height + 1, dtype=np.int32) * width), flat)
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * height), lines)


def schema_of(features: dict[str, dict[str, Any]]) -> pa.Schema:
    """The parquet schema of a data file: every feature that is not a video."""
    def kind(feature: dict[str, Any]) -> pa.DataType:
        value, shape = pa.type_for_alias(feature["dtype"]), feature["shape"]
        if len(shape) == 2:
            return pa.list_(pa.list_(value))
        return value if shape == [1] else pa.list_(value, shape[0])

    return pa.schema([(key, kind(feature)) for key, feature in features.items() if feature["dtype"] != "video"])


def data_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A streaming writer of data files; depth columns (nested lists) are delta-encoded."""
    pictures = [field.name for field in schema if pa.types.is_list(field.type)]
    return pq.ParquetWriter(
        path, schema, compression="zstd",
        use_dictionary=[field.name for field in schema if field.name not in pictures],
        column_encoding={f"{name}.list.element.list.element": "DELTA_BINARY_PACKED" for name in pictures} or None,
    )


def millimetres(depth: np.ndarray) -> np.ndarray:
    """Metres to `uint16` millimetres; what is not finite, not positive or beyond 65 m becomes 0, "not measured"."""
    measured = np.isfinite(depth) & (depth > 0) & (depth <= DEPTH_LIMIT)
    return np.rint(np.where(measured, depth, 0) / DEPTH_UNIT).astype(np.uint16)


def tasks_table(tasks: list[str]) -> pa.Table:
    """`meta/tasks.parquet` as pandas would write a frame indexed by the instruction, which is how LeRobot reads it."""
    index = "__index_level_0__"
    described = {
        "index_columns": [index],
        "column_indexes": [{"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object",
                            "metadata": {"encoding": "UTF-8"}}],
        "columns": [
            {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64", "metadata": None},
            {"name": None, "field_name": index, "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__}, "pandas_version": "2.2.3",
    }
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), index: pa.array(tasks, pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(described)})
