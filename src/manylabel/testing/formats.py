"""The contract of a format: what it writes it recognises and reads again, and what it cannot hold it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.comparison import find_differences
from manylabel.data.formats.format import Format, ReadOptions
from manylabel.data.formats.source import Source
from manylabel.data.regions import Region
from manylabel.errors import DataError
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets

_SIDE_PX = 32
_NAMES = ("dog", "a long name", "Zebra", "naïve", "sci-fi")


def check_format(format_: Format, folder: Path, *, num_tables: int = 10, seed: int = 0) -> int:
    """Write random tables in a format, read each back, and stop at the first that comes back otherwise.

    Every image, label set and state of a cell has to come back, and the format has to recognise what it wrote. A table
    may be refused with a DataError if it has unknown cells or labels without a region; plain tables may not. What else
    gets lost (groups, parts, extras, regions, the order of labels) is for the format's page to say.

    Args:
        folder: an empty folder for images and files.
        num_tables: how many random tables are tried.

    Returns: how many tables were written and read, the others having been refused.

    Raises:
        AssertionError: the format breaks its promise; the message says which table and how.
    """
    assert format_.save is not None, "the format cannot write, so there is nothing to read back"
    images = folder / "images"
    images.mkdir()
    options = ReadOptions(images=images)
    num_written = 0
    for number, (kind, before) in enumerate(build_tables(images, num_tables, seed)):
        out = folder / f"table{number}{format_.extension}"
        try:
            format_.save(before, out)
        except DataError as error:
            if kind == "plain":
                raise AssertionError(f"table {number} is plain, and was refused: {error}") from error
            continue
        source = Source(out)
        assert format_.find_evidence(source, options), f"table {number} ({kind}) is not recognised by its own format"
        differences = find_differences(before, format_.load(source, options))
        broken = [differences[name] for name in ("images", "cells") if name in differences]
        assert not broken, f"table {number} ({kind}) came back otherwise: {'; '.join(broken)}"
        num_written += 1
    assert num_written, "no table was written"
    return num_written


def build_tables(images: Path, num_tables: int, seed: int) -> Iterator[tuple[str, Annotations]]:
    """Yield random tables with their images below `images`, each with one thing more than the last.

    The kinds are `plain` (every label present somewhere, each with a region), `unknown`, `empty` (images without a
    label), `records` (groups, parts, extras) and `everything`.
    """
    kinds = ("plain", "unknown", "empty", "records", "everything")
    for number in range(num_tables):
        kind = kinds[number % len(kinds)]
        yield kind, _build_table(images, kind, np.random.default_rng([seed, number]))


def _build_table(images: Path, kind: str, rng: np.random.Generator) -> Annotations:
    names = tuple(sorted(_NAMES[: rng.integers(2, len(_NAMES) + 1)]))
    num_images = int(rng.integers(len(names), 12))
    present_NL = rng.random((num_images, len(names))) < 0.4
    present_NL[np.arange(num_images), np.arange(num_images) % len(names)] = True
    known_NL = np.ones_like(present_NL)
    if kind in ("unknown", "everything"):
        known_NL = rng.random(present_NL.shape) < 0.7
        known_NL[: len(names)] = True
    if kind in ("empty", "everything"):
        present_NL[len(names) :] &= rng.random((num_images - len(names), 1)) < 0.5
    truth_NL = present_NL & known_NL
    records = [_build_record(images, row, kind, rng) for row in range(num_images)]
    records = [
        replace(record, regions=tuple(_build_region(names[column], rng) for column in np.flatnonzero(truth_L)))
        for record, truth_L in zip(records, truth_NL, strict=True)
    ]
    return Annotations(tuple(records), Targets.from_dense(truth_NL, known_NL), LabelSpace(names))


def _build_record(images: Path, row: int, kind: str, rng: np.random.Generator) -> ImageRecord:
    name = f"{'sub folder/' if row % 3 == 0 else ''}image {row:02d}.png"
    path = images / name
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (_SIDE_PX, _SIDE_PX), row).save(path)
    record = ImageRecord(name, str(path))
    if kind in ("records", "everything"):
        part = ("train", "val", "test")[row % 3]
        record = replace(record, group=f"group {rng.integers(3)}", part=part, extras={"source": f"camera {row}"})
    return record


def _build_region(label: str, rng: np.random.Generator) -> Region:
    left, top = (int(value) for value in rng.integers(0, _SIDE_PX // 2, 2))
    width, height = (int(value) for value in rng.integers(1, _SIDE_PX // 2, 2))
    return Region(label, (float(left), float(top), float(width), float(height)))
