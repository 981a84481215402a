"""Source: DATA as it lies on disk, each view of it read once, whichever formats ask."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from manylabel.data.formats.columns import leave_out_row_numbers
from manylabel.data.formats.parquet import PARQUET_MARK, load_parquet
from manylabel.data.formats.table import TABLE_EXTENSIONS, Table, load_table
from manylabel.errors import MAX_LISTED, DataError, build_message, join_problems

SourceKind = Literal["folder", "table", "json", "jsonl", "xml"]

LINES_EXTENSIONS = (".jsonl", ".ndjson")
DATA_EXTENSIONS = (*TABLE_EXTENSIONS, ".parquet", ".json", *LINES_EXTENSIONS, ".xml")
"""What makes a file in a folder a file of labels; a file that is named may have any extension."""

_HEAD_BYTES = 65_536
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Source:
    """A file or folder that somebody gave as DATA.

    `kind` is found by content: what a file begins with, not what it is called.
    """

    path: Path

    @property
    def folder(self) -> Path:
        """Where relative paths start from unless --images says otherwise."""
        return self.path if self.path.is_dir() else self.path.parent

    @cached_property
    def kind(self) -> SourceKind:
        """What the file holds; a file that is no JSON and no XML is taken for a table."""
        if self.path.is_dir():
            return "folder"
        head = self._head.removeprefix(_MARK).lstrip()
        if head.startswith(b"<"):
            return "xml"
        if head.startswith(b"[") and self.path.suffix.lower() not in TABLE_EXTENSIONS:
            return "json"
        if head.startswith(b"{"):
            is_lines = self.path.suffix.lower() in LINES_EXTENSIONS or _are_lines(head)
            return "jsonl" if is_lines else "json"
        return "table"

    @cached_property
    def table(self) -> Table:
        """The file as a table; see `load_table` and `load_parquet` for what stops them."""
        table = load_parquet(self.path) if self._head.startswith(PARQUET_MARK) else load_table(self.path)
        return leave_out_row_numbers(table)

    @cached_property
    def json(self) -> Any:
        """The file as one JSON value.

        Raises:
            DataError: it is not JSON; the message says on which line.
        """
        return _parse_json(self.path, _read_text(self.path))

    @cached_property
    def json_lines(self) -> list[tuple[int, dict[str, Any]]]:
        """The file as one JSON object per line, each with the number of its line.

        Raises:
            DataError: lines that are no JSON object (the first of them listed).
        """
        rows: list[tuple[int, dict[str, Any]]] = []
        problems: list[str] = []
        for number, line in enumerate(_read_text(self.path).split("\n"), start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            if isinstance(value, dict):
                rows.append((number, value))
            else:
                problems.append(
                    build_message(f"{self.path} line {number}", "not a JSON object", expected='{"image": ...}')
                )
        if problems:
            raise DataError(join_problems(problems[:MAX_LISTED], total=len(problems)))
        return rows

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Every regular file below the folder, sorted, links to folders not followed; () for a file."""
        if not self.path.is_dir():
            return ()
        found = (Path(here) / name for here, _, names in os.walk(self.path) for name in names)
        return tuple(sorted(path for path in found if path.is_file()))

    @cached_property
    def data_files(self) -> tuple[Path, ...]:
        """The files of labels right in the folder, told by their extension; () for a file."""
        if not self.path.is_dir():
            return ()
        return tuple(
            sorted(path for path in self.path.iterdir() if path.suffix.lower() in DATA_EXTENSIONS and path.is_file())
        )

    @cached_property
    def _head(self) -> bytes:
        try:
            with self.path.open("rb") as stream:
                return stream.read(_HEAD_BYTES)
        except OSError:
            return b""  # whoever reads it as a table says why


def _are_lines(head: bytes) -> bool:
    """Tell whether the first line is an object of its own with another behind it."""
    first, _, rest = head.partition(b"\n")
    try:
        return isinstance(json.loads(first), dict) and rest.lstrip().startswith(b"{")
    except (ValueError, RecursionError):
        return False


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().removeprefix(_MARK).decode("utf-8")
    except OSError as error:
        reason = error.strerror if error.strerror else type(error).__name__
        raise DataError(build_message(path, f"the file cannot be read: {reason}", do="Check the file")) from error
    except UnicodeDecodeError as error:
        raise DataError(build_message(path, "the file is not UTF-8", do="Save it as UTF-8")) from error


def _parse_json(path: Path, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_build_object)
    except json.JSONDecodeError as error:
        raise DataError(
            build_message(f"{path} line {error.lineno}", f"not JSON ({error.msg})", do="Check the file")
        ) from error
    except RecursionError as error:
        raise DataError(build_message(path, "the JSON is nested too deeply", do="Check the file")) from error
    except ValueError as error:  # a key that stands twice, or a number of thousands of digits
        raise DataError(build_message(path, f"not JSON that can be read ({error})", do="Check the file")) from error


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; of a key that stands twice Python would keep the last value in silence."""
    built = dict(pairs)
    if len(built) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {repeated[:80]!r} stands twice in one object")
    return built
