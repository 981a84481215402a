"""Text tables: encoding, delimiter and header found by content, every cell kept as the text it is.

`N/A`, `NA` and `null` are text like any other: only a reader of labels decides what a cell means.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manylabel.data.images import IMAGE_EXTENSIONS
from manylabel.errors import MAX_LISTED, DataError, build_message, join_names, join_problems, suggest_name

TABLE_EXTENSIONS = (".csv", ".tsv")
"""What makes a file in a folder a table; a table that is named may have any extension."""

_DELIMITERS = (",", ";", "\t", "|")
_HEAD_CHARACTERS = 65_536
_ROWS_LOOKED_AT = 50
_BLOCK_BYTES = 1 << 24  # no row may be longer
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
    def evidence(self) -> tuple[str, ...]:
        """What was found of the file itself, in a sentence."""
        return (
            f"{self.num_rows} rows, {len(self.names)} columns, {self.encoding}, cells parted by {self.delimiter!r}",
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(self.columns)

    def values(self, name: str) -> list[str]:
        """Return the cells of a column, blanks around them removed.

        Raises:
            DataError: there is no such column; the message suggests the nearest.
        """
        self.check_column(name)
        return [value.strip() for value in self.columns[name].to_pylist()]

    def check_column(self, name: str) -> None:
        """Stop where there is no such column; the message suggests the nearest."""
        if name not in self.columns:
            raise DataError(
                build_message(
                    self.path,
                    f"there is no column {name!r}{suggest_name(name, self.names)}",
                    expected=f"one of {join_names(self.names)}",
                )
            )

    def where(self, row: int) -> str:
        """Return `labels.csv line 812` for the row (0 is the first below the header)."""
        text, _ = _decode(self.path, _read_bytes(self.path))
        wanted = row + (1 if self.has_header else 0)
        lines = (line for line, _ in _walk_rows(self.path, text, self.delimiter))
        return f"{self.path} line {next(itertools.islice(lines, wanted, None))}"


def load_table(path: Path) -> Table:
    """Read a text table with all its cells as text.

    Raises:
        DataError: the file is missing, empty, not text, has a header only, names a column twice, never closes a quote,
            or has rows of another length than the header (the first of them listed).
    """
    if not path.is_file():
        raise DataError(build_message(path, "there is no such table", do="Check the path"))
    data = _read_bytes(path)
    text, encoding = _decode(path, data)
    if not text.strip():
        raise DataError(build_message(path, "the table is empty", expected="a header and a row per image"))
    if text.lstrip().startswith(("{", "[")):
        raise DataError(build_message(path, "this is JSON, not a table", expected="CSV or TSV with one row per image"))
    delimiter = _detect_delimiter(path, text)
    _check_quotes(path, text, delimiter)
    _, header = next(_walk_rows(path, text, delimiter))
    has_header = not any(_names_an_image(cell) for cell in header)
    names = [cell.strip() for cell in header] if has_header else _name_columns(len(header))
    _check_names(path, names)
    return Table(path, _read_columns(path, text, delimiter, names, has_header), encoding, delimiter, has_header)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror if error.strerror else type(error).__name__
        raise DataError(build_message(path, f"the table cannot be read: {reason}", do="Check the file")) from error


def _decode(path: Path, data: bytes) -> tuple[str, str]:
    text, encoding = _decode_bytes(data)
    if "\x00" in text[:_HEAD_CHARACTERS]:
        raise DataError(build_message(path, "not a text table", do="Give a CSV or TSV file with one row per image"))
    return text, encoding


def _decode_bytes(data: bytes) -> tuple[str, str]:
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding, errors="replace"), encoding
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace"), "cp1252"


def _walk_rows(path: Path, text: str, delimiter: str, *, is_strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield the line a row starts on, and its cells, for every row that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=is_strict)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            build_message(f"{path} line {line}", f"the row cannot be read ({error})", do="Check its quotes")
        ) from error


def _check_quotes(path: Path, text: str, delimiter: str) -> None:
    """Stop where a quote is opened and never closed: the rest of the table would become one cell."""
    if text.count('"') % 2:
        for _ in _walk_rows(path, text, delimiter, is_strict=True):
            pass


def _names_an_image(cell: str) -> bool:
    return cell.strip().lower().endswith(IMAGE_EXTENSIONS)


def _detect_delimiter(path: Path, text: str) -> str:
    """Choose the delimiter that cuts the first rows into the same number of cells, more than one.

    Of several such it is one that cuts out the names of images: in `a.jpg,dog|cat` both a comma and a bar would do.
    """
    head = text[:_HEAD_CHARACTERS]
    if len(text) > _HEAD_CHARACTERS:
        head = head[: head.rfind("\n") + 1] or head

    def score(delimiter: str) -> tuple[float, bool, int]:
        rows = [cells for _, cells in itertools.islice(_walk_rows(path, head, delimiter), _ROWS_LOOKED_AT)]
        width = len(rows[0])
        share = sum(len(row) == width for row in rows) / len(rows) if width > 1 else 0.0
        return share, any(_names_an_image(cell) for row in rows for cell in row), width

    return max(_DELIMITERS, key=score)


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

    try:
        table = arrow_csv.read_csv(
            io.BytesIO(text.encode("utf-8")),
            read_options=arrow_csv.ReadOptions(column_names=names, block_size=_BLOCK_BYTES, use_threads=False),
            parse_options=arrow_csv.ParseOptions(
                delimiter=delimiter, newlines_in_values='"' in text, invalid_row_handler=note_bad_row
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=False,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise DataError(build_message(path, f"the table cannot be read ({error})", do="Check its quotes")) from error
    if has_header:
        table = table.slice(1)
    if bad_rows:
        raise DataError(_describe_bad_rows(path, text, delimiter, len(names), len(bad_rows)))
    if table.num_rows == 0:
        raise DataError(build_message(path, "the table has a header but no row", expected="one row per image"))
    return {name: table.column(name) for name in names}


def _describe_bad_rows(path: Path, text: str, delimiter: str, width: int, total: int) -> str:
    bad = ((line, cells) for line, cells in _walk_rows(path, text, delimiter) if len(cells) != width)
    problems = [
        build_message(f"{path} line {line}", f"the row has {len(cells)} cells", expected=f"{width} as in the header")
        for line, cells in itertools.islice(bad, MAX_LISTED)
    ]
    return join_problems(problems, total)
