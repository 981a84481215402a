"""PaddleX and PaddleClas text lists: a line per image with 0 and 1 per label, and the names in a file beside.

`train_list.txt`, `val_list.txt` and `test_list.txt` are the parts; the names stand in `labels.txt` or `label_list.txt`.
PaddleX itself is not used to read them: it is a whole framework for lines of text.
"""

from __future__ import annotations

import re
from pathlib import Path

from manylabel.data.annotations import Annotations
from manylabel.data.formats.assemble import Row, assemble_rows
from manylabel.data.formats.columns import PART_NAME_OF
from manylabel.data.formats.format import Evidence, ReadOptions
from manylabel.data.formats.problems import Problems
from manylabel.data.formats.source import Source
from manylabel.errors import DataError, build_message
from manylabel.files import write_text_atomically
from manylabel.labels.space import LabelSpace

NAMES_FILES = ("labels.txt", "label_list.txt", "label.txt")
_LIST_FILE = re.compile(r"(?:multilabel_)?([A-Za-z]+?)(?:_list)?\.txt")
_LINE = re.compile(r"(?P<image>.+?)[\t ]+(?P<cells>[01](?:,[01])*)\s*")
_NUMBERED = re.compile(r"(?P<number>\d+)\s+(?P<name>.*\S)\s*")


def find_paddlex(source: Source, options: ReadOptions) -> Evidence | None:  # noqa: ARG001 - the signature of a format
    """Return why a folder holds PaddleX's lists: text files called after parts whose lines end in `0,1,0`."""
    lists = _find_lists(source)
    names = _find_names_file(source)
    if not lists or names is None or not all(_begins_with_line(file) for file in lists):
        return None
    return (f"PaddleX: {', '.join(file.name for file in lists)} with the names of {names.name}",)


def load_paddlex(source: Source, options: ReadOptions) -> Annotations:
    """Read every list; its name is the part, a 1 is present and a 0 absent.

    Raises:
        DataError: no list or no file of names, lines that are none, or with more or fewer cells than there are names
            (the first of them listed).
    """
    lists, names_file = _find_lists(source), _find_names_file(source)
    if not lists or names_file is None:
        expected = f"train_list.txt and {' or '.join(NAMES_FILES)}"
        raise DataError(build_message(source.path, "there are no lists of PaddleX here", expected=expected))
    names = _strip_numbers([line.strip() for line in _read_lines(names_file) if line.strip()])
    problems = Problems()
    if len(set(names)) < len(names) or not names:
        problems.add(names_file, "no different names", got=names, expected="a name per line")
    rows = []
    for file in lists:
        for number, line in enumerate(_read_lines(file), start=1):
            if not line.strip():
                continue
            match = _LINE.fullmatch(line)
            cells = match["cells"].split(",") if match is not None else []
            if match is None or len(cells) != len(names):
                expected = f"a path, a tab and {len(names)} cells of 0 and 1 joined by commas"
                problems.add(f"{file} line {number}", "no line of a list", got=line, expected=expected)
                continue
            present = [name for name, cell in zip(names, cells, strict=True) if cell == "1"]
            rows.append(Row(match["image"].strip(), f"{file} line {number}", present, part=_find_part(file)))
    problems.stop_if_any()
    return assemble_rows(str(source.path), options.find_root(source), rows, LabelSpace(tuple(names)))


def save_paddlex(annotations: Annotations, path: Path) -> None:
    """Write a folder with a list per part and `labels.txt`; images without a part are written as train.

    Raises:
        DataError: unknown cells, parts that are not train, val and test, or a name with a line break or that begins
            with a number: none of them has a place in the lists.
        RunError: a file cannot be written.
    """
    names = annotations.label_space.names
    parts = sorted({record.part or "train" for record in annotations.records})
    problems = Problems()
    if annotations.targets.num_unknown_L.any():
        do = "Write another layout, or read with --blank absent"
        problems.add(path, "cells are unknown, and PaddleX has no such state", do=do)
    if not set(parts) <= {"train", "val", "test"}:
        problems.add(path, "parts that PaddleX has no list for", got=parts, expected="train, val, test")
    if _strip_numbers(list(names)) != list(names) or any("\n" in name or name != name.strip() for name in names):
        problems.add(
            path, "names that would not come back", expected="names without a number in front", do="Rename them"
        )
    if any("\t" in record.id or " " in record.id.rpartition("/")[2][-2:] for record in annotations.records):
        problems.add(path, "names of images with a tab or a blank at their end", do="Rename them")
    problems.stop_if_any()
    for part in parts:
        lines = []
        for row, record in enumerate(annotations.records):
            if (record.part or "train") == part:
                cells = ",".join("1" if cell else "0" for cell in annotations.targets.present_NL([row])[0])
                lines.append(f"{record.id}\t{cells}\n")
        write_text_atomically(path / f"{part}_list.txt", "".join(lines))
    write_text_atomically(path / "labels.txt", "".join(f"{name}\n" for name in names))


def _find_lists(source: Source) -> list[Path]:
    if source.kind != "folder":
        return []
    return sorted(path for path in source.path.iterdir() if _find_part(path) is not None and path.is_file())


def _find_part(file: Path) -> str | None:
    match = _LIST_FILE.fullmatch(file.name)
    return PART_NAME_OF.get(match[1].lower()) if match is not None else None


def _find_names_file(source: Source) -> Path | None:
    if source.kind != "folder":
        return None
    return next((source.path / name for name in NAMES_FILES if (source.path / name).is_file()), None)


def _begins_with_line(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8-sig") as stream:
            return _LINE.fullmatch(stream.readline(65_536)) is not None
    except (OSError, UnicodeDecodeError):
        return False


def _read_lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8-sig").split("\n")
    except OSError as error:
        raise DataError(build_message(file, f"the file cannot be read: {error.strerror}", do="Check it")) from error
    except UnicodeDecodeError as error:
        raise DataError(build_message(file, "the file is not UTF-8", do="Save it as UTF-8")) from error


def _strip_numbers(lines: list[str]) -> list[str]:
    """Return the names without their numbers, if every line is numbered from 0: `4 wheel drive` alone is a name."""
    matches = [_NUMBERED.fullmatch(line) for line in lines]
    numbers = [match["number"] if match is not None else None for match in matches]
    if numbers != [str(number) for number in range(len(lines))]:
        return lines
    return [match["name"] for match in matches if match is not None]
