"""A comparison in one sentence, in 80 columns of text, as JSON, and as one page that needs no network."""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import rich.box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from manylabel import __version__
from manylabel.errors import make_printable
from manylabel.evaluation.compare import Comparison, Difference, LabelDifference, is_better
from manylabel.evaluation.report.definitions import DEFINITIONS, HEADLINES
from manylabel.evaluation.report.page import render_page
from manylabel.evaluation.report.sentences import UNDEFINED, count, format_share, format_value
from manylabel.files import write_bytes_atomically

MAX_ROWS = 25
"""How many labels the terminal lists."""

_METRICS = {
    "average_precision": "macro average precision",
    "roc_auc": "macro ROC AUC",
    "f1": "macro F1",
    "precision": "macro precision",
    "recall": "macro recall",
}
_SMALLEST_P = 0.0001
_BY_WORD = {True: "better", False: "worse", None: "undecided"}


def describe_comparison(comparison: Comparison) -> str:
    """Return what the comparison means in one sentence."""
    first, second = make_printable(comparison.first), make_printable(comparison.second)
    metric, row = _METRICS[comparison.by], comparison.headline
    labels = (
        f"better on {count(comparison.count('better'), 'label')}, worse on {comparison.count('worse')}, "
        f"undecided on {comparison.count('undecided')}"
    )
    if math.isnan(row.difference):
        return f"{second} cannot be compared with {first} on {metric}, which is undefined; {labels}."
    interval = f"{format_share(comparison.confidence)} interval"
    verdict = is_better(comparison, f"{comparison.by}_macro")
    if verdict is None:
        found = f"difference {format_difference(row.difference)}, {interval} {format_difference_range(row)}"
        return f"{second} and {first} cannot be told apart on {metric} ({found}); {labels}."
    ends = sorted((abs(row.low), abs(row.high)))
    found = f"by {abs(row.difference):.3f} ({interval} {ends[0]:.3f} to {ends[1]:.3f})"
    return f"{second} {'beats' if verdict else 'is behind'} {first} on {metric} {found}; {labels}."


def describe_method(comparison: Comparison) -> str:
    """Return how the verdicts came about."""
    return (
        f"{comparison.num_resamples:,} resamples of {count(comparison.num_images, 'image')}, the same for both; labels "
        f"are called different by {comparison.correction}, with at most {format_share(1 - comparison.confidence)} of "
        "them expected to be wrong."
    )


def describe_left_out(comparison: Comparison) -> list[str]:
    """Return which images and labels only one side has."""
    sides = (("first", comparison.first), ("second", comparison.second))
    return [
        f"Left out: {count(len(names), noun)} that only {make_printable(name)} has."
        for noun in ("image", "label")
        for place, name in sides
        if (names := comparison.left_out[f"{noun}s_of_{place}"])
    ]


def build_comparison(comparison: Comparison) -> dict[str, Any]:
    """Return the answer for programs: the sentence first, then the numbers."""
    return {"sentence": describe_comparison(comparison), **comparison.to_dict()}


def format_difference(value: float) -> str:
    """Return a difference with its sign.

    Example:
        >>> format_difference(0.0213), format_difference(-0.5), format_difference(float("nan"))
        ('+0.021', '-0.500', 'n/a')
    """
    return UNDEFINED if math.isnan(value) else f"{value:+.3f}"


def format_difference_range(row: Difference | LabelDifference) -> str:
    """Return the limits of a difference, `n/a` where they are undefined."""
    low, high = (row.low, row.high) if isinstance(row, Difference) else (row["low"], row["high"])
    return UNDEFINED if math.isnan(low) else f"{format_difference(low)} to {format_difference(high)}"


def order_labels(comparison: Comparison) -> list[LabelDifference]:
    """Return the labels: those that differ first, the surest first."""
    order = {"better": 0, "worse": 0, "undecided": 1}
    return sorted(comparison.labels, key=lambda row: (order[row["verdict"]], row["p_value"], -row["num_positive"]))


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the sentence, the metrics of both, and the labels that differ most surely."""

    def say(text: str, style: str = "") -> None:
        printable = make_printable(text).encode(console.encoding, "backslashreplace").decode(console.encoding)
        console.print(Text(printable, style), highlight=False)

    say(describe_comparison(comparison), "bold")
    for warning in comparison.warnings:
        say(f"! {warning}", "bold yellow")
    for sentence in describe_left_out(comparison):
        say(sentence)
    console.print()
    console.print(_build_metrics_table(comparison))
    lower = ", ".join(name for name in HEADLINES if DEFINITIONS[name].is_lower_better)
    say(f"Lower is better: {lower}. A difference is second minus first.", "dim")
    console.print()
    say(f"Labels, by {comparison.by}:")
    console.print(_build_label_table(comparison, console))
    if len(comparison.labels) > MAX_ROWS:
        say(f"... and {count(len(comparison.labels) - MAX_ROWS, 'more label')}; --json and --html list all.", "dim")
    say(describe_method(comparison), "dim")


def _build_metrics_table(comparison: Comparison) -> Table:
    table = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("metric", no_wrap=True)
    for title in ("first", "second", "diff."):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column(f"{format_share(comparison.confidence)} interval", no_wrap=True)
    for name in HEADLINES:
        row = comparison.metrics[name]
        table.add_row(
            name,
            format_value(row.first),
            format_value(row.second),
            format_difference(row.difference),
            format_difference_range(row),
        )
    return table


def _build_label_table(comparison: Comparison, console: Console) -> Table:
    table = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("label", no_wrap=True, overflow="ellipsis", max_width=max(8, console.width - 60))
    for title in ("shown", "first", "second", "diff."):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("interval", no_wrap=True)
    table.add_column("second is", no_wrap=True, min_width=len("undecided"))
    styles = {"better": "green", "worse": "red", "undecided": "dim"}
    for row in order_labels(comparison)[:MAX_ROWS]:
        name = make_printable(row["label"]).encode(console.encoding, "backslashreplace").decode(console.encoding)
        table.add_row(
            Text(name),
            f"{row['num_positive']}",
            format_value(row["first"], 2),
            format_value(row["second"], 2),
            format_difference(row["difference"]),
            format_difference_range(row),
            Text(row["verdict"], styles[row["verdict"]]),
        )
    return table


def save_comparison(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Write the comparison as one HTML file that loads nothing.

    Raises:
        RunError: the file cannot be written.
    """
    template = resources.files("manylabel.evaluation.report").joinpath("comparison.html").read_text(encoding="utf-8")
    html = render_page(
        template,
        title=f"{make_printable(comparison.first)} and {make_printable(comparison.second)}",
        first=make_printable(comparison.first),
        second=make_printable(comparison.second),
        sentence=describe_comparison(comparison),
        warnings=[make_printable(warning) for warning in comparison.warnings],
        left_out=describe_left_out(comparison),
        method=describe_method(comparison),
        confidence=format_share(comparison.confidence),
        by=comparison.by,
        tiles=[(verdict, comparison.count(verdict)) for verdict in ("better", "worse", "undecided")],
        headlines=[_describe_metric(comparison, name) for name in HEADLINES],
        others=[_describe_metric(comparison, name) for name in comparison.metrics if name not in HEADLINES],
        labels=[_describe_label(row) for row in order_labels(comparison)],
        version=__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    write_bytes_atomically(path, html.encode("utf-8", "backslashreplace"))


def _describe_metric(comparison: Comparison, name: str) -> dict[str, Any]:
    row, definition = comparison.metrics[name], DEFINITIONS[name]
    return {
        "name": name,
        "title": definition.title,
        "is_lower_better": definition.is_lower_better,
        "first": format_value(row.first),
        "second": format_value(row.second),
        "difference": format_difference(row.difference),
        "range": format_difference_range(row),
        "verdict": _BY_WORD[is_better(comparison, name)],
    }


def _describe_label(row: LabelDifference) -> dict[str, Any]:
    """Return a line of the table; the bar of a difference reaches from the middle of its cell."""
    is_undefined = math.isnan(row["difference"])
    share = 0.0 if is_undefined else max(-1.0, min(1.0, row["difference"]))
    return {
        "label": make_printable(row["label"]),
        "num_positive": row["num_positive"],
        "first": format_value(row["first"]),
        "first_sort": "" if math.isnan(row["first"]) else f"{row['first']:.6f}",
        "second": format_value(row["second"]),
        "second_sort": "" if math.isnan(row["second"]) else f"{row['second']:.6f}",
        "difference": format_difference(row["difference"]),
        "difference_sort": "" if is_undefined else f"{row['difference']:.6f}",
        "from": round(50 + 50 * min(share, 0), 2),
        "to": round(50 + 50 * max(share, 0), 2),
        "range": format_difference_range(row),
        "p_value": f"{row['p_value']:.4f}" if row["p_value"] >= _SMALLEST_P else f"below {_SMALLEST_P}",
        "p_value_sort": f"{row['p_value']:.8f}",
        "verdict": row["verdict"],
        "verdict_sort": {"better": 2, "undecided": 1, "worse": 0}[row["verdict"]],
    }
