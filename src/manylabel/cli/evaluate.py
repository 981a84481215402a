"""`manylabel evaluate`: a model's label sets against the truth of a table."""

from __future__ import annotations

import json as json_format
from pathlib import Path

from manylabel.cli.console import build_results_console, show_progress
from manylabel.cli.tables import Reading
from manylabel.errors import ConfigError, DataError, build_message, join_names, suggest_name
from manylabel.evaluation.report.metrics import build_metrics
from manylabel.evaluation.report.slices import print_slices
from manylabel.evaluation.report.terminal import print_report
from manylabel.runs.evaluate import evaluate

UNKNOWN_LABELS = ("stop", "drop")
ALL_PARTS = "all"


def run_evaluate(
    model: str,
    data: str,
    reading: Reading,
    out: Path | None,
    part: str | None,
    unknown_labels: str,
    slice_by: str | None,
    json: bool,
    quiet: bool,
) -> int:
    """Judge and print; return 1 if some images could not be used."""
    if unknown_labels not in UNKNOWN_LABELS:
        problem = f"unknown choice {unknown_labels!r}{suggest_name(unknown_labels, UNKNOWN_LABELS)}"
        raise ConfigError(build_message("--unknown-labels", problem, expected=join_names(UNKNOWN_LABELS)))
    annotations = reading.load(data)
    parts = annotations.parts()
    name = part if part is not None else "test"
    if name in parts:
        annotations = parts[name]
    elif name != ALL_PARTS and (parts or part is not None):
        problem = f"there is no part {name!r}{suggest_name(name, parts)}"
        known = join_names([*parts, ALL_PARTS])
        raise DataError(build_message(data, problem, expected=known, do="Name the part with --part"))
    with show_progress(quiet or json) as tell:
        if name == ALL_PARTS and {"train", "val"} & parts.keys():
            tell("note", {"message": "Warning: images that the model was trained or tuned on are judged too."})
        report = evaluate(
            model,
            annotations,
            name=name,
            out=out,
            unknown_labels=unknown_labels,
            slice_by=slice_by,
            on_event=tell,
        )
    if json:
        print(json_format.dumps(build_metrics([report]), indent=2, ensure_ascii=False))
    else:
        console = build_results_console()
        print_report(report, console)
        print_slices(report, console)
        if out is not None:
            console.print(f"\nReport: {out / 'report.html'}", markup=False, soft_wrap=True)
    return 1 if report.skipped else 0
