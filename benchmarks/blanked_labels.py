"""What it is worth to keep unknown apart from absent: 30 % of the cells of train and val blanked, read in two ways.

The images and network of the demo, eight epochs, three seeds for blanks and training; all runs are judged on the same
test images, of which every cell is known.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from process import report

from manylabel import load_annotations, train, write_demo
from manylabel.cli.demo import DEMO_CONFIG

SHARE_BLANKED = 0.3
SEEDS = (0, 1, 2)
NUM_EPOCHS = 8
METRICS = ("average_precision_macro", "f1_macro", "hamming_loss")


def run(given: argparse.Namespace) -> dict[str, Any]:  # noqa: ARG001 - the signature of a benchmark
    """Train six models and compare."""
    figures: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        table = write_demo(Path(folder) / "data")
        for seed in SEEDS:
            blanked = write_blanked(Path(table), Path(folder) / "data" / f"blanked_{seed}.csv", seed)
            for reading in ("unknown", "absent"):
                parts = load_annotations(blanked, blank=reading).parts()
                config = replace(DEMO_CONFIG, seed=seed, epochs=NUM_EPOCHS)
                done = train(
                    parts["train"], parts["val"], config, out=Path(folder) / f"{reading}_{seed}", test=parts["test"]
                )
                found = done.reports["test"].metrics
                for name in METRICS:
                    figures.setdefault(name, {}).setdefault(reading, []).append(found[name].value)
    return {
        "share_blanked": SHARE_BLANKED,
        "seeds": list(SEEDS),
        **{
            name: {
                f"blanks_{reading}": {
                    "mean": round(statistics.mean(values), 4),
                    "min": round(min(values), 4),
                    "max": round(max(values), 4),
                    "by_seed": [round(value, 4) for value in values],
                }
                for reading, values in by_reading.items()
            }
            for name, by_reading in figures.items()
        },
    }


def write_blanked(table: Path, out: Path, seed: int) -> Path:
    """Write a one-hot table in which a share of the cells of train and val is empty; the test cells all stand."""
    annotations = load_annotations(table)
    rng = np.random.default_rng(seed)
    names = annotations.label_space.names
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *(f"digit {name}" for name in names), "part"])
        for row, record in enumerate(annotations.records):
            present = annotations.targets.present_NL([row])[0]
            is_blank = rng.random(len(names)) < (SHARE_BLANKED if record.part != "test" else 0.0)
            cells = ["" if blank else str(int(cell)) for blank, cell in zip(is_blank, present, strict=True)]
            writer.writerow([record.id, *cells, record.part])
    return out


if __name__ == "__main__":
    report("blanked_labels", run)
