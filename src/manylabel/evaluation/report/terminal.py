"""A report in 80 columns of text."""

from __future__ import annotations

import rich.box
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from manylabel.errors import make_printable
from manylabel.evaluation.evaluate import LabelRow, Report
from manylabel.evaluation.report.definitions import DEFINITIONS, HEADLINES
from manylabel.evaluation.report.sentences import (
    count,
    describe_baselines,
    describe_tuning,
    format_range,
    format_share,
    format_value,
    order_by_prevalence,
    summarise_in_words,
    warn,
)

MAX_ROWS = 25
"""How many labels the table lists."""

MAX_SKIPPED = 5
"""How many skipped images are named."""

_NUMBER_COLUMNS = ("known", "shown", "thresh", "AP", "AUC", "prec", "recall", "F1")
_WIDTH_OF_NUMBERS = 55
"""What the columns of numbers and the gaps between all columns take; the rest is for the label."""


def print_report(report: Report, console: Console) -> None:
    """Print the summary, the headline metrics beside their baselines, and the most prevalent labels.

    Colours, width and characters are the console's: NO_COLOR, pipes and terminals that cannot show every character are
    respected, and no name can send an escape sequence.
    """
    _print_text(console, " ".join(summarise_in_words(report)))
    for sentence in warn(report):
        _print_text(console, f"! {sentence}", "bold yellow")
    console.print()
    console.print(_build_metrics_table(report))
    lower = ", ".join(name for name in HEADLINES if DEFINITIONS[name].is_lower_better)
    _print_text(console, f"Lower is better: {lower}.", "dim")
    _print_text(console, describe_baselines(report), "dim")
    _print_text(console, describe_tuning(report))
    console.print()
    console.print(_build_label_table(report, console))
    num_left_out = len(report.labels) - MAX_ROWS
    if num_left_out > 0:
        left_out = f"... and {count(num_left_out, 'more label')}, rarer than these; metrics.json and the page list all."
        _print_text(console, left_out, "dim")
    _print_skipped(report, console)


def _print_text(console: Console, text: str, style: str = "") -> None:
    console.print(_as_text(console, text, style), highlight=False)


def _as_text(console: Console, text: str, style: str = "") -> Text:
    """Return text in which nothing is markup, and every character can be written by the console."""
    printable = make_printable(text)
    return Text(printable.encode(console.encoding, "backslashreplace").decode(console.encoding), style)


def _build_metrics_table(report: Report) -> Table:
    table = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("metric", no_wrap=True)
    table.add_column("value", justify="right", style="bold", no_wrap=True)
    table.add_column(f"{format_share(report.confidence)} interval", no_wrap=True)
    for title in ("at 0.5", "no label", "by freq."):
        table.add_column(title, justify="right", no_wrap=True)
    for name in HEADLINES:
        interval = report.metrics[name]
        table.add_row(
            name,
            format_value(interval.value),
            format_range(interval),
            format_value(report.at_half[name]) if name in report.at_half else "same",
            format_value(report.baselines["all_negative"][name]),
            format_value(report.baselines["prior"][name]),
        )
    return table


def _build_label_table(report: Report, console: Console) -> Table:
    table = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("label", no_wrap=True)
    for title in _NUMBER_COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    width = max(8, console.width - _WIDTH_OF_NUMBERS)
    for place in order_by_prevalence(report)[:MAX_ROWS]:
        row = report.labels[place]
        table.add_row(_fit(_as_text(console, row["label"]), width, console), *_show_numbers(row))
    return table


def _show_numbers(row: LabelRow) -> list[str]:
    rates = (row["average_precision"], row["roc_auc"], row["precision"], row["recall"], row["f1"])
    threshold = format_value(row["threshold"], 2)
    return [f"{row['num_known']}", f"{row['num_positive']}", threshold, *(format_value(rate, 2) for rate in rates)]


def _fit(name: Text, width: int, console: Console) -> Text:
    """Return the name in at most `width` cells; a Chinese character takes two."""
    if cell_len(name.plain) <= width:
        return name
    ellipsis = ".." if console.options.ascii_only else "…"
    return Text(set_cell_size(name.plain, width - len(ellipsis)) + ellipsis)


def _print_skipped(report: Report, console: Console) -> None:
    if not report.skipped:
        return
    console.print()
    _print_text(console, f"Skipped {count(len(report.skipped), 'image')}:", "bold")
    for image, reason in list(report.skipped.items())[:MAX_SKIPPED]:
        _print_text(console, f"  {image}: {reason}")
    if len(report.skipped) > MAX_SKIPPED:
        _print_text(console, f"  ... and {len(report.skipped) - MAX_SKIPPED:,} more")
