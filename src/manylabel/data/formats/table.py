"""Text tables: encoding, delimiter and header found by content, every cell kept as the text it is.

`N/A`, `NA` and `null` are text like any other: only a reader of labels decides what a cell means. A file is read in
blocks, and a column of few distinct cells takes a byte a row: a million rows of a hundred labels take 100 MB.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from manylabel.data.images import IMAGE_EXTENSIONS
from manylabel.errors import MAX_LISTED, DataError, build_message, join_names, join_problems, suggest_name

TABLE_EXTENSIONS = (".csv", ".tsv")
"""What makes a file in a folder a table; a table that is named may have any extension."""

_DELIMITERS = (",", ";", "\t", "|")
_HEAD_CHARACTERS = 65_536
_ROWS_LOOKED_AT = 50
_BLOCK_BYTES = 1 << 24  # no row may be longer
_MAX_CODES = 256
"""A column of more distinct cells is kept as text."""

_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_EXCEL_HINT = re.compile(r'"?sep=(.)"?\r?\n', re.IGNORECASE)
"""The first line by which Excel is told the delimiter, and which it writes in some languages."""

_SAVE_AS_CSV = "Save the sheet as CSV (UTF-8) and give that file"
_BINARY_FILES: Mapping[bytes, tuple[str, str]] = {
    b"PK\x03\x04": ("an Excel workbook (.xlsx) or another archive", _SAVE_AS_CSV),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook (.xls)", _SAVE_AS_CSV),
    b"\x1f\x8b": ("compressed (gzip)", "Unpack it first"),
    b"BZh": ("compressed (bzip2)", "Unpack it first"),
    b"\x28\xb5\x2f\xfd": ("compressed (zstd)", "Unpack it first"),
    b"SQLite format 3": ("a database of SQLite", "Export the table of labels as CSV"),
}
"""What people give in place of a text table, by its first bytes, and what to do."""


@dataclass(frozen=True, eq=False)
class Table:
    """The columns of a table, in order, as chunked Arrow arrays of text, plain or by a dictionary.

    `lines` are not stored: `where` walks the file again when an error has to name one. A table that is no text file
    has no delimiter, and names its rows by their number. `notes` say what was left out.
    """

    path: Path
    columns: dict[str, Any]
    encoding: str
    delimiter: str
    has_header: bool
    has_hint: bool = False
    notes: tuple[str, ...] = ()

    @property
    def num_rows(self) -> int:
        """The number of rows below the header."""
        return len(next(iter(self.columns.values())))

    @property
    def evidence(self) -> tuple[str, ...]:
        """What was found of the file itself, in sentences."""
        size = f"{self.num_rows} rows, {len(self.names)} columns, {self.encoding}"
        return (f"{size}, cells parted by {self.delimiter!r}" if self.delimiter else size, *self.notes)

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
        cells: list[str] = []
        for chunk in self.columns[name].chunks:
            if hasattr(chunk, "dictionary"):
                distinct = [value.strip() for value in chunk.dictionary.to_pylist()]
                cells += [distinct[code] for code in chunk.indices.to_numpy().tolist()]
            else:
                cells += [value.strip() for value in chunk.to_pylist()]
        return cells

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
        if not self.delimiter:
            return f"{self.path} row {row + 1}"
        wanted = row + (1 if self.has_header else 0)
        with _open_text(self.path, self.encoding, self.has_hint) as text:
            rows = _walk_rows(self.path, text, self.delimiter, first_line=1 + self.has_hint)
            return f"{self.path} line {next(itertools.islice((line for line, _ in rows), wanted, None))}"


def load_table(path: Path) -> Table:
    """Read a text table with all its cells as text.

    Raises:
        DataError: the file is missing, empty, not text or in two encodings, has a header only, names a column twice,
            never closes a quote, or has rows of another length than the header (the first of them listed).
    """
    if not path.is_file():
        raise DataError(build_message(path, "there is no such table", do="Check the path"))
    try:
        with path.open("rb") as stream:
            _check_is_text(path, stream.read(_HEAD_CHARACTERS))
        encoding, num_quotes = _find_encoding(path)
        with _open_text(path, encoding) as text:
            head = text.read(_HEAD_CHARACTERS)
        return _read_table(path, encoding, head, num_quotes)
    except OSError as error:
        reason = error.strerror if error.strerror else type(error).__name__
        raise DataError(build_message(path, f"the table cannot be read: {reason}", do="Check the file")) from error


def _read_table(path: Path, encoding: str, head: str, num_quotes: int) -> Table:
    hint = _EXCEL_HINT.match(head)
    has_hint = hint is not None
    head = head[hint.end() :] if hint is not None else head
    if "\x00" in head:
        raise DataError(build_message(path, "not a text table", do="Give a CSV or TSV file with one row per image"))
    if not head.strip():
        raise DataError(build_message(path, "the table is empty", expected="a header and a row per image"))
    if head.lstrip().startswith(("{", "[")):
        raise DataError(build_message(path, "this is JSON, not a table", expected="CSV or TSV with one row per image"))
    delimiter = hint.group(1) if hint is not None else _detect_delimiter(path, head)
    if num_quotes % 2:
        _check_quotes(path, encoding, delimiter, has_hint)
    _, header = next(_walk_rows(path, io.StringIO(head, newline=""), delimiter))
    has_header = not any(_names_an_image(cell) for cell in header)
    names = _name_columns([cell.strip() for cell in header] if has_header else [""] * len(header))
    check_names(path, names)
    table = Table(path, dict.fromkeys(names), encoding, delimiter, has_header, has_hint)
    table.columns.update(_read_columns(table, has_quotes=num_quotes > 0))
    return table


def _check_is_text(path: Path, head: bytes) -> None:
    for mark, (what, do) in _BINARY_FILES.items():
        if head.startswith(mark):
            raise DataError(build_message(path, f"this is {what}, not a text table", do=do))


def _find_encoding(path: Path) -> tuple[str, int]:
    """Return the encoding of a file, and how many quotes are in it; the file is read in blocks.

    Raises:
        DataError: some lines are UTF-8 and some are not, or it is in no encoding that is read.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    num_quotes = 0
    with path.open("rb") as stream:
        block = stream.read(_BLOCK_BYTES)
        for mark, encoding in _BYTE_ORDER_MARKS.items():
            if block.startswith(mark) and encoding != "utf-8-sig":
                _check_decodes(path, encoding, block + stream.read())
                return encoding, block.count(b'"')
        encoding = "utf-8-sig" if block.startswith(codecs.BOM_UTF8) else "utf-8"
        try:
            while block:
                num_quotes += block.count(b'"')
                decoder.decode(block)
                block = stream.read(_BLOCK_BYTES)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            stream.seek(0)
            data = stream.read()
            _check_one_encoding(path, data)
            _check_decodes(path, "cp1252", data)
            return "cp1252", data.count(b'"')
    return encoding, num_quotes


def _check_one_encoding(path: Path, data: bytes) -> None:
    """Stop where some lines are UTF-8 and others are not: read as one or the other, names would come out garbled."""
    lines_of: dict[bool, list[int]] = {True: [], False: []}
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.isascii():
            lines_of[_is_utf_8(line)].append(number)
    if lines_of[True]:
        problem = f"this line is not UTF-8, but other lines are (such as line {lines_of[True][0]})"
        do = "Save the whole file as UTF-8"
        problems = [build_message(f"{path} line {line}", problem, do=do) for line in lines_of[False][:MAX_LISTED]]
        raise DataError(join_problems(problems, total=len(lines_of[False])))


def _is_utf_8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _check_decodes(path: Path, encoding: str, data: bytes) -> None:
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        tried = (
            "UTF-8 nor Windows-1252" if encoding == "cp1252" else "UTF-16, as its first bytes say, nor anything else"
        )
        raise DataError(
            build_message(f"{path} line {line}", f"this is neither {tried}", do="Save the file as UTF-8")
        ) from error


def _open_text(path: Path, encoding: str, has_hint: bool = False) -> IO[str]:
    text = path.open(encoding=encoding, newline="")
    if has_hint:
        text.readline()
    return text


def _walk_rows(
    path: Path, text: Iterable[str], delimiter: str, *, is_strict: bool = False, first_line: int = 1
) -> Iterator[tuple[int, list[str]]]:
    """Yield the line a row starts on, and its cells, for every row that is not blank."""
    reader = csv.reader(text, delimiter=delimiter, strict=is_strict)
    line = first_line
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = first_line + reader.line_num
    except csv.Error as error:
        raise DataError(
            build_message(f"{path} line {line}", f"the row cannot be read ({error})", do="Check its quotes")
        ) from error


def _check_quotes(path: Path, encoding: str, delimiter: str, has_hint: bool) -> None:
    """Stop where a quote is opened and never closed: the rest of the table would become one cell."""
    with _open_text(path, encoding, has_hint) as text:
        for _ in _walk_rows(path, text, delimiter, is_strict=True, first_line=1 + has_hint):
            pass


def _names_an_image(cell: str) -> bool:
    return cell.strip().lower().endswith(IMAGE_EXTENSIONS)


def _detect_delimiter(path: Path, head: str) -> str:
    """Choose the delimiter that cuts the first rows into the same number of cells, more than one.

    Of several such it is one that cuts out the names of images: in `a.jpg,dog|cat` both a comma and a bar would do.
    """
    if len(head) == _HEAD_CHARACTERS:
        head = head[: head.rfind("\n") + 1] or head

    def score(delimiter: str) -> tuple[float, bool, int]:
        text = io.StringIO(head, newline="")
        rows = [cells for _, cells in itertools.islice(_walk_rows(path, text, delimiter), _ROWS_LOOKED_AT)]
        width = len(rows[0])
        share = sum(len(row) == width for row in rows) / len(rows) if width > 1 else 0.0
        return share, any(_names_an_image(cell) for row in rows for cell in row), width

    return max(_DELIMITERS, key=score)


def _name_columns(header: Sequence[str]) -> list[str]:
    """Return the names in a header; those without one are called `column_3`, and a bare pair `image` and `labels`."""
    if list(header) == ["", ""]:
        return ["image", "labels"]
    return [name if name else f"column_{number}" for number, name in enumerate(header, start=1)]


def check_names(path: Path, names: Sequence[str]) -> None:
    """Stop where two columns have one name."""
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise DataError(
            build_message(
                path, f"columns stand twice in the header: {join_names(repeated)}", do="Rename or remove them"
            )
        )


@dataclass(eq=False)
class ColumnBuilder:
    """A column as it is read, block by block: codes of distinct cells while these are few, else text."""

    codes: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    code_of: dict[str, int] = field(default_factory=dict)
    texts: list[Any] = field(default_factory=list)

    def add(self, cells: Any) -> None:
        """Add an Arrow array of text."""
        if not self.texts:
            encoded = cells.dictionary_encode()
            distinct = encoded.dictionary.to_pylist() if len(encoded.dictionary) <= _MAX_CODES else []
            if distinct and len(self.code_of.keys() | distinct) <= _MAX_CODES:
                codes = np.array([self.code_of.setdefault(cell, len(self.code_of)) for cell in distinct], np.uint8)
                self.codes.append(codes[encoded.indices.to_numpy()])
                return
            self.texts = [chunk.dictionary_decode() for chunk in self.build().chunks]
        self.texts.append(cells)

    def build(self) -> Any:
        """Return the column as a chunked array."""
        import pyarrow as pa

        if self.texts:
            return pa.chunked_array(self.texts, pa.string())
        codes = np.concatenate(self.codes) if self.codes else np.zeros(0, np.uint8)
        distinct = pa.array(list(self.code_of), pa.string())
        return pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array(codes), distinct)])


def _read_columns(table: Table, *, has_quotes: bool) -> dict[str, Any]:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    path, names = table.path, table.names
    num_bad_rows = 0

    def note_bad_row(row: Any) -> str:  # noqa: ARG001 - it is told by its line later
        nonlocal num_bad_rows
        num_bad_rows += 1
        return "skip"

    columns = {name: ColumnBuilder() for name in names}
    num_to_skip = int(table.has_header)
    try:
        for block in arrow_csv.open_csv(
            _open_utf_8(path, table.encoding),
            read_options=arrow_csv.ReadOptions(
                column_names=names, block_size=_BLOCK_BYTES, use_threads=False, skip_rows=int(table.has_hint)
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=table.delimiter, newlines_in_values=has_quotes, invalid_row_handler=note_bad_row
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=False,
                quoted_strings_can_be_null=False,
            ),
        ):
            rows = block.slice(num_to_skip)
            num_to_skip = max(0, num_to_skip - block.num_rows)
            if rows.num_rows:
                for name, cells in zip(names, rows.columns, strict=True):
                    columns[name].add(cells)
    except pa.ArrowInvalid as error:
        raise DataError(build_message(path, f"the table cannot be read ({error})", do="Check its quotes")) from error
    if num_bad_rows:
        raise DataError(_describe_bad_rows(table, num_bad_rows))
    built = {name: column.build() for name, column in columns.items()}
    if len(built[names[0]]) == 0:
        raise DataError(build_message(path, "the table has a header but no row", expected="one row per image"))
    return built


def _open_utf_8(path: Path, encoding: str) -> Any:
    import pyarrow as pa

    if encoding in ("utf-8", "utf-8-sig"):
        return pa.OSFile(str(path))
    return pa.BufferReader(path.read_bytes().decode(encoding).encode())


def _describe_bad_rows(table: Table, total: int) -> str:
    width = len(table.names)
    with _open_text(table.path, table.encoding, table.has_hint) as text:
        rows = _walk_rows(table.path, text, table.delimiter, first_line=1 + table.has_hint)
        problems = [
            build_message(
                f"{table.path} line {line}", f"the row has {len(cells)} cells", expected=f"{width} as in the header"
            )
            for line, cells in itertools.islice(
                ((line, cells) for line, cells in rows if len(cells) != width), MAX_LISTED
            )
        ]
    return join_problems(problems, total)
