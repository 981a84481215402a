"""Roboflow exports: part folders (train, valid, test), each with its images and one file of labels.

`_classes.csv` is a table with a column per class, `_annotations.coco.json` is COCO; both are read by their own readers.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

from manylabel.data.annotations import Annotations
from manylabel.data.formats.coco import load_coco
from manylabel.data.formats.columns import PART_NAME_OF
from manylabel.data.formats.format import Evidence, ReadOptions
from manylabel.data.formats.one_hot import load_one_hot
from manylabel.data.formats.source import Source
from manylabel.errors import ConfigError, DataError, build_message

READERS = {"_classes.csv": load_one_hot, "_annotations.coco.json": load_coco}
"""The files that lie in a part folder, each with what reads it."""


def find_roboflow(source: Source, options: ReadOptions) -> Evidence | None:  # noqa: ARG001 - the signature of a format
    """Return why a folder is Roboflow's: its part folders hold `_classes.csv` or `_annotations.coco.json`."""
    files = _find_files(source)
    return (f"Roboflow export: {', '.join(f'{file.parent.name}/{file.name}' for file in files)}",) if files else None


def load_roboflow(source: Source, options: ReadOptions) -> Annotations:
    """Read every part folder; its name stands before the names of its images and is their part.

    Raises:
        DataError: there is no such part folder, or what the reader of a file raises.
        ConfigError: a folder of images was given: the images lie in the part folders.
    """
    files = _find_files(source)
    if not files:
        expected = "train/, valid/ or test/ with _classes.csv or _annotations.coco.json"
        raise DataError(build_message(source.path, "this is no export of Roboflow", expected=expected))
    if options.images is not None and options.images.resolve() != source.path.resolve():
        problem = "--images is for files, and the images of this export lie in its part folders"
        raise ConfigError(build_message(source.path, problem, do="Leave it out"))
    own = replace(options, images=None)
    parts = [_prefix(READERS[file.name](Source(file), own), file.parent.name) for file in files]
    merged = functools.reduce(Annotations.merge, parts)
    return replace(merged, name=str(source.path))


def _prefix(part: Annotations, folder: str) -> Annotations:
    records = tuple(
        replace(record, id=f"{folder}/{record.id}", part=record.part if record.part else PART_NAME_OF[folder.lower()])
        for record in part.records
    )
    own = set(part.images)
    findings = tuple(
        replace(finding, rows=tuple(f"{folder}/{row}" if row in own else row for row in finding.rows))
        for finding in part.findings
    )
    return replace(part, records=records, findings=findings)


def _find_files(source: Source) -> list[Path]:
    if source.kind != "folder":
        return []
    folders = sorted(path for path in source.path.iterdir() if path.name.lower() in PART_NAME_OF and path.is_dir())
    found = [next((folder / name for name in READERS if (folder / name).is_file()), None) for folder in folders]
    return [file for file in found if file is not None]
