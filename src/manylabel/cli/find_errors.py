"""`manylabel find-errors`: a queue of cells to look at, the most suspicious first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from manylabel.cli.console import build_results_console, show_progress
from manylabel.cli.outputs import check_header, check_output, check_spares_images
from manylabel.cli.tables import Reading
from manylabel.cli.train import build_config
from manylabel.errors import make_printable
from manylabel.evaluation.mistakes import QUEUE_COLUMNS, Mistake, save_queue
from manylabel.runs.find_errors import DEFAULT_CONFIG, find_errors

_NUM_SHOWN = 10


def run_find_errors(
    data: str,
    out: Path,
    answers: Path | None,
    folds: int,
    max_mistakes: int | None,
    reading: Reading,
    config_file: Path | None,
    quiet: bool,
    settings: Mapping[str, Any],
) -> int:
    """Answer by cross-validation, or take answers, and write the queue."""
    check_output(out, (data, answers, config_file), ending=".csv")
    check_header(out, QUEUE_COLUMNS, "queue")
    config = build_config(config_file, {"freeze": DEFAULT_CONFIG.freeze, **settings})
    annotations = reading.load(data)
    check_spares_images(out, annotations)
    with show_progress(quiet) as tell:
        mistakes = find_errors(
            annotations, config, answers=answers, num_folds=folds, max_mistakes=max_mistakes, on_event=tell
        )
    save_queue(mistakes, out)
    if not quiet:
        _print_queue(mistakes, out, data)
    return 0


def _print_queue(mistakes: Sequence[Mistake], out: Path, data: str) -> None:
    console = build_results_console()
    table = Table(box=None, pad_edge=False)
    for column in ("image", "label", "given", "suggestion"):
        table.add_column(column, overflow="fold")
    table.add_column("probability", justify="right")
    for mistake in mistakes[:_NUM_SHOWN]:
        cells = (mistake.image, mistake.label, mistake.given, mistake.suggestion)
        table.add_row(*(Text(make_printable(cell)) for cell in cells), f"{mistake.probability:.3f}")
    console.print(table)
    num_missing = sum(mistake.suggestion == "present" for mistake in mistakes)
    console.print(
        f"\n{len(mistakes):,} cells look wrong: {num_missing:,} labels may be missing, "
        f"{len(mistakes) - num_missing:,} may not be there.\nQueue: {out}\n"
        "Delete the rows that are right after all, then: "
        f"manylabel convert {data} FIXED.csv --apply {out}",
        markup=False,
        soft_wrap=True,
    )
