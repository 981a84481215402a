"""Tables of images that a test can tell apart by their colour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manylabel.data.annotations import Annotations, ImageRecord, annotations_from_arrays
from manylabel.data.preprocess import Preprocess
from manylabel.data.regions import Region
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets


@pytest.fixture
def preprocess() -> Preprocess:
    return Preprocess(height_px=16, width_px=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@pytest.fixture
def make_table() -> Callable[[int], Annotations]:
    """Return a maker of tables in memory: noise, and labels at random."""

    def make(num_images: int, seed: int = 0) -> Annotations:
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 255, (num_images, 20, 24, 3), dtype=np.uint8)
        sets = [[name for name in "abc" if rng.random() < 0.5] for _ in range(num_images)]
        return annotations_from_arrays(pixels, sets, ["a", "b", "c"])

    return make


@pytest.fixture
def table_with_regions() -> Annotations:
    """Eleven images of noise; label b has a small box in some of those that have it, label c in all."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (11, 20, 24, 3), dtype=np.uint8)
    sets = [["a", "b"] if row % 2 else ["b", "c"] for row in range(11)]
    table = annotations_from_arrays(pixels, sets, ["a", "b", "c"])
    regions = [
        (Region("b", (1, 1, 6, 5)),) if row % 2 else (Region("c", (17, 14, 5, 5)), Region("z", (0, 0, 2, 2)))
        for row in range(11)
    ]
    records = tuple(replace(record, regions=part) for record, part in zip(table.records, regions, strict=True))
    return replace(table, records=records)


@pytest.fixture
def broken_table(tmp_path: Path) -> Annotations:
    """Eight files of which the fourth is cut off."""
    rng = np.random.default_rng(0)
    for row in range(8):
        pixels = rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{row}.png")
    data = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(data[: len(data) // 2])
    records = tuple(ImageRecord(f"{row}.png", str(tmp_path / f"{row}.png")) for row in range(8))
    return Annotations(records, Targets.from_columns([[row % 2] for row in range(8)], 2), LabelSpace(("a", "b")))
