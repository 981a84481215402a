"""Text tables: encoding, delimiter and header found by content, every cell kept as the text it is.

`N/A`, `NA` and `null` are text like any other: only a reader of labels decides what a cell means.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manylabel.data.images import IMAGE_EXTENSIONS
from manylabel.errors import DataError, build_message, join_names, join_problems, suggest_name

TABLE_EXTENSIONS = (".csv", ".tsv", ".txt")
_DELIMITERS = (",", ";", "\t", "|")
_HEAD_CHARACTERS = 65_536
_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True, eq=False)
class Table:
    """The columns of a text table, in order, as Arrow arrays of text.

    `lines` are not stored: `where` walks the file again when an error has to name one.
    """

    path: Path
    columns: dict[str, Any]
    encoding: str
    delimiter: str
    has_header: bool

    @property
    def num_rows(self) -> int:
        """The number of rows below the header."""
        return len(next(iter(self.columns.values())))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(self.columns)

    def values(self, name: str) -> list[str]:
        """Return the cells of a column, blanks around them removed.

        Raises:
            DataError: there is no such column; the message suggests the nearest.
        """
        if name not in self.columns:
            raise DataError(
                build_message(
                    self.path,
                    f"there is no column {name!r}{suggest_name(name, self.names)}",
                    expected=f"one of {join_names(self.names)}",
                )
            )
        return [value.strip() for value in self.columns[name].to_pylist()]

    def where(self, row: int) -> str:
        """Return `labels.csv line 812` for the row (0 is the first below the header)."""
        text = _decode(self.path, self.path.read_bytes())[0]
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=self.delimiter)
        wanted = row + (1 if self.has_header else 0)
        for _ in (cells for cells in reader if cells):
            if wanted == 0:
                break
            wanted -= 1
        return f"{self.path} line {reader.line_num}"


def load_table(path: Path) -> Table:
    """Read a text table with all its cells as text.

    Raises:
        DataError: the file is missing, empty, not text, has a header only, names a column twice, or has rows of
            another length than the header (all of them listed).
    """
    if not path.is_file():
        raise DataError(build_message(path, "there is no such table", do="Check the path"))
    data = path.read_bytes()
    if not data.strip():
        raise DataError(build_message(path, "the table is empty", expected="a header and a row per image"))
    text, encoding = _decode(path, data)
    delimiter = _detect_delimiter(text)
    header = next(cells for cells in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if cells)
    has_header = not any(cell.strip().lower().endswith(IMAGE_EXTENSIONS) for cell in header)
    names = [cell.strip() for cell in header] if has_header else _name_columns(len(header))
    _check_names(path, names)
    return Table(path, _read_columns(path, text, delimiter, names, has_header), encoding, delimiter, has_header)


def _decode(path: Path, data: bytes) -> tuple[str, str]:
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding, errors="replace"), encoding
    if b"\x00" in data[:_HEAD_CHARACTERS]:
        raise DataError(build_message(path, "not a text table", do="Give a CSV or TSV file with one row per image"))
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace"), "cp1252"


def _detect_delimiter(text: str) -> str:
    """Choose the delimiter that cuts the first rows into the same number of cells, more than one."""
    head = text[:_HEAD_CHARACTERS]
    if len(text) > _HEAD_CHARACTERS:
        head = head[: head.rfind("\n") + 1] or head

    def score(delimiter: str) -> tuple[float, int]:
        widths = [len(row) for row in _read_rows(head, delimiter, 50)]
        return sum(width == widths[0] for width in widths) / len(widths) if widths[0] > 1 else 0.0, widths[0]

    return max(_DELIMITERS, key=score)


def _read_rows(text: str, delimiter: str, limit: int) -> list[list[str]]:
    rows: Iterator[list[str]] = (row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row)
    return [row for row, _ in zip(rows, range(limit), strict=False)]


def _name_columns(count: int) -> list[str]:
    return ["image", "labels"] if count == 2 else [f"column_{number}" for number in range(1, count + 1)]


def _check_names(path: Path, names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        shown = join_names([name if name else "(empty)" for name in repeated])
        raise DataError(build_message(path, f"columns stand twice in the header: {shown}", do="Rename or remove them"))


def _read_columns(path: Path, text: str, delimiter: str, names: list[str], has_header: bool) -> dict[str, Any]:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    bad_rows: list[Any] = []

    def note_bad_row(row: Any) -> str:
        bad_rows.append(row)
        return "skip"

    table = arrow_csv.read_csv(
        io.BytesIO(text.encode("utf-8")),
        read_options=arrow_csv.ReadOptions(column_names=names, skip_rows=0, use_threads=False),
        parse_options=arrow_csv.ParseOptions(
            delimiter=delimiter, newlines_in_values='"' in text, invalid_row_handler=note_bad_row
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, quoted_strings_can_be_null=False
        ),
    )
    if has_header:
        table = table.slice(1)
    if bad_rows:
        raise DataError(_describe_bad_rows(path, text, delimiter, len(names)))
    if table.num_rows == 0:
        raise DataError(build_message(path, "the table has a header but no row", expected="one row per image"))
    return {name: table.column(name) for name in names}


def _describe_bad_rows(path: Path, text: str, delimiter: str, width: int) -> str:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return join_problems(
        [
            build_message(
                f"{path} line {reader.line_num}", f"the row has {len(row)} cells", expected=f"{width} as in the header"
            )
            for row in reader
            if row and len(row) != width
        ]
    )
