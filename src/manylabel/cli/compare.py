"""`manylabel compare`: two models on the same images, and what their difference is worth."""

from __future__ import annotations

import json as json_format
from pathlib import Path

from manylabel.cli.console import build_results_console
from manylabel.cli.outputs import check_output
from manylabel.evaluation.report.comparison import build_comparison, print_comparison, save_comparison
from manylabel.runs.compare import compare


def run_compare(
    first: Path, second: Path, part: str | None, by: str, common: bool, html: Path | None, json: bool
) -> int:
    """Compare and print."""
    if html is not None:
        check_output(html, (first, second), "--html", ".html")
    comparison = compare(first, second, part=part, by=by, common=common)
    if html is not None:
        save_comparison(comparison, html)
    if json:
        print(json_format.dumps(build_comparison(comparison), indent=2, ensure_ascii=False, allow_nan=False))
        return 0
    console = build_results_console()
    print_comparison(comparison, console)
    if html is not None:
        console.print(f"\nPage: {html}", markup=False, soft_wrap=True)
    return 0
