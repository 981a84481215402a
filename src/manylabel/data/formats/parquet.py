"""Parquet as a table of text: every kind of column is written out as a CSV would have it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manylabel.data.formats.table import ColumnBuilder, Table, check_names
from manylabel.errors import DataError, build_message, join_names
from manylabel.files import write_bytes_atomically

PARQUET_MARK = b"PAR1"
"""What every Parquet file begins with."""


def load_parquet(path: Path) -> Table:
    """Read a Parquet file with all its cells as text.

    Truth values become 1 and 0, whole numbers lose their `.0`, missing values and NaN become empty cells, and a list
    of names becomes a list that a column of labels may hold. Columns of anything else (bytes, structures) are left
    out, and `notes` names them.

    Raises:
        DataError: the file is damaged, has no row or a column twice, or has no column that can be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        columns = {name: ColumnBuilder() for name in _check_columns(path, file.schema_arrow)}
        for batch in file.iter_batches(columns=list(columns)):
            for name in columns if batch.num_rows else ():
                columns[name].add(_to_text(batch[name]))
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            build_message(path, f"the Parquet file cannot be read ({error})", do="Write it again")
        ) from error
    built = {name: column.build() for name, column in columns.items()}
    if not len(next(iter(built.values()))):
        raise DataError(build_message(path, "the table has no row", expected="one row per image"))
    left_out = [name for name in file.schema_arrow.names if name not in columns]
    notes = (f"left out, because they are no text, numbers or lists of them: {join_names(left_out)}",)
    return Table(path, built, "Parquet", "", has_header=True, notes=notes if left_out else ())


def save_parquet(path: Path, columns: Mapping[str, Sequence[str]]) -> None:
    """Write columns of text as Parquet.

    Raises:
        RunError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({name: pa.array(cells, pa.string()) for name, cells in columns.items()}), sink)
    write_bytes_atomically(path, sink.getvalue().to_pybytes())


def _check_columns(path: Path, schema: Any) -> list[str]:
    """Return the columns that can be written as text."""
    check_names(path, schema.names)
    readable = [field.name for field in schema if _is_readable(field.type)]
    if not readable:
        raise DataError(
            build_message(
                path,
                f"no column can be read (columns: {join_names(schema.names)})",
                expected="columns of text, numbers or lists of them",
            )
        )
    return readable


def _is_readable(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind) or types.is_list(kind) or types.is_large_list(kind):
        inner = kind.value_type
        return not types.is_nested(inner) and _is_readable(inner)
    return not (
        types.is_nested(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
    )


def _to_text(cells: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    kind = cells.type
    if types.is_dictionary(kind):
        return _to_text(cells.dictionary_decode())
    if types.is_list(kind) or types.is_large_list(kind):
        # Whatever stands in the lists, a reader of labels sees names: [3] and ["3"] are the same label.
        texts = (_to_text(pa.array(cell.values)) if cell.is_valid else None for cell in cells)
        return pa.array(["" if text is None else json.dumps(text.to_pylist()) for text in texts], pa.string())
    if types.is_boolean(kind):
        cells = cells.cast(pa.uint8())
    elif types.is_floating(kind):
        cells = pc.if_else(pc.is_nan(cells), None, cells).cast(pa.float64())
        text = cells.cast(pa.string())
        return pc.fill_null(pc.replace_substring_regex(text, r"\.0$", ""), "")
    return pc.fill_null(cells.cast(pa.string()), "")
