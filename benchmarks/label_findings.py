"""How long the doctor takes for the labels of a million images, and of ten thousand names: no image is opened."""

from __future__ import annotations

import argparse
import json
import random
import string
import sys
import time
from typing import Any

import numpy as np
from process import check, measure, report

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.checks import find_findings
from manylabel.data.checks.names import find_same_names, find_similar_names
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets

_NUM_PLANTED = 100


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Measure one table in this process, or each in a process of its own, whose memory is then that of the table."""
    if given.table is not None:
        return measure_table(*given.table)
    runs = []
    for num_images, num_labels in ((1_000_000, 100), (100_000, 1_000)):
        measured = check(measure([sys.executable, __file__, "--table", str(num_images), str(num_labels)]))
        runs.append({**json.loads(measured.output), "peak_mb": round(measured.peak_mb, 1)})
    return {
        "seconds": runs[0]["seconds"],
        "peak_mb": runs[0]["peak_mb"],
        "tables": [{key: result[key] for key in ("num_images", "num_labels", "seconds", "peak_mb")} for result in runs],
        "names": [measure_names(num_names) for num_names in (10_000, 40_000)],
    }


def measure_table(num_images: int, num_labels: int) -> dict[str, Any]:
    """Find what is wrong with a random table in groups, half of whose absent cells are unknown."""
    table = build_table(num_images, num_labels)
    started = time.perf_counter()
    num_findings = len(find_findings(table))
    seconds = time.perf_counter() - started
    return {
        "num_images": num_images,
        "num_labels": num_labels,
        "seconds": round(seconds, 3),
        "num_findings": num_findings,
    }


def build_table(num_images: int, num_labels: int) -> Annotations:
    """Return a table in which an eighth of the cells is present and half of the others is unknown."""
    rng = np.random.default_rng(0)
    shape = (num_images, (num_labels + 7) // 8)
    present_bits = np.bitwise_and.reduce([rng.integers(0, 256, shape, np.uint8) for _ in range(3)])
    known_bits = present_bits | rng.integers(0, 256, shape, np.uint8)
    inside = np.packbits(np.ones(num_labels, bool))
    records = tuple(ImageRecord(f"images/{row:07}.jpg", group=f"group {row // 3}") for row in range(num_images))
    space = LabelSpace(tuple(f"label {column}" for column in range(num_labels)))
    return Annotations(records, Targets(present_bits & inside, known_bits & inside, num_labels), space)


def measure_names(num_names: int) -> dict[str, Any]:
    """Look for spellings of one label among random names, with a hundred planted slips of one letter."""
    chance = random.Random(0)
    names = ["".join(chance.choices(string.ascii_lowercase, k=chance.randint(8, 20))) for _ in range(num_names)]
    planted = [name[:3] + name[4:] for name in chance.sample(names, _NUM_PLANTED)]
    count_of = {**dict.fromkeys(names, 9), **dict.fromkeys(planted, 1)}
    started = time.perf_counter()
    found = {name for name, _ in [*find_same_names(count_of), *find_similar_names(count_of)]}
    seconds = time.perf_counter() - started
    return {
        "num_names": num_names,
        "seconds": round(seconds, 3),
        "num_planted": _NUM_PLANTED,
        "num_found": len(found & set(planted)),
        "num_wrong": len(found - set(planted)),
    }


if __name__ == "__main__":
    report(
        "label_findings",
        run,
        ("--table", {"type": int, "nargs": 2, "metavar": ("IMAGES", "LABELS"), "help": "measure this table only"}),
    )
