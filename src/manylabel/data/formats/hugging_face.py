"""Hugging Face image folders: part folders of images, each with a metadata.jsonl that describes them.

The `datasets` library reads them too; it brings tens of packages for a file of JSON lines.
"""

from __future__ import annotations

from pathlib import Path

from manylabel.data.annotations import Annotations
from manylabel.data.formats.columns import PART_NAME_OF
from manylabel.data.formats.format import Evidence, ReadOptions
from manylabel.data.formats.json_records import read_items
from manylabel.data.formats.problems import Problems
from manylabel.data.formats.source import Source
from manylabel.errors import DataError, build_message

METADATA = "metadata.jsonl"


def find_hugging_face(source: Source, options: ReadOptions) -> Evidence | None:  # noqa: ARG001 - the signature
    """Return why a folder is one of Hugging Face: metadata.jsonl lies in it or in its part folders."""
    files = _find_metadata(source)
    if not files:
        return None
    shown = ", ".join(file.relative_to(source.path).as_posix() for file in files)
    return (f"Hugging Face image folder: {shown}",)


def load_hugging_face(source: Source, options: ReadOptions) -> Annotations:
    """Read every metadata.jsonl: `file_name` starts from its folder, and the name of that folder is the part.

    Raises:
        DataError: there is none, or what `read_items` raises.
    """
    files = _find_metadata(source)
    if not files:
        raise DataError(build_message(source.path, f"there is no {METADATA} in it or in its part folders"))
    items = []
    for file in files:
        folder = file.parent.relative_to(source.path).as_posix()
        part = PART_NAME_OF.get(folder.lower())
        for line, item in Source(file).json_lines:
            if isinstance(item.get("file_name"), str) and part is not None:
                item = {**item, "file_name": f"{folder}/{item['file_name']}", "part": item.get("part", part)}
            items.append((f"{file} line {line}", item))
    return read_items(source, options, items, None, Problems())


def _find_metadata(source: Source) -> list[Path]:
    if source.kind != "folder":
        return []
    here = source.path / METADATA
    below = sorted(
        folder / METADATA
        for folder in source.path.iterdir()
        if folder.name.lower() in PART_NAME_OF and (folder / METADATA).is_file()
    )
    return [here] if here.is_file() else below
