"""`manylabel export`: the model with smaller numbers or as one file, checked on real images."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from manylabel.cli.console import build_results_console, show_progress
from manylabel.cli.tables import Reading
from manylabel.errors import make_printable
from manylabel.evaluation.evaluate import nan_to_none
from manylabel.evaluation.report.sentences import format_value
from manylabel.runs.export import Cost, Exported, export

_NUM_SHOWN = 25


def run_export(
    model: str,
    out: Path,
    quantize: str,
    check: str | None,
    max_changed: float,
    unknown_labels: str,
    reading: Reading,
    json: bool,
    quiet: bool,
) -> int:
    """Write, compare, and say what it costs."""
    table = None if check is None else reading.load(check)
    with show_progress(quiet) as tell:
        exported = export(
            model,
            out,
            quantize=quantize,
            check=table,
            max_changed=max_changed,
            unknown_labels=unknown_labels,
            on_event=tell,
        )
    if json:
        print(_to_json(exported))
    elif not quiet:
        _print(exported, build_results_console())
    return 0


def _print(exported: Exported, console: Console) -> None:
    if exported.cost is not None:
        _print_cost(exported.cost, console)
    saved = exported.num_bytes / exported.num_bytes_before
    place = f"the folder {exported.path}" if exported.path.is_dir() else str(exported.path)
    console.print(
        f"Written: {place}, {exported.num_bytes / 1e6:.1f} MB ({saved:.0%} of before)",
        markup=False,
        soft_wrap=True,
    )


def _print_cost(cost: Cost, console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("label", overflow="fold")
    for title in ("shown", "changed", "F1 before", "after", "AP before", "after"):
        table.add_column(title, justify="right")
    ordered = sorted(cost.labels, key=lambda each: (-each.num_changed, -each.num_positive))
    for each in ordered[:_NUM_SHOWN]:
        figures = (each.f1_before, each.f1_after, each.average_precision_before, each.average_precision_after)
        cells = (f"{each.num_positive:,}", f"{each.num_changed:,}", *map(format_value, figures))
        table.add_row(Text(make_printable(each.label)), *cells)
    console.print(table)
    if len(ordered) > _NUM_SHOWN:
        console.print(f"... and {len(ordered) - _NUM_SHOWN:,} more labels, with fewer changes.", markup=False)
    console.print(
        f"\n{cost.num_changed:,} of {cost.num_images:,} images get another label set. Probabilities differ by "
        f"{cost.max_difference:.2g} at most\nand by {cost.mean_difference:.2g} on average.",
        markup=False,
    )


def _to_json(exported: Exported) -> str:
    cost = exported.cost
    values = {
        "path": str(exported.path),
        "num_bytes": exported.num_bytes,
        "num_bytes_before": exported.num_bytes_before,
        "cost": None
        if cost is None
        else {**cost.summarise(), "labels": [nan_to_none(asdict(each)) for each in cost.labels]},
    }
    return json_format.dumps(values, ensure_ascii=False, allow_nan=False)
