"""Label folders: images sorted into folders that are named after labels; one image may lie in several."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.findings import Finding
from manylabel.data.formats.columns import PART_NAME_OF
from manylabel.data.formats.format import Evidence, ReadOptions
from manylabel.data.formats.source import Source
from manylabel.data.images import find_images
from manylabel.errors import ConfigError, DataError, build_message, join_names
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets


def find_folders(source: Source, options: ReadOptions) -> Evidence | None:  # noqa: ARG001 - the signature of a format
    """Return why a folder is one of label folders: any is that has no better layout and no file of labels in it."""
    if source.kind != "folder" or source.data_files:
        return None
    return ("labels: the names of the folders that hold the images",)


def load_folders(source: Source, options: ReadOptions) -> Annotations:
    """Read a folder of folders: the folder right above an image (or above its sub-folders) is its label.

    Files with the same name and the same bytes in several label folders are one image with several labels; with
    other bytes they are different images. If all top folders are called train, val or test, they are the parts.
    An image outside every label folder has no known label.

    Raises:
        DataError: there is no image, or none lies in a label folder.
        ConfigError: an option for tables was given.
    """
    folder = source.path
    _check_options(folder, options)
    files = [PurePosixPath(path.relative_to(folder).as_posix()) for path in find_images(folder)]
    if not files:
        raise DataError(
            build_message(folder, "there is no image in this folder", expected="folders named after labels")
        )
    has_parts = all(len(file.parts) > 1 and file.parts[0].lower() in PART_NAME_OF for file in files)
    depth = 1 if has_parts else 0
    groups = _group_copies(folder, files, depth)
    labels_of = [sorted({label for file in group if (label := _find_label(file, depth))}) for group in groups]
    names = sorted({label for labels in labels_of for label in labels})
    if not names:
        raise DataError(
            build_message(
                folder,
                "the images do not lie in folders named after labels",
                do="Give a table of labels, with this folder as --images",
            )
        )
    space = LabelSpace(tuple(names))
    records = tuple(
        ImageRecord(
            str(group[0]),
            str(folder / group[0]),
            part=PART_NAME_OF[group[0].parts[0].lower()] if has_parts else None,
        )
        for group in groups
    )
    targets = Targets.from_columns(
        [[space.index(label) for label in labels] for labels in labels_of],
        len(space),
        [[] if labels else list(range(len(space))) for labels in labels_of],
    )
    outside = tuple(record.id for record, labels in zip(records, labels_of, strict=True) if not labels)
    findings: tuple[Finding, ...] = ()
    if outside:
        message = f"Images outside every label folder: {join_names(outside)}. Their labels are unknown."
        findings = (Finding("warning", "outside-label-folder", message, outside, "Move them into label folders"),)
    return Annotations(records, targets, space, str(folder), True, findings)


def _check_options(folder: Path, options: ReadOptions) -> None:
    if not folder.is_dir():
        raise DataError(build_message(folder, "not a folder", expected="a folder of label folders"))
    given = [
        flag
        for flag, value in (
            ("--images", options.images),
            ("--image-column", options.image_column),
            ("--label-column", options.label_column),
        )
        if value is not None
    ]
    if given:
        raise ConfigError(
            build_message(
                folder,
                f"{join_names(given)} is for tables, and this is read as label folders",
                do="Leave it out, or name the table",
            )
        )


def _find_label(file: PurePosixPath, depth: int) -> str | None:
    return file.parts[depth] if len(file.parts) > depth + 1 else None


def _group_copies(folder: Path, files: list[PurePosixPath], depth: int) -> list[list[PurePosixPath]]:
    """Put files of the same part, name and bytes together; bytes are only read where a name stands twice."""
    by_name: dict[tuple[str, ...], list[PurePosixPath]] = {}
    for file in files:
        below_label = file.parts[depth + 1 :]
        key = (*file.parts[:depth], *(below_label if below_label else file.parts[depth:]))
        by_name.setdefault(key, []).append(file)
    groups = [group for same_name in by_name.values() for group in _group_by_bytes(folder, same_name)]
    return sorted(groups, key=lambda group: group[0].parts)


def _group_by_bytes(folder: Path, files: list[PurePosixPath]) -> Iterable[list[PurePosixPath]]:
    if len(files) == 1:
        return [files]
    by_digest: dict[str, list[PurePosixPath]] = {}
    for file in files:
        by_digest.setdefault(_digest(folder / file), []).append(file)
    return by_digest.values()


def _digest(path: Path) -> str:
    """Return what two files have in common if they are equal: their bytes, else (a broken link, a pipe) their path."""
    try:
        # To read from a pipe would wait for ever.
        content = path.read_bytes() if path.is_file() else None
    except OSError:
        content = None
    return str(path) if content is None else hashlib.sha256(content).hexdigest()
