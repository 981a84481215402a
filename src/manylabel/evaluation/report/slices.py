"""The parts of a report in 80 columns of text."""

from __future__ import annotations

import rich.box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from manylabel.errors import make_printable
from manylabel.evaluation.evaluate import Report
from manylabel.evaluation.report.sentences import format_range, format_share, format_value

_SHOWN = {"average_precision_macro": "AP", "f1_macro": "F1"}


def print_slices(report: Report, console: Console) -> None:
    """Print a line for each part; nothing where the report was not sliced."""
    if not report.slices:
        return
    table = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column(make_printable(report.slices[0].column), overflow="fold", min_width=8)
    table.add_column("images", justify="right")
    for title in _SHOWN.values():
        table.add_column(title, justify="right")
        table.add_column(f"{format_share(report.confidence)} interval", no_wrap=True)
    for part in report.slices:
        cells = [
            cell
            for name in _SHOWN
            for cell in (format_value(part.metrics[name].value), format_range(part.metrics[name]))
        ]
        value = make_printable(part.value).encode(console.encoding, "backslashreplace").decode(console.encoding)
        table.add_row(Text(value if value else "(none)"), f"{part.num_images:,}", *cells)
    console.print()
    console.print(table)
    console.print(Text("Means over labels are over those that a part shows: parts may differ by that alone.", "dim"))
