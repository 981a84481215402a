"""`manylabel train`: settings from flags and a file, tables from DATA, the whole run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manylabel.cli.console import build_results_console, show_progress
from manylabel.cli.tables import Reading, load_parts
from manylabel.evaluation.report.terminal import print_report
from manylabel.runs.train import Run, train
from manylabel.training.config import TrainConfig, load_config, parse_arguments
from manylabel.training.processes import join_processes


def run_train(
    data: str,
    out: Path,
    reading: Reading,
    val: str | None,
    test: str | None,
    config_file: Path | None,
    quiet: bool,
    settings: Mapping[str, Any],
) -> int:
    """Train and print the reports; return the exit code, 128 and the signal's number if a signal stopped the run."""
    with join_processes() as processes:
        config = build_config(config_file, settings)
        tables, sentence = load_parts(reading, data, val, test, config.seed)
        with show_progress(quiet or not processes.is_main) as tell:
            if sentence:
                tell("note", {"message": sentence})
            run = train(tables["train"], tables.get("val"), config, out=out, test=tables.get("test"), on_event=tell)
    print_run(run)
    return run.exit_code


def build_config(config_file: Path | None, settings: Mapping[str, Any]) -> TrainConfig:
    """Return the settings of a file with the flags on top."""
    values = load_config(config_file) if config_file is not None else {}
    values.update(settings)
    if isinstance(values.get("backbone_args"), str):
        values["backbone_args"] = parse_arguments(values["backbone_args"])
    return TrainConfig(**values)


def print_run(run: Run) -> None:
    """Print what a run came to: the report of the test images (else of validation) and where everything is."""
    console = build_results_console()
    report = run.reports.get("test", run.reports.get("val"))
    if report is not None:
        print_report(report, console)
    if run.status == "stopped":
        console.print("\nStopped before its end; the same command with --resume goes on.", markup=False)
    console.print(f"\nReport: {run.folder / 'report.html'}", markup=False, soft_wrap=True)
    console.print(f"Model:  {run.bundle.folder}", markup=False, soft_wrap=True)
    console.print(f"Use it: manylabel predict {run.folder} IMAGES...", markup=False, soft_wrap=True)
