"""Delimited tables: one row per image with its labels in one cell, and the canonical table that `split` writes."""

from __future__ import annotations

import ast
import csv
import io
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from manylabel.data.annotations import Annotations
from manylabel.data.formats.assemble import assemble_annotations
from manylabel.data.formats.columns import LABEL_COLUMN_NAMES, RECORD_COLUMN_NAMES, find_image_column
from manylabel.data.formats.format import Evidence, ReadOptions
from manylabel.data.formats.parquet import save_parquet
from manylabel.data.formats.source import Source
from manylabel.data.formats.table import Table
from manylabel.errors import MAX_LISTED, DataError, build_message, join_names, join_problems, suggest_name
from manylabel.files import write_text_atomically
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets

LIST = "list"
SEPARATORS = ("|", ";", ",")
CANONICAL_SEPARATOR = "|"
"""What joins the labels of a cell in every table that we write."""

UNKNOWN_COLUMN = "unknown"
"""The column that names the labels nobody knows of the image."""


@dataclass(frozen=True)
class LabelColumn:
    """The column that lists the labels, what joins them, and why it was taken for it."""

    name: str
    separator: str
    evidence: str


def find_label_column(table: Table, image_column: str, wanted: str | None = None) -> LabelColumn | None:
    """Return the column that lists the labels of an image: the one asked for, else by its name, else the only one left.

    Returns None where no column qualifies.

    Raises:
        DataError: the column asked for does not exist.
    """
    if wanted is not None:
        return _describe_column(table, wanted, "as asked")
    no_labels = (image_column, UNKNOWN_COLUMN, *RECORD_COLUMN_NAMES)
    others = [name for name in table.names if name not in no_labels]
    by_folded = {name.casefold(): name for name in others}
    for known_name in LABEL_COLUMN_NAMES:
        if known_name in by_folded:
            return _describe_column(table, by_folded[known_name], "by its name")
    if len(others) == 1:
        return _describe_column(table, others[0], "the only other column")
    return None


def find_delimited(source: Source, options: ReadOptions) -> Evidence | None:
    """Return why a table lists the labels of an image in a cell: any table does that has no better layout."""
    if source.kind != "table":
        return None
    table = source.table
    image = find_image_column(table, options.image_column)
    listing = find_label_column(table, image.name, options.label_column)
    labels = listing.evidence if listing is not None else "labels: no column found"
    return (*table.evidence, image.evidence, labels)


def load_delimited(source: Source, options: ReadOptions) -> Annotations:
    """Read a table with the labels of an image in one cell: joined by `|`, `;`, `,` or a blank, or a list.

    An empty cell is the empty set: none of the labels is present. A column `unknown` names, in the same way, labels
    that nobody knows of the image. A file `NAME.labels.txt` beside `NAME.csv` gives the names and their order, one per
    line, and says that the table speaks of no other label; without it they are the sorted names that occur.

    Raises:
        DataError: no column lists labels, a list cannot be read, or a label is not among those of `NAME.labels.txt`.
    """
    table = source.table
    image = find_image_column(table, options.image_column).name
    column = find_label_column(table, image, options.label_column)
    if column is None:
        raise DataError(_describe_no_column(table, image))
    present = _read_cells(table, column.name, column.separator)
    used = [column.name]
    unknown: list[list[str]] = [[] for _ in present]
    if UNKNOWN_COLUMN in table.names:
        unknown = _read_cells(table, UNKNOWN_COLUMN, column.separator)
        used.append(UNKNOWN_COLUMN)
    space = _find_label_space(table, present, unknown)
    targets = Targets.from_columns(
        [[space.index(label) for label in labels] for labels in present],
        len(space),
        [[space.index(label) for label in labels] for labels in unknown],
    )
    # A table with a list of names speaks of these names only: of any other label nothing is known.
    is_exhaustive = not label_names_path(table.path).is_file()
    root = options.find_root(source)
    return assemble_annotations(table, root, image, used, space, targets, is_exhaustive=is_exhaustive)


def save_delimited(annotations: Annotations, path: Path) -> None:
    """Write the canonical table: `image,labels[,unknown][,group][,part]`, labels joined by `|`, UTF-8, sorted.

    What the cells alone would not give back is kept in `NAME.labels.txt` beside it: names that no cell mentions,
    another order than the sorted one, names in which a reader would see a separator, and that nothing is known of
    labels beyond these (tables with a column per label). `NAME.parquet` becomes Parquet with the same columns.

    Raises:
        DataError: a label's name contains `|`.
        RunError: the file cannot be written.
    """
    names = annotations.label_space.names
    joined = [name for name in names if CANONICAL_SEPARATOR in name]
    if joined:
        raise DataError(
            build_message(
                path, f"label names contain {CANONICAL_SEPARATOR!r}: {join_names(joined)}", do="Rename these labels"
            )
        )
    order = sorted(range(len(annotations)), key=lambda row: annotations.records[row].id)
    records = [annotations.records[row] for row in order]
    labels = [CANONICAL_SEPARATOR.join(annotations.labels_of(row)) for row in order]
    unknown = [
        CANONICAL_SEPARATOR.join(names[column] for column in annotations.targets.unknown_columns(row)) for row in order
    ]
    columns = {
        "image": [record.id for record in records],
        "labels": labels,
        UNKNOWN_COLUMN: unknown,
        "group": ["" if record.group is None else record.group for record in records],
        "part": ["" if record.part is None else record.part for record in records],
    }
    used = {name: cells for name, cells in columns.items() if name in ("image", "labels") or any(cells)}
    extras = dict.fromkeys(name for record in records for name in record.extras)
    used |= {name: [record.extras.get(name, "") for record in records] for name in extras if name not in columns}
    if path.suffix.lower() == ".parquet":
        save_parquet(path, used)
    else:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(used)
        writer.writerows(zip(*used.values(), strict=True))
        write_text_atomically(path, text.getvalue())
    _save_label_names(annotations, labels, path)


def label_names_path(path: Path) -> Path:
    """Return where the names of the labels of a table stand, if they stand anywhere: `NAME.labels.txt`."""
    return path.with_name(path.stem + ".labels.txt")


def _save_label_names(annotations: Annotations, labels: list[str], path: Path) -> None:
    targets, names = annotations.targets, annotations.label_space.names
    mentioned = targets.num_present_L + targets.num_unknown_L > 0
    is_read_alike = _find_separator([cell for cell in labels if cell])[0] == CANONICAL_SEPARATOR
    sidecar = label_names_path(path)
    if annotations.is_exhaustive and mentioned.all() and list(names) == sorted(names) and is_read_alike:
        sidecar.unlink(missing_ok=True)
    else:
        write_text_atomically(sidecar, "".join(f"{name}\n" for name in names))


def _load_label_names(path: Path) -> LabelSpace | None:
    sidecar = label_names_path(path)
    if not sidecar.is_file():
        return None
    # Not splitlines: it also cuts at characters that a name may hold.
    lines = sidecar.read_text("utf-8-sig").split("\n")
    return LabelSpace(tuple(line.strip() for line in lines if line.strip()))


def _find_label_space(table: Table, *cells: list[list[str]]) -> LabelSpace:
    occurring = {label for rows in cells for labels in rows for label in labels}
    space = _load_label_names(table.path)
    if space is None:
        if not occurring:
            raise DataError(
                build_message(table.path, "no image has any label", expected="at least one cell with a label")
            )
        return LabelSpace(tuple(sorted(occurring)))
    surplus = sorted(occurring - set(space.names))
    if surplus:
        sidecar = label_names_path(table.path).name
        raise DataError(
            build_message(
                table.path,
                f"labels that {sidecar} does not name: {join_names(surplus)}{suggest_name(surplus[0], space)}",
                do=f"Add them to {sidecar} or delete that file",
            )
        )
    return space


def _describe_no_column(table: Table, image: str) -> str:
    others = [name for name in table.names if name not in (image, *RECORD_COLUMN_NAMES)]
    blank = [name for name in others if not any(table.values(name))]
    if blank and len(blank) == len(others):
        return build_message(
            table.path,
            f"nobody has labelled anything yet: every cell of {join_names(blank)} is empty",
            expected="1 where a label is present and 0 where it is absent",
        )
    return build_message(
        table.path,
        f"no column lists labels (columns: {join_names(table.names)})",
        expected="a column 'labels', or a 0/1 column per label",
        do="Name the column with --label-column",
    )


def _describe_column(table: Table, name: str, why: str) -> LabelColumn:
    cells = [cell for cell in table.values(name) if cell]
    space = _load_label_names(table.path)
    if space is not None and _are_all_named(cells, space):
        separator, meaning = CANONICAL_SEPARATOR, f"cells are names of {label_names_path(table.path).name}"
    else:
        separator, meaning = _find_separator(cells)
    return LabelColumn(name, separator, f"labels: column {name!r}, {why}; {meaning}")


def _are_all_named(cells: list[str], space: LabelSpace) -> bool:
    return all(label in space for cell in set(cells) for label in _split_cell(cell, CANONICAL_SEPARATOR))


def _find_separator(cells: list[str]) -> tuple[str, str]:
    if cells and sum(_looks_like_list(cell) for cell in cells) > len(cells) / 2:
        return LIST, f"cells are lists such as {cells[0]}"
    for separator in SEPARATORS:
        num_with = sum(separator in cell for cell in cells)
        if num_with:
            return separator, f"{num_with} cells are joined by {separator!r}"
    if _is_joined_by_blanks(cells):
        return " ", "cells are names joined by blanks"
    return CANONICAL_SEPARATOR, "one label per cell"


def _is_joined_by_blanks(cells: list[str]) -> bool:
    """Blanks join names when the words make a smaller vocabulary than the cells; else they stand inside names."""
    distinct = set(cells)
    words = Counter(word for cell in distinct for word in cell.split())
    return any(" " in cell for cell in distinct) and len(words) < len(distinct)


def _looks_like_list(cell: str) -> bool:
    return cell.startswith("[") and cell.endswith("]")


def _read_cells(table: Table, name: str, separator: str) -> list[list[str]]:
    cells = table.values(name)
    if separator != LIST:
        return [_split_cell(cell, separator) for cell in cells]
    rows = [_read_list(cell) for cell in cells]
    bad_rows = [row for row, labels in enumerate(rows) if labels is None]
    if bad_rows:
        problems = [
            build_message(table.where(row), f"column {name!r} is not a list", got=cells[row], expected="['a', 'b']")
            for row in bad_rows[:MAX_LISTED]
        ]
        raise DataError(join_problems(problems, total=len(bad_rows)))
    return [labels for labels in rows if labels is not None]


def split_label_cells(cells: list[str]) -> list[list[str]]:
    """Return the names that each cell lists, joined or as a list; what joins them is found as for a column of labels.

    Example:
        >>> split_label_cells(["['War', 'Drama']", "[]"]), split_label_cells(["War;Drama", ""])
        ([['War', 'Drama'], []], [['War', 'Drama'], []])
    """
    separator = _find_separator([cell.strip() for cell in cells if cell.strip()])[0]
    if separator != LIST:
        return [_split_cell(cell, separator) for cell in cells]
    lists = (_read_list(cell.strip()) for cell in cells)
    return [[] if labels is None else labels for labels in lists]


def _split_cell(cell: str, separator: str) -> list[str]:
    parts = cell.split() if separator == " " else cell.split(separator)
    return list(dict.fromkeys(label for label in (part.strip() for part in parts) if label))


def _read_list(cell: str) -> list[str] | None:
    """Read a JSON or Python list of names or whole numbers; None where it is neither. Nothing is executed."""
    if not cell:
        return []
    try:
        values = json.loads(cell)
    except (ValueError, RecursionError):
        try:
            values = ast.literal_eval(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    if not isinstance(values, list) or any(type(value) not in (str, int) for value in values):
        return None
    return list(dict.fromkeys(label for label in (str(value).strip() for value in values) if label))
