"""Long tables: a row per image and label, as databases and crowds of annotators write them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from manylabel.data.annotations import Annotations
from manylabel.data.formats.assemble import Row, assemble_rows
from manylabel.data.formats.cells import ABSENT, EXPECTED_CELL, PRESENT, STRANGE, UNKNOWN, read_cell
from manylabel.data.formats.columns import LABEL_COLUMN_NAMES, RECORD_COLUMN_NAMES, find_image_column
from manylabel.data.formats.delimited import SEPARATORS
from manylabel.data.formats.format import Evidence, ReadOptions
from manylabel.data.formats.problems import Problems
from manylabel.data.formats.source import Source
from manylabel.data.formats.table import Table
from manylabel.errors import DataError, build_message
from manylabel.files import write_text_atomically
from manylabel.labels.space import LabelSpace

VALUE_COLUMN_NAMES = ("value", "present", "state", "target", "answer", "is_present", "score", "confidence")
"""What the column may be called that says whether the label of the row is present."""

_MIN_SHARE = 0.05
"""Fewer images with several labels than this are mistakes in a table that has a row per image."""


def find_long(source: Source, options: ReadOptions) -> Evidence | None:
    """Return why a table has a row per image and label: images stand in several rows with different labels."""
    if source.kind != "table":
        return None
    table = source.table
    image = find_image_column(table, options.image_column)
    column = find_single_label_column(table, image.name, options.label_column)
    if column is None:
        return None
    value = find_value_column(table, [image.name, column])
    labels = table.values(column)
    if value is None and any(mark in cell for cell in set(labels) for mark in (*SEPARATORS, "[")):
        return None
    labels_of: dict[str, set[str]] = {}
    for name, label in zip(table.values(image.name), labels, strict=True):
        if name:  # a row that names no image is a mistake, in whatever layout
            labels_of.setdefault(name, set()).add(label)
    num_several = sum(len(few) > 1 for few in labels_of.values())
    if num_several < max(1, _MIN_SHARE * len(labels_of)):
        return None
    says = f"; column {value!r} says whether it is present" if value is not None else ""
    return (
        *table.evidence,
        image.evidence,
        f"labels: one per row in column {column!r}; {num_several:,} of {len(labels_of):,} images stand in several rows "
        f"with different labels{says}",
    )


def load_long(source: Source, options: ReadOptions) -> Annotations:
    """Read a long table: all rows of an image are brought together.

    Without a column of values the label of a row is present, an empty label is none, and what no row mentions is
    absent. With one, its cells are read as in a one-hot table, and what no row mentions is unknown. A label that is
    present in one row of an image and absent in another is unknown. Group, part and extra columns are those of the
    first row.

    Raises:
        DataError: no column of labels, or values that are no state (the first of them listed).
    """
    table = source.table
    image = find_image_column(table, options.image_column).name
    column = find_single_label_column(table, image, options.label_column)
    if column is None:
        raise DataError(
            build_message(table.path, "no column holds the label of a row", do="Name the column with --label-column")
        )
    value = find_value_column(table, [image, column])
    labels = table.values(column)
    states = [PRESENT] * len(labels) if value is None else _read_values(table, value, options)
    names = sorted({label for label in labels if label})
    rows_of: dict[str, list[int]] = {}
    for row, cell in enumerate(table.values(image)):
        rows_of.setdefault(cell, []).append(row)
    extras = [name for name in table.names if name not in (image, column, value, *RECORD_COLUMN_NAMES)]
    cells = {name: table.values(name) for name in (*extras, *RECORD_COLUMN_NAMES) if name in table.names}
    rows = []
    for cell, numbers in rows_of.items():
        present, unknown = _bring_together([(labels[row], states[row]) for row in numbers if labels[row]])
        if value is not None:
            mentioned = {labels[row] for row in numbers}
            unknown += [name for name in names if name not in mentioned]
        first = numbers[0]
        rows.append(
            Row(
                cell,
                f"{table.path} row {first + 1}",
                present,
                unknown,
                group=cells["group"][first] if "group" in cells else None,
                part=cells["part"][first] if "part" in cells else None,
                extras={name: cells[name][first] for name in extras},
            )
        )
    space = LabelSpace(tuple(names)) if names else None
    return assemble_rows(str(table.path), options.find_root(source), rows, space, is_exhaustive=value is None)


def save_long(annotations: Annotations, path: Path) -> None:
    """Write `image,label,value`, a row per image and label: 1 present, 0 absent, empty unknown.

    Group, part and extra columns stand in every row of an image. Labels come back in sorted order.

    Raises:
        RunError: the file cannot be written.
    """
    records = annotations.records
    columns = {"group": [record.group or "" for record in records], "part": [record.part or "" for record in records]}
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    for extra in dict.fromkeys(name for record in records for name in record.extras):
        if extra not in ("image", "label", *RECORD_COLUMN_NAMES, *VALUE_COLUMN_NAMES):
            columns[extra] = [record.extras.get(extra, "") for record in records]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "label", "value", *columns])
    for row, record in enumerate(records):
        present = set(annotations.targets.present_columns(row))
        unknown = set(annotations.targets.unknown_columns(row))
        beside = [cells[row] for cells in columns.values()]
        for number, name in enumerate(annotations.label_space.names):
            state = "" if number in unknown else "1" if number in present else "0"
            writer.writerow([record.id, name, state, *beside])
    write_text_atomically(path, text.getvalue())


def find_single_label_column(table: Table, image_column: str, wanted: str | None) -> str | None:
    """Return the column with the label of a row: the one asked for, else the one that is called so."""
    if wanted is not None:
        table.check_column(wanted)
        return wanted
    by_folded = {name.casefold(): name for name in table.names if name != image_column}
    return next((by_folded[known] for known in LABEL_COLUMN_NAMES if known in by_folded), None)


def find_value_column(table: Table, used: Sequence[str]) -> str | None:
    """Return the column that says whether the label is present: called so, and its cells are states."""
    by_folded = {name.casefold(): name for name in table.names if name not in used}
    soft = ReadOptions(soft=(0.5, 0.5))
    for known in VALUE_COLUMN_NAMES:
        if known in by_folded:
            distinct = set(table.values(by_folded[known]))
            if all(read_cell(cell, soft) != STRANGE for cell in distinct):
                return by_folded[known]
    return None


def _bring_together(pairs: Sequence[tuple[str, int]]) -> tuple[list[str], list[str]]:
    """Return the labels that are present and those that are unknown."""
    states_of: dict[str, set[int]] = {}
    for label, state in pairs:
        states_of.setdefault(label, set()).add(state)
    present = [label for label, found in states_of.items() if PRESENT in found and ABSENT not in found]
    unknown = [label for label, found in states_of.items() if found == {UNKNOWN} or {PRESENT, ABSENT} <= found]
    return present, unknown


def _read_values(table: Table, column: str, options: ReadOptions) -> list[int]:
    cells = table.values(column)
    state_of = {cell: read_cell(cell, options) for cell in set(cells)}
    problems = Problems()
    for row, cell in enumerate(cells):
        if state_of[cell] == STRANGE:
            where, do = f"{table.path} row {row + 1}", "Give --soft LOW,HIGH if such values are meant"
            problems.add(where, f"column {column!r} holds no state", got=cell, expected=EXPECTED_CELL, do=do)
    problems.stop_if_any()
    return [state_of[cell] for cell in cells]
