"""How long a head takes to learn from kept features of 2,400 posters, and a cross-validation of it in five folds.

The features are those of the real weights, 1,024 a poster; they are computed before the clock starts, since they are
computed once for all heads, losses, folds and seeds. What a command needs to start and torch to load is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from posters import MOBILENET, load_posters, train_bare
from process import report

import manylabel as ml
from manylabel.runs.cross_validate import cross_validate

ROUNDS = 3


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Fill the cache of features, then time both."""
    table = load_posters()
    config = ml.TrainConfig(**MOBILENET, freeze="backbone", epochs=given.epochs)
    parts = {"train": table, "val": table.select(range(32))}
    started = time.perf_counter()
    network = train_bare(ml.TrainConfig(**MOBILENET, freeze="backbone", epochs=1), parts).network
    extraction_seconds = time.perf_counter() - started
    return {
        "num_images": len(table),
        "num_features": network.backbone.num_features,
        "epochs": given.epochs,
        "extraction_seconds": round(extraction_seconds, 1),
        "head_seconds": _time(lambda: train_bare(config, parts)),
        "cross_validation_seconds": _time(lambda: cross_validate(table, config, num_folds=5)),
        "bars": {"head_seconds": 5, "cross_validation_seconds": 30},
    }


def _time(work: Callable[[], object]) -> float:
    """Return the median seconds of a few rounds."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return round(statistics.median(seconds), 2)


if __name__ == "__main__":
    report("frozen_head", run, ("--epochs", {"type": int, "default": 10}))
