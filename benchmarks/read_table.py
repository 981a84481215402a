"""How long a table of 1,000,000 images by 100 labels takes to read, as CSV and as Parquet, and how much memory."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet
from process import check, measure, report

from manylabel.data.formats.detect import load_data

_NUM_LABELS = 100
_SHARE_PRESENT = 0.03
_CHUNK_ROWS = 50_000


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Write the table, and read it in a process of its own for each way it is written."""
    if given.table is not None:
        return read_table(Path(given.table), Path(given.images))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        (folder / "images" / "0000000.jpg").touch()  # a table without any image is refused
        csv, parquet = folder / "labels.csv", folder / "labels.parquet"
        write_table(csv, given.num_images)
        pyarrow.parquet.write_table(pyarrow.csv.read_csv(csv), parquet)
        ways: dict[str, dict[str, Any]] = {}
        for path in (csv, parquet):
            words = ["--table", str(path), "--images", str(folder)]
            measured = check(measure([sys.executable, __file__, *words]))
            ways[path.suffix[1:]] = {
                **json.loads(measured.output)["result"],
                "peak_mb": round(measured.peak_mb, 1),
                "file_mb": round(path.stat().st_size / 2**20, 1),
            }
    return {
        "num_images": given.num_images,
        "num_labels": _NUM_LABELS,
        "ways": ways,
        "missing_images": given.num_images - 1,
        "seconds": ways["csv"]["seconds"],
        "peak_mb": max(way["peak_mb"] for way in ways.values()),
        "bars": {"seconds": 20, "peak_mb": 1024},
    }


def read_table(path: Path, images: Path) -> dict[str, Any]:
    """Read one table, and say how much of the time went into looking for the files of the images."""
    from manylabel.data.formats.columns import ImageRoot

    spent = 0.0
    find_missing = ImageRoot.find_missing

    def time_search(root: ImageRoot, names: Any) -> list[str]:
        nonlocal spent
        begun = time.perf_counter()
        missing = find_missing(root, names)
        spent = time.perf_counter() - begun
        return missing

    ImageRoot.find_missing = time_search  # type: ignore[method-assign]
    started = time.perf_counter()
    loaded = load_data(path, images)
    seconds = time.perf_counter() - started
    return {
        "result": {
            "layout": loaded.layout.name,
            "num_present": int(loaded.annotations.targets.num_present_L.sum()),
            "seconds": round(seconds, 3),
            "seconds_for_missing_images": round(spent, 3),
        }
    }


def write_table(path: Path, num_images: int) -> None:
    """Write `image,label 0,...` with 3 % of the cells 1 and the others 0."""
    rng = np.random.default_rng(0)
    with path.open("wb") as stream:
        stream.write(("image," + ",".join(f"label {column}" for column in range(_NUM_LABELS)) + "\n").encode())
        for start in range(0, num_images, _CHUNK_ROWS):
            num_rows = min(_CHUNK_ROWS, num_images - start)
            text = np.full((num_rows, 2 * _NUM_LABELS), ord(","), np.uint8)
            text[:, 0::2] = ord("0") + (rng.random((num_rows, _NUM_LABELS)) < _SHARE_PRESENT)
            text[:, -1] = ord("\n")
            stream.writelines(b"images/%07d.jpg," % (start + row) + cells.tobytes() for row, cells in enumerate(text))


if __name__ == "__main__":
    report(
        "read_table",
        run,
        ("--num-images", {"type": int, "default": 1_000_000}),
        ("--table", {"help": "read this table only"}),
        ("--images", {"help": "the folder of its images"}),
    )
