"""From the rows of a table to Annotations: files located, repeated images merged, extra columns kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.findings import Finding
from manylabel.data.formats.columns import PART_NAME_OF, RECORD_COLUMN_NAMES, ImageRoot
from manylabel.data.formats.table import Table
from manylabel.data.regions import Region
from manylabel.errors import MAX_LISTED, DataError, build_message, join_names, join_problems, suggest_name
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets


@dataclass(frozen=True)
class Row:
    """What a file says of one image, whatever the file's layout: the row that `assemble_rows` takes.

    `image` is the path or bare id as written, `where` what messages call the place, such as `labels.json item 3`.
    """

    image: str
    where: str
    present: Sequence[str] = ()
    unknown: Sequence[str] = ()
    group: str | None = None
    part: str | None = None
    extras: Mapping[str, str] = field(default_factory=dict)
    regions: tuple[Region, ...] = ()


def assemble_rows(
    name: str,
    root: ImageRoot,
    rows: Sequence[Row],
    space: LabelSpace | None = None,
    *,
    is_exhaustive: bool = True,
    findings: Sequence[Finding] = (),
) -> Annotations:
    """Return the Annotations of rows that were read from a file or folder called `name`.

    Repeated images are merged, files located and missing ones reported, as for tables. A label that is neither
    present nor unknown in a row is absent there.

    Args:
        space: the names and their order; None takes the sorted names that occur.

    Raises:
        DataError: no row, a row that names no image or one that cannot be located, a label that `space` lacks, or no
            image exists.
    """
    if not rows:
        raise DataError(build_message(name, "there is no image in it", expected="at least one"))
    if space is None:
        occurring = {label for row in rows for label in (*row.present, *row.unknown)}
        if not occurring:
            raise DataError(build_message(name, "no image has any label", expected="at least one with a label"))
        space = LabelSpace(tuple(sorted(occurring)))
    _check_rows(rows, space)
    located = locate_images(root, [row.image for row in rows], lambda row: rows[row].where)
    records = [
        ImageRecord(
            image,
            path,
            group=row.group if row.group else None,
            part=PART_NAME_OF.get(row.part.lower(), row.part) if row.part else None,
            extras=row.extras,
            regions=row.regions,
        )
        for (image, path), row in zip(located, rows, strict=True)
    ]
    targets = Targets.from_columns(
        [[space.index(label) for label in row.present] for row in rows],
        len(space),
        [[space.index(label) for label in row.unknown] for row in rows],
    )
    return _finish(name, root, records, targets, space, is_exhaustive, findings)


def assemble_annotations(
    table: Table,
    root: ImageRoot,
    image_column: str,
    label_columns: Sequence[str],
    space: LabelSpace,
    targets: Targets,
    *,
    is_exhaustive: bool,
    findings: Sequence[Finding] = (),
    rows: Sequence[int] | None = None,
) -> Annotations:
    """Return the Annotations of a table whose cells were already read into `targets`.

    Args:
        rows: the rows of the table that the rows of `targets` stand for; None says all of them.

    Raises:
        DataError: a row names no image or one that cannot be located, or no image exists.
    """
    numbers = range(table.num_rows) if rows is None else rows
    cells = _pick(table.values(image_column), rows)
    _check_every_row_names_an_image(table, image_column, cells, numbers)
    located = locate_images(root, cells, lambda index: table.where(numbers[index]))
    records = _build_records(table, located, [image_column, *label_columns], rows)
    return _finish(str(table.path), root, records, targets, space, is_exhaustive, findings)


def _pick(cells: list[str], rows: Sequence[int] | None) -> list[str]:
    return cells if rows is None else [cells[row] for row in rows]


def _finish(
    name: str,
    root: ImageRoot,
    records: list[ImageRecord],
    targets: Targets,
    space: LabelSpace,
    is_exhaustive: bool,
    findings: Sequence[Finding],
) -> Annotations:
    """Merge repeated images and report missing ones: the last step of every reader."""
    kept_records, kept_targets, repeats = _merge_repeats(records, targets)
    annotations = Annotations(kept_records, kept_targets, space, name, is_exhaustive, (*findings, *repeats))
    missing = root.find_missing(annotations.images)
    if len(missing) == len(annotations):
        raise DataError(_describe_no_images(name, root.folder, annotations.images))
    if missing:
        verb = "does" if len(missing) == 1 else "do"
        finding = Finding(
            "error",
            "missing-image",
            f"{len(missing)} of {len(annotations)} images {verb} not exist below {root.folder}: {join_names(missing)}.",
            tuple(missing),
            "Correct the paths in the table, or remove the rows",
        )
        annotations = replace(annotations, findings=(*annotations.findings, finding))
    return annotations


def _is_text(value: str) -> bool:
    """Tell whether a value can be written anywhere: JSON may hold halves of characters that no file can."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_rows(rows: Sequence[Row], space: LabelSpace) -> None:
    problems = [
        build_message(row.where, "no image is named", expected="a path or an id") for row in rows if not row.image
    ]
    problems += [
        build_message(row.where, "a group or another value that is not text", do="Correct its characters")
        for row in rows
        if not _is_text("".join((row.group or "", row.part or "", *row.extras, *row.extras.values())))
    ]
    for row in rows:
        problems += [
            build_message(row.where, f"unknown label {label!r}{suggest_name(label, space)}", expected="a known label")
            for label in (*row.present, *row.unknown)
            if label not in space
        ]
    if problems:
        raise DataError(join_problems(problems[:MAX_LISTED], total=len(problems)))


def _merge_repeats(
    records: list[ImageRecord], targets: Targets
) -> tuple[tuple[ImageRecord, ...], Targets, tuple[Finding, ...]]:
    """Make one row of the rows of one image; a cell in which they contradict each other becomes unknown."""
    if len({record.id for record in records}) == len(records):
        return tuple(records), targets, ()
    rows_of: dict[str, list[int]] = {}
    for row, record in enumerate(records):
        rows_of.setdefault(record.id, []).append(row)
    repeats = {image: rows for image, rows in rows_of.items() if len(rows) > 1}
    kept = [rows[0] for rows in rows_of.values()]
    for rows in repeats.values():
        regions = tuple(region for row in rows for region in records[row].regions)
        records[rows[0]] = replace(records[rows[0]], regions=regions)
    present_bits, known_bits = targets.present_bits.copy(), targets.known_bits.copy()
    contradicting = []
    for image, rows in repeats.items():
        present = np.bitwise_or.reduce(targets.present_bits[rows])
        absent = np.bitwise_or.reduce(targets.known_bits[rows] & ~targets.present_bits[rows])
        conflict = present & absent
        present_bits[rows[0]] = present & ~conflict
        known_bits[rows[0]] = (present | absent) & ~conflict
        if conflict.any():
            contradicting.append(image)
    merged = Targets(present_bits, known_bits, targets.num_labels).select(kept)
    findings = _describe_repeats(list(repeats), contradicting)
    in_two_parts = tuple(image for image, rows in repeats.items() if len({records[row].part for row in rows}) > 1)
    if in_two_parts:
        message = f"Images that stand in two parts: {join_names(in_two_parts)}. The first row counts."
        findings += (Finding("error", "image-in-two-parts", message, in_two_parts, "Keep each image in one part"),)
    return tuple(records[row] for row in kept), merged, findings


def _describe_repeats(repeated: list[str], contradicting: list[str]) -> tuple[Finding, ...]:
    agreeing = tuple(image for image in repeated if image not in set(contradicting))
    findings: tuple[Finding, ...] = ()
    if agreeing:
        message = f"Images in several rows with the same labels: {join_names(agreeing)}. Each was counted once."
        findings += (
            Finding("note", "repeated-image", message, agreeing, "Nothing to do; 'manylabel split' writes each once"),
        )
    if contradicting:
        message = (
            f"Images in several rows with different labels: {join_names(contradicting)}. "
            "The labels on which the rows disagree are unknown there."
        )
        fix = "Decide on one row per image"
        findings += (Finding("warning", "contradicting-rows", message, tuple(contradicting), fix),)
    return findings


def _build_records(
    table: Table, located: list[tuple[str, str]], used: list[str], rows: Sequence[int] | None
) -> list[ImageRecord]:
    special = {
        name: _pick(table.values(name), rows)
        for name in RECORD_COLUMN_NAMES
        if name in table.names and name not in used
    }
    extras = [name for name in table.names if name not in used and name not in special]
    blank = [""] * len(located)
    cells = zip(*(_pick(table.values(name), rows) for name in extras), strict=True)
    no_extras: dict[str, str] = {}  # one for all: a dict of its own takes more memory than the rest of a record
    extras_of = (dict(zip(extras, row, strict=True)) for row in cells) if extras else (no_extras for _ in located)
    return [
        ImageRecord(
            image,
            path,
            group=group if group else None,
            part=PART_NAME_OF.get(part.lower(), part) if part else None,
            extras=extra,
        )
        for (image, path), group, part, extra in zip(
            located, special.get("group", blank), special.get("part", blank), extras_of, strict=True
        )
    ]


def locate_images(root: ImageRoot, cells: Sequence[str], where: Callable[[int], str]) -> list[tuple[str, str]]:
    """Return (id, path) of every cell.

    Args:
        where: what messages call the place of a cell.

    Raises:
        DataError: cells that `ImageRoot.locate` refuses; the first are listed, each once.
    """
    located = []
    problem_of: dict[str, str] = {}
    for row, cell in enumerate(cells):
        try:
            located.append(root.locate(cell))
        except DataError as error:
            if cell not in problem_of:
                problem_of[cell] = f"{where(row)}: {error}" if len(problem_of) < MAX_LISTED else ""
    if problem_of:
        raise DataError(join_problems(list(problem_of.values())))
    return located


def _check_every_row_names_an_image(table: Table, column: str, cells: list[str], numbers: Sequence[int]) -> None:
    blank_rows = [row for row, cell in zip(numbers, cells, strict=True) if not cell]
    if blank_rows:
        problems = [
            build_message(table.where(row), f"column {column!r} is empty", expected="an image")
            for row in blank_rows[:MAX_LISTED]
        ]
        raise DataError(join_problems(problems, total=len(blank_rows)))


def _describe_no_images(name: str, folder: Path, images: Sequence[str]) -> str:
    return build_message(
        name,
        f"none of its {len(images)} images exists below {folder} (the first is {images[0]!r})",
        do="Give the folder of the images with --images, or the column that names them with --image-column",
    )
