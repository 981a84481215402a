"""How long the doctor's look at many small images takes, how it grows, what it needs, and what a second look costs."""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from process import report

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.scan import scan_images
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets

SIDE = 96


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Scan a tenth and then all, first without and then with what the cache knows."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder), given.images)
        tenth = time_scan(paths[: given.images // 10], Path(folder) / "tenth")
        first = time_scan(paths, Path(folder) / "all")
        second = time_scan(paths, Path(folder) / "all")
    return {
        "num_images": given.images,
        "images_per_second_of_a_tenth": round(given.images / 10 / tenth),
        "images_per_second": round(given.images / first),
        "seconds": round(first, 1),
        "seconds_again": round(second, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "bars": {"peak_mb": 1024},
    }


def write_images(folder: Path, number: int) -> list[Path]:
    """Write small JPEGs that all differ."""
    rng = np.random.default_rng(0)
    paths = []
    for row in range(number):
        path = folder / f"{row // 1000:03d}" / f"{row:06d}.jpg"
        path.parent.mkdir(exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path, "JPEG", quality=80)
        paths.append(path)
    return paths


def time_scan(paths: list[Path], cache: Path) -> float:
    """Return the seconds of one scan."""
    records = tuple(ImageRecord(path.name, str(path)) for path in paths)
    table = Annotations(records, Targets.from_columns([[0]] * len(records), 1), LabelSpace(("label",)))
    started = time.perf_counter()
    scan_images(table, cache=cache)
    return time.perf_counter() - started


if __name__ == "__main__":
    report("scan", run, ("--images", {"type": int, "default": 100_000, "help": "how many images"}))
