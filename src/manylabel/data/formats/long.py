"""Long tables: a row per image and label, as databases and crowds of annotators write them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manylabel.data.annotations import Annotations
from manylabel.data.findings import build_finding
from manylabel.data.formats.assemble import assemble_annotations
from manylabel.data.formats.cells import ABSENT, EXPECTED_CELL, PRESENT, STRANGE, read_cell, read_soft
from manylabel.data.formats.columns import LABEL_COLUMN_NAMES, RECORD_COLUMN_NAMES, find_image_column
from manylabel.data.formats.delimited import SEPARATORS
from manylabel.data.formats.format import Evidence, ReadOptions
from manylabel.data.formats.one_hot import find_policy_findings
from manylabel.data.formats.source import Source
from manylabel.data.formats.table import Table
from manylabel.errors import MAX_LISTED, DataError, build_message, join_names, join_problems
from manylabel.files import write_text_atomically
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets

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
    present in one row of an image and absent in another is unknown, and a finding names the image. Group, part and
    extra columns are those of the first row.

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
    names = sorted({label for label in labels if label})
    if not names:
        raise DataError(build_message(table.path, "no row has a label", expected="at least one that does"))
    space = LabelSpace(tuple(names))
    state_R = np.full(len(labels), PRESENT, np.int8) if value is None else _read_values(table, value, options)
    number_of: dict[str, int] = {}
    image_R = np.array([number_of.setdefault(cell, len(number_of)) for cell in table.values(image)], np.int64)
    column_R = np.array([space.index(label) if label else -1 for label in labels], np.int64)
    first_rows = np.unique(image_R, return_index=True)[1].tolist()
    targets, disputed = _bring_together(image_R, column_R, state_R, len(space), is_known=value is None)
    findings = [] if value is None else list(find_policy_findings(table, [value], options))
    if len(disputed):
        images = [list(number_of)[number] for number in disputed]
        message = (
            f"Images with a label that is 1 in one row and 0 in another: {join_names(images)}. It is unknown there."
        )
        findings.append(build_finding("contradicting-rows", message, images))
    used = [column] if value is None else [column, value]
    root = options.find_root(source)
    return assemble_annotations(
        table, root, image, used, space, targets, is_exhaustive=value is None, findings=findings, rows=first_rows
    )


def _bring_together(
    image_R: npt.NDArray[np.int64],
    column_R: npt.NDArray[np.int64],
    state_R: npt.NDArray[np.int8],
    num_labels: int,
    *,
    is_known: bool,
) -> tuple[Targets, npt.NDArray[np.int64]]:
    """Return the targets of the images, and the numbers of those whose rows contradict each other.

    Shapes: R rows of the table.

    Args:
        is_known: whether a label that no row mentions is absent.
    """
    num_images = int(image_R.max()) + 1
    bits_of = {}
    for state in (PRESENT, ABSENT):
        rows = np.flatnonzero((state_R == state) & (column_R >= 0))
        bits = np.zeros((num_images, (num_labels + 7) // 8), np.uint8)
        marks = (128 >> (column_R[rows] & 7)).astype(np.uint8)
        np.bitwise_or.at(bits, (image_R[rows], column_R[rows] >> 3), marks)
        bits_of[state] = bits
    present, absent = bits_of[PRESENT], bits_of[ABSENT]
    known = present ^ absent
    if is_known:
        known = np.broadcast_to(np.packbits(np.ones(num_labels, bool)), present.shape).copy()
    disputed = np.flatnonzero((present & absent).any(axis=1))
    return Targets(present & known, known, num_labels), disputed


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


def _read_values(table: Table, column: str, options: ReadOptions) -> npt.NDArray[np.int8]:
    cells = table.values(column)
    state_of = {cell: read_cell(cell, options) for cell in set(cells)}
    state_R = np.array([state_of[cell] for cell in cells], np.int8)
    strange = np.flatnonzero(state_R == STRANGE).tolist()
    if strange:
        problems = [
            build_message(
                table.where(row),
                f"column {column!r} holds no state",
                got=cells[row],
                expected=EXPECTED_CELL,
                do="Give --soft LOW,HIGH if such values are meant" if read_soft(cells[row]) is not None else "",
            )
            for row in strange[:MAX_LISTED]
        ]
        raise DataError(join_problems(problems, total=len(strange)))
    return state_R
