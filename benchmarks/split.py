"""How long a split of 10,000, 100,000 and 1,000,000 images by 100 labels with groups takes, and how good it is."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from process import check, measure, report

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.splits import describe_split, split
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets

_NUM_LABELS = 100
_IMAGES_PER_GROUP = 3
_SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}
_CHUNK_ROWS = 50_000


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Measure one size in this process, or each in a process of its own, whose memory is then that of the size."""
    if given.size is not None:
        return measure_split(given.size)
    runs = []
    for num_images in given.sizes:
        measured = check(measure([sys.executable, __file__, "--size", str(num_images)]))
        runs.append({**json.loads(measured.output), "peak_mb": round(measured.peak_mb, 1)})
    kept = ("num_images", "num_groups", "seconds", "microseconds_per_image", "peak_mb", "quality")
    return {
        "seconds": runs[-1]["seconds"],
        "peak_mb": runs[-1]["peak_mb"],
        "num_labels": _NUM_LABELS,
        "labels_per_image": runs[-1]["labels_per_image"],
        "sizes": [{key: result[key] for key in kept} for result in runs],
        "deviation_is": "sum of (got - wanted)^2 / wanted over labels and parts",
        "num_absent_is": "how often a part has no image with a label that has as many images as there are parts",
        "bars": {"seconds": 30, "peak_mb": 1536},
    }


def measure_split(num_images: int) -> dict[str, Any]:
    """Split one random table, and divide the same one blindly by whole groups."""
    table = build_table(num_images)
    started = time.perf_counter()
    parts = split(table, _SHARES)
    seconds = time.perf_counter() - started
    return {
        "num_images": num_images,
        "num_groups": len({record.group for record in table.records}),
        "labels_per_image": round(float(table.targets.num_present_L.sum() / num_images), 2),
        "seconds": round(seconds, 3),
        "microseconds_per_image": round(seconds / num_images * 1e6, 2),
        "quality": {"split": describe_quality(parts), "random": describe_quality(divide_blindly(table))},
    }


def build_table(num_images: int) -> Annotations:
    """Return a table of 3.2 labels an image: half are on 5 % of the images or more, the others on down to 0.02 %."""
    rng = np.random.default_rng(0)
    shares_L = 0.3 / np.arange(1, _NUM_LABELS + 1) ** 1.6 + 0.05 * (np.arange(_NUM_LABELS) % 2)
    present_bits = np.concatenate(
        [
            np.packbits(rng.random((min(_CHUNK_ROWS, num_images - start), _NUM_LABELS)) < shares_L, axis=1)
            for start in range(0, num_images, _CHUNK_ROWS)
        ]
    )
    known_bits = np.broadcast_to(np.packbits(np.ones(_NUM_LABELS, bool)), present_bits.shape).copy()
    groups = rng.integers(0, max(1, num_images // _IMAGES_PER_GROUP), num_images).tolist()
    records = tuple(ImageRecord(f"images/{row:07}.jpg", group=f"group {group}") for row, group in enumerate(groups))
    space = LabelSpace(tuple(f"label {column}" for column in range(_NUM_LABELS)))
    return Annotations(records, Targets(present_bits, known_bits, _NUM_LABELS), space)


def divide_blindly(table: Annotations) -> dict[str, Annotations]:
    """Return parts into which whole groups went by chance alone."""
    rng = np.random.default_rng(1)
    part_of_group: dict[str | None, int] = {}
    part_N = np.array(
        [
            part_of_group.setdefault(
                record.group, int(np.searchsorted(np.cumsum(list(_SHARES.values())), rng.random()))
            )
            for record in table.records
        ]
    )
    return {name: table.select(np.flatnonzero(part_N == number)) for number, name in enumerate(_SHARES)}


def describe_quality(parts: Mapping[str, Annotations]) -> dict[str, float]:
    """Return how far the parts are from what was wanted."""
    shares = describe_split(parts, _SHARES)
    num_images_of: Counter[str] = Counter()
    for share in shares:
        num_images_of[share.label] += share.got
    return {
        "deviation": round(sum((share.got - share.wanted) ** 2 / max(share.wanted, 1e-9) for share in shares), 4),
        "num_absent": sum(share.got == 0 and num_images_of[share.label] >= len(parts) for share in shares),
    }


if __name__ == "__main__":
    report(
        "split",
        run,
        ("--size", {"type": int, "help": "measure this number of images only"}),
        ("--sizes", {"type": int, "nargs": "+", "default": [10_000, 100_000, 1_000_000]}),
    )
