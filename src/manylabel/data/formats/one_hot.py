"""One-hot tables: a column that names the image, and one column per label with 1, 0 or nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.data.annotations import Annotations
from manylabel.data.findings import Finding, build_finding
from manylabel.data.formats.assemble import assemble_annotations
from manylabel.data.formats.cells import (
    ABSENT,
    BLANK_CELLS,
    EXPECTED_CELL,
    PRESENT,
    STATE_OF_CELL,
    STRANGE,
    UNCERTAIN_CELLS,
    UNKNOWN,
    StateArray,
    read_cells,
    read_soft,
)
from manylabel.data.formats.columns import LABEL_COLUMN_NAMES, RECORD_COLUMN_NAMES, find_image_column
from manylabel.data.formats.delimited import UNKNOWN_COLUMN, LabelColumn, find_label_column
from manylabel.data.formats.format import Evidence, ReadOptions
from manylabel.data.formats.source import Source
from manylabel.data.formats.table import Table
from manylabel.errors import MAX_LISTED, DataError, build_message, join_names, join_problems
from manylabel.files import write_text_atomically
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets

_MAX_STRANGE_SHARE = 0.05
"""A column with more strange cells than this is not a column of labels; with fewer, the strange cells are mistakes."""

_ROWS_LOOKED_AT = 1000
_ROWS_AT_ONCE = 65_536
_PLAIN = ReadOptions()
_WITH_SOFT = ReadOptions(soft=(0.5, 0.5))


def find_label_columns(table: Table, image_column: str, options: ReadOptions) -> list[str]:
    """Return the columns that hold a 0/1 state (soft ones too, if asked for) in nearly every row."""
    return [
        name
        for name in table.names
        if name != image_column and name not in RECORD_COLUMN_NAMES and _is_state_column(table.columns[name], options)
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
    names = find_label_columns(table, image.name, options)
    listing = find_label_column(table, image.name, options.label_column)
    is_listed = options.label_column is not None or (listing and listing.name.casefold() in LABEL_COLUMN_NAMES)
    soft_columns = [] if names or is_listed else _find_soft_columns(table, [image.name])
    if soft_columns:
        labels = f"labels: columns that hold numbers between 0 and 1: {len(soft_columns)}"
        return (*table.evidence, image.evidence, labels)
    if not _is_one_hot(names, listing, options.label_column):
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
        others = set(state_columns) - {listing.name, UNKNOWN_COLUMN}  # a label may be called 0
        return bool(others) and listing.name in state_columns
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
    names = find_label_columns(table, image, options) if label_column is None else [label_column]
    if not names:
        raise DataError(_describe_no_states(table, _find_soft_columns(table, [image])))
    targets = _read_targets(table, names, options)
    findings = [] if label_column is not None else _find_doubtful_columns(table, [image, *names], options)
    findings += find_policy_findings(table, names, options)
    root = options.find_root(source)
    return assemble_annotations(
        table, root, image, names, LabelSpace(tuple(names)), targets, is_exhaustive=False, findings=findings
    )


def save_one_hot(annotations: Annotations, path: Path) -> None:
    """Write a column per label: 1 present, 0 absent, empty unknown; then group, part and the extra columns.

    Raises:
        DataError: a label is called like another column, or an extra column would be read as a label.
        RunError: the file cannot be written.
    """
    names, records = annotations.label_space.names, annotations.records
    columns = {"group": [record.group or "" for record in records], "part": [record.part or "" for record in records]}
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    for extra in dict.fromkeys(name for record in records for name in record.extras):
        columns.setdefault(extra, [record.extras.get(extra, "") for record in records])
    taken = [name for name in names if name in ("image", *RECORD_COLUMN_NAMES, *columns) or name != name.strip()]
    states = [name for name, cells in columns.items() if name not in RECORD_COLUMN_NAMES and _are_states(cells)]
    if taken or states:
        problem = (
            f"labels called like other columns: {join_names(taken)}"
            if taken
            else f"extra columns that hold 0 and 1 would be read as labels: {join_names(states)}"
        )
        raise DataError(build_message(path, problem, do="Rename them, or write another layout"))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", *names, *columns])
    for row, record in enumerate(records):
        present, known = annotations.targets.present_NL([row])[0], annotations.targets.known_NL([row])[0]
        cells = ["1" if one else "0" if other else "" for one, other in zip(present, known, strict=True)]
        writer.writerow([record.id, *cells, *(column[row] for column in columns.values())])
    write_text_atomically(path, text.getvalue())


def _are_states(cells: Sequence[str]) -> bool:
    states = read_cells(cells, _PLAIN)
    return bool((states >= ABSENT).any() and (states == STRANGE).mean() <= _MAX_STRANGE_SHARE)


def _read_targets(table: Table, names: list[str], options: ReadOptions) -> Targets:
    """Read columns of states and pack them, some thousand rows at a time: no dense table is built."""
    states = [_read_states(table.columns[name], options) for name in names]
    _check_cells(table, names, states)
    num_rows, num_labels = len(states[0]), len(states)
    present = np.zeros((num_rows, (num_labels + 7) // 8), np.uint8)
    known = np.zeros_like(present)
    for start in range(0, num_rows, _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        state_NL = np.stack([state_N[rows] for state_N in states], axis=1)
        present[rows] = np.packbits(state_NL == PRESENT, axis=1)
        known[rows] = np.packbits(state_NL != UNKNOWN, axis=1)
    return Targets(present, known, num_labels)


def find_policy_findings(table: Table, names: Sequence[str], options: ReadOptions) -> Iterator[Finding]:
    """Yield how many cells each policy decided that is not the usual one, and how many were soft."""
    counts = {"blank": 0, "uncertain": 0, "soft": 0}
    for name in names:
        cells, rows = _encode(table.columns[name])
        number_of = np.bincount(rows, minlength=len(cells))
        for cell, number in zip(cells, number_of.tolist(), strict=True):
            kind = _find_policy(cell.strip().lower())
            if kind:
                counts[kind] += number
    if options.blank != "unknown" and counts["blank"]:
        yield _build_policy_finding("blank", f"{counts['blank']:,} empty cells were read as {options.blank}")
    if options.uncertain != "unknown" and counts["uncertain"]:
        yield _build_policy_finding(
            "uncertain", f"{counts['uncertain']:,} cells of -1 were read as {options.uncertain}"
        )
    if options.soft is not None and counts["soft"]:
        low, high = options.soft
        yield _build_policy_finding(
            "soft",
            f"{counts['soft']:,} cells between 0 and 1: up to {low:g} absent, from {high:g} present, else unknown",
        )


def _find_policy(word: str) -> str:
    if word in STATE_OF_CELL:
        return ""
    if word in BLANK_CELLS:
        return "blank"
    return "uncertain" if word in UNCERTAIN_CELLS else "soft"


def _build_policy_finding(flag: str, what: str) -> Finding:
    return build_finding("cells-decided", f"{what} (--{flag}).")


def _find_soft_columns(table: Table, used: Sequence[str]) -> list[str]:
    """Return the columns that would hold states if numbers between 0 and 1 were read."""
    return [
        name
        for name in table.names
        if name not in (*used, *RECORD_COLUMN_NAMES) and _is_state_column(table.columns[name], _WITH_SOFT)
    ]


def _describe_no_states(table: Table, soft_columns: Sequence[str]) -> str:
    if soft_columns:
        return build_message(
            table.path,
            f"columns hold numbers between 0 and 1, and where present begins is not said: {join_names(soft_columns)}",
            do="Give --soft LOW,HIGH such as 0.3,0.7: up to LOW absent, from HIGH present, between them unknown",
        )
    return build_message(
        table.path,
        f"no column holds only 0 and 1 (columns: {join_names(table.names)})",
        expected="a column per label",
    )


def _find_doubtful_columns(table: Table, used: list[str], options: ReadOptions) -> list[Finding]:
    """Say which columns look half like a label's: with too much else in them for mistakes, they became extras."""
    soft_columns = _find_soft_columns(table, used)
    findings = [
        build_finding(
            "doubtful-column",
            f"Column {name!r} holds numbers between 0 and 1: it was kept as an extra, not as a label. "
            "--soft LOW,HIGH makes it a label.",
            [name],
        )
        for name in soft_columns
    ]
    for name in table.names:
        if name in used or name in RECORD_COLUMN_NAMES or name in soft_columns:
            continue
        state_N = _read_states(table.columns[name], options)
        strange = np.flatnonzero(state_N == STRANGE)
        if len(strange) and np.count_nonzero(state_N >= ABSENT) >= len(state_N) / 2:
            row = int(strange[0])
            message = (
                f"Column {name!r} holds 0 and 1 but also {table.columns[name][row].as_py()!r} ({table.where(row)}): "
                "it was kept as an extra, not as a label."
            )
            findings.append(Finding("warning", "doubtful-column", message, (name,), "Correct it if it is a label"))
    return findings


def _encode(column: Any) -> tuple[list[str], npt.NDArray[np.int32]]:
    """Return the distinct cells, and which of them stands in each row."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()


def _read_states(column: Any, options: ReadOptions) -> StateArray:
    cells, rows = _encode(column)
    return read_cells(cells, options)[rows]


def _is_state_column(column: Any, options: ReadOptions) -> bool:
    head = column[:_ROWS_LOOKED_AT]
    for part in (head, column) if len(column) > len(head) else (column,):  # most columns are told by their head
        cells, rows = _encode(part)
        states = read_cells(cells, _WITH_SOFT if options.soft is not None else _PLAIN)
        counts = np.bincount(rows, minlength=len(states))
        num_strange = counts[states == STRANGE].sum()
        if num_strange > (_MAX_STRANGE_SHARE if part is column else 0.5) * len(rows):
            return False
    num_stated = counts[states >= ABSENT].sum()
    return bool(num_stated > 0)


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
        expected=EXPECTED_CELL,
        do="Give --soft LOW,HIGH if such cells are meant"
        if read_soft(table.columns[name][row].as_py().strip())
        else "",
    )
