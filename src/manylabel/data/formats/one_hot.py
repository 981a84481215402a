"""One-hot tables: a column that names the image, and one column per label with 1, 0 or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.data.annotations import Annotations
from manylabel.data.findings import Finding
from manylabel.data.formats.assemble import assemble_annotations
from manylabel.data.formats.columns import RECORD_COLUMN_NAMES, find_image_column
from manylabel.data.formats.delimited import LabelColumn, find_label_column
from manylabel.data.formats.format import Evidence, ReadOptions
from manylabel.data.formats.source import Source
from manylabel.data.formats.table import Table
from manylabel.errors import MAX_LISTED, DataError, build_message, join_names, join_problems
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets

PRESENT, ABSENT, UNKNOWN, STRANGE = 1, 0, -1, -2
STATE_OF_CELL: Mapping[str, int] = {
    "1": PRESENT, "1.0": PRESENT, "true": PRESENT,
    "0": ABSENT, "0.0": ABSENT, "false": ABSENT,
    "": UNKNOWN, "nan": UNKNOWN, "-1": UNKNOWN, "-1.0": UNKNOWN, "?": UNKNOWN,
}  # fmt: skip
_MAX_STRANGE_SHARE = 0.05
"""A column with more strange cells than this is not a column of labels; with fewer, the strange cells are mistakes."""

StateArray = npt.NDArray[np.int8]


def find_label_columns(table: Table, image_column: str) -> list[str]:
    """Return the columns that hold a 0/1 state in nearly every row."""
    return [
        name
        for name in table.names
        if name != image_column and name not in RECORD_COLUMN_NAMES and _is_state_column(table.columns[name])
    ]


def find_one_hot(source: Source, options: ReadOptions) -> Evidence | None:
    """Return why a table has a column per label, or None where it has not.

    A column called `labels` lists them, whatever 0/1 columns stand beside it, unless it is one of several 0/1 columns
    itself. A label column that was asked for is the only label if it holds 0 and 1.
    """
    if source.kind != "table":
        return None
    table = source.table
    image = find_image_column(table, options.image_column)
    names = find_label_columns(table, image.name)
    if not _is_one_hot(names, find_label_column(table, image.name, options.label_column), options.label_column):
        return None
    if options.label_column is not None:
        labels = f"labels: column {options.label_column!r} of 0, 1 and unknown, as asked"
        return (*table.evidence, image.evidence, labels)
    evidence = [f"labels: columns that hold only 0, 1 and unknown: {len(names)}"]
    extras = [name for name in table.names if name not in (*names, image.name, *RECORD_COLUMN_NAMES)]
    evidence += [f"kept as extra columns: {join_names(extras)}"] if extras else []
    return (*table.evidence, image.evidence, *evidence)


def _is_one_hot(state_columns: list[str], listing: LabelColumn | None, label_column: str | None) -> bool:
    if listing is not None and listing.name.casefold() == "labels":
        return len(state_columns) > 1 and listing.name in state_columns
    return bool(state_columns) and (label_column is None or label_column in state_columns)


def load_one_hot(source: Source, options: ReadOptions) -> Annotations:
    """Read a one-hot table: 1 is present, 0 absent; empty, NaN, -1 and ? are unknown; other columns are extras.

    Raises:
        DataError: no column holds 0 and 1, or single cells of a label's column hold something else (all listed).
    """
    table, label_column = source.table, options.label_column
    image = find_image_column(table, options.image_column).name
    if label_column is not None:
        table.check_column(label_column)
    names = find_label_columns(table, image) if label_column is None else [label_column]
    if not names:
        raise DataError(
            build_message(
                table.path,
                f"no column holds only 0 and 1 (columns: {join_names(table.names)})",
                expected="a column per label",
            )
        )
    states = [_read_states(table.columns[name]) for name in names]
    _check_cells(table, names, states)
    state_NL = np.stack(states, axis=1)
    targets = Targets.from_dense(state_NL == PRESENT, state_NL != UNKNOWN)
    findings = [] if label_column is not None else _find_doubtful_columns(table, [image, *names])
    root = options.find_root(source)
    return assemble_annotations(
        table, root, image, names, LabelSpace(tuple(names)), targets, is_exhaustive=False, findings=findings
    )


def _find_doubtful_columns(table: Table, used: list[str]) -> list[Finding]:
    """Say which columns look half like a label's: with too much else in them for mistakes, they became extras."""
    findings = []
    for name in table.names:
        if name in used or name in RECORD_COLUMN_NAMES:
            continue
        state_N = _read_states(table.columns[name])
        strange = np.flatnonzero(state_N == STRANGE)
        if len(strange) and np.count_nonzero(state_N >= ABSENT) >= len(state_N) / 2:
            row = int(strange[0])
            message = (
                f"Column {name!r} holds 0 and 1 but also {table.columns[name][row].as_py()!r} ({table.where(row)}): "
                "it was kept as an extra, not as a label."
            )
            findings.append(Finding("warning", "doubtful-column", message, (name,), "Correct it if it is a label"))
    return findings


def _encode(column: Any) -> tuple[StateArray, npt.NDArray[np.int32]]:
    """Return the state of each distinct cell, and which distinct cell stands in each row."""
    encoded = column.combine_chunks().dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    states = np.array([STATE_OF_CELL.get(cell.strip().lower(), STRANGE) for cell in distinct], np.int8)
    return states, encoded.indices.to_numpy()


def _read_states(column: Any) -> StateArray:
    states, rows = _encode(column)
    return states[rows]


def _is_state_column(column: Any) -> bool:
    states, rows = _encode(column)
    counts = np.bincount(rows, minlength=len(states))
    num_strange = counts[states == STRANGE].sum()
    num_stated = counts[states >= ABSENT].sum()
    return bool(num_stated > 0 and num_strange <= _MAX_STRANGE_SHARE * len(rows))


def _check_cells(table: Table, names: list[str], states: list[StateArray]) -> None:
    strange = [
        (int(row), name)
        for name, state_N in zip(names, states, strict=True)
        for row in np.flatnonzero(state_N == STRANGE)
    ]
    if strange:
        strange.sort(key=lambda cell: cell[0])
        problems = [_describe_cell(table, name, row) for row, name in strange[:MAX_LISTED]]
        raise DataError(join_problems(problems, total=len(strange)))


def _describe_cell(table: Table, name: str, row: int) -> str:
    return build_message(
        table.where(row),
        f"column {name!r} holds neither 0 nor 1",
        got=table.columns[name][row].as_py(),
        expected="1, 0, or for unknown: empty, NaN, -1 or ?",
    )
