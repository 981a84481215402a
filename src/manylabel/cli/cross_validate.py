"""`manylabel cross-validate`: every image judged by a model that never saw it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from manylabel.cli.console import build_results_console, show_progress
from manylabel.cli.tables import Reading
from manylabel.cli.train import build_config
from manylabel.runs.cross_validate import CrossValidation, cross_validate

_SHOWN = (
    "average_precision_macro", "average_precision_micro", "roc_auc_macro", "f1_macro", "f1_micro", "precision_micro",
    "recall_micro", "subset_accuracy", "hamming_loss", "expected_calibration_error",
)  # fmt: skip


def run_cross_validate(
    data: str,
    folds: int,
    out: Path | None,
    reading: Reading,
    config_file: Path | None,
    quiet: bool,
    settings: Mapping[str, Any],
) -> int:
    """Train the folds and print how the figures vary."""
    config = build_config(config_file, settings)
    annotations = reading.load(data)
    with show_progress(quiet) as tell:
        found = cross_validate(annotations, config, num_folds=folds, out=out, on_event=tell)
    print_folds(found, out)
    return 0


def print_folds(found: CrossValidation, out: Path | None) -> None:
    """Print mean and standard deviation over the folds, and where the answers are."""
    console = build_results_console()
    table = Table(box=None, pad_edge=False)
    table.add_column("at a threshold of 0.5", no_wrap=True)
    for column in ("mean", "deviation", "lowest fold", "highest fold"):
        table.add_column(column, justify="right")
    for name, figures in found.summarise().items():
        if name in _SHOWN:
            table.add_row(name, *(f"{figures[key]:.3f}" for key in ("mean", "deviation", "low", "high")))
    console.print(table)
    console.print(f"\n{len(found.predictions):,} images, each answered by a model that never saw it.", markup=False)
    if out is not None:
        console.print(f"Answers: {out / 'predictions' / 'folds.parquet'}", markup=False, soft_wrap=True)
