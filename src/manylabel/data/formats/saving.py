"""Writing Annotations in any layout that can be written, read back at once to say what the layout could not hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from manylabel.data.annotations import Annotations
from manylabel.data.comparison import find_differences
from manylabel.data.formats.detect import FORMATS
from manylabel.data.formats.format import ReadOptions
from manylabel.data.formats.source import Source
from manylabel.errors import ConfigError, DataError, build_message, join_names, suggest_name

WRITABLE = tuple(name for name, layout in FORMATS.items() if layout.save is not None)
"""Every layout that `--to` accepts."""

LAYOUT_OF_EXTENSION: Mapping[str, str] = {
    ".csv": "delimited",
    ".parquet": "delimited",
    ".json": "json",
    ".jsonl": "json-lines",
}
"""What a file is written as unless `--to` says otherwise."""


def save_annotations(annotations: Annotations, path: str | Path, layout: str | None = None) -> tuple[str, ...]:
    """Write a table in a layout, read it back, and return what the layout could not hold, a sentence each.

    The images themselves stay where they are: what is written names them by their ids, so whoever reads it gives the
    folder that `find_image_folder` returns. Nothing is written over.

    Args:
        path: the file or folder to write; it may not exist, a folder may be empty.
        layout: one of `WRITABLE`; None takes it from the extension of `path`.

    Raises:
        ConfigError: no such layout, none goes with the extension, something is there already, or the images are no
            files.
        DataError: a state of a cell or a label would be lost; the message says what to do.
        RunError: the disk is full or the place cannot be written.
    """
    path = Path(path)
    name = choose_layout(path, layout)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ConfigError(build_message(path, "there already", do="Choose another OUT, or remove it first"))
    options = ReadOptions(images=find_image_folder(annotations))
    chosen = FORMATS[name]
    assert chosen.save is not None
    chosen.save(annotations, path)
    return _describe_losses(annotations, chosen.load(Source(path), options), path, name)


def find_image_folder(annotations: Annotations) -> Path:
    """Return the folder that the ids of the images start from.

    Raises:
        ConfigError: the images are no files below one folder.
    """
    for record in annotations.records:
        path = Path(record.path).as_posix()
        if record.pixels is None and path.endswith(record.id):
            return Path(path.removesuffix(record.id) or ".")
    raise ConfigError(
        build_message(annotations.name, "its images are no files below one folder", do="Save the images as files first")
    )


def choose_layout(path: Path, layout: str | None) -> str:
    """Return the layout asked for, else the one that goes with the extension of a file."""
    if layout is None:
        layout = LAYOUT_OF_EXTENSION.get(path.suffix.lower())
        if layout is None:
            raise ConfigError(
                build_message(
                    path,
                    f"no layout goes with the name {path.name!r}",
                    expected=join_names(list(LAYOUT_OF_EXTENSION), limit=len(LAYOUT_OF_EXTENSION)),
                    do="Name the layout with --to",
                )
            )
    if layout not in WRITABLE:
        problem = "cannot be written" if layout in FORMATS else f"unknown layout{suggest_name(layout, WRITABLE)}"
        raise ConfigError(
            build_message("--to", problem, got=layout, expected=join_names(WRITABLE, limit=len(WRITABLE)))
        )
    return layout


def _describe_losses(before: Annotations, after: Annotations, path: Path, layout: str) -> tuple[str, ...]:
    differences = find_differences(before, after)
    lost = [differences[kind] for kind in ("images", "cells") if kind in differences]
    if lost:
        # What a layout cannot hold its writer refuses beforehand: to come here is a mistake of ours.
        raise DataError(
            build_message(path, f"the layout {layout!r} did not keep {'; '.join(lost)}", do="Choose another with --to")
        )
    return tuple(differences.values())
