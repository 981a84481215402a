"""How long targets of a million images by 1,000 labels take to build, and how much memory beside what is given."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from process import check, measure, report

from manylabel.labels.targets import Targets

_NUM_LABELS = 1000
_LABELS_PER_IMAGE = 5


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Measure each way to build in a process of its own, and one that only makes what is built from."""
    if given.way is not None:
        return measure_way(given.way, given.num_images, Path(given.table))
    ways: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.bin"
        write_dense_table(table, given.num_images)
        for way in ("columns", "dense"):
            peaks = []
            for suffix in ("-input", ""):
                words = ["--way", way + suffix, "--num-images", str(given.num_images), "--table", str(table)]
                result = json.loads(check(measure([sys.executable, __file__, *words])).output)
                peaks.append(result["own_peak_mb"])
            ways[way] = {
                "seconds": result["seconds"],
                "input_mb": round(peaks[0], 1),
                "peak_mb": round(peaks[1], 1),
                "added_mb": round(peaks[1] - peaks[0], 1),
                "stored_mb": result["stored_mb"],
            }
    return {
        "num_images": given.num_images,
        "num_labels": _NUM_LABELS,
        "labels_per_image": _LABELS_PER_IMAGE,
        "ways": ways,
        "input_mb_is": "peak of a process that only makes what the targets are built of",
        "added_mb": max(way["added_mb"] for way in ways.values()),
        "bars": {"added_mb": 500},
    }


def measure_way(way: str, num_images: int, table: Path) -> dict[str, Any]:
    """Build targets in one way, or only make what they would be built of."""
    name, _, rest = way.partition("-")
    source: Any
    if name == "columns":
        rng = np.random.default_rng(0)
        source = rng.integers(0, _NUM_LABELS, (num_images, _LABELS_PER_IMAGE), np.int16).tolist()
    else:
        source = np.fromfile(table, np.int8).reshape(num_images, _NUM_LABELS)
    if rest:
        return {"own_peak_mb": find_peak_mb()}
    started = time.perf_counter()
    targets = Targets.from_columns(source, _NUM_LABELS) if name == "columns" else Targets.from_dense(source)
    seconds = time.perf_counter() - started
    stored = targets.present_bits.nbytes + targets.known_bits.nbytes
    return {"seconds": round(seconds, 3), "stored_mb": round(stored / 2**20, 1), "own_peak_mb": find_peak_mb()}


def find_peak_mb() -> float:
    """Return the most memory this process has had; it is too short-lived to be watched from outside."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_dense_table(path: Path, num_images: int) -> None:
    """Write 1, 0 and now and then -1, a byte a cell."""
    rng = np.random.default_rng(0)
    states = np.array([0] * 62 + [1, -1], np.int8)
    with path.open("wb") as stream:
        for start in range(0, num_images, 10_000):
            shape = min(10_000, num_images - start), _NUM_LABELS
            stream.write(states[rng.integers(0, len(states), shape, np.uint8)].tobytes())


if __name__ == "__main__":
    report(
        "targets",
        run,
        ("--num-images", {"type": int, "default": 1_000_000}),
        ("--way", {"help": "measure only this: columns, dense, columns-input or dense-input"}),
        ("--table", {"help": "the dense table to read"}),
    )
