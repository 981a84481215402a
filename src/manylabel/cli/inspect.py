"""`manylabel inspect`: how a table is understood, its first rows, its statistics, and what is wrong with it."""

from __future__ import annotations

import json as json_format
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from manylabel.cli.console import build_results_console, show_progress
from manylabel.data.annotations import Annotations
from manylabel.data.checks import find_findings, find_image_findings
from manylabel.data.findings import Finding
from manylabel.data.formats.detect import Layout, load_data
from manylabel.labels.statistics import describe_targets

_FIRST_ROWS = 5
_SHOWN_LABELS = 30
_COLOUR_OF_SEVERITY = {"error": "red", "warning": "yellow", "note": "cyan"}


def run_inspect(
    data: str,
    images: str | None,
    layout: str | None,
    image_column: str | None,
    label_column: str | None,
    json: bool,
    quiet: bool,
) -> int:
    """Print what was found; return 1 if a finding is an error."""
    loaded = load_data(data, images, layout=layout, image_column=image_column, label_column=label_column)
    annotations = loaded.annotations
    with show_progress(quiet or json) as tell:
        tell("stage", {"name": "Opening images", "total": len(annotations)})
        image_findings = list(find_image_findings(annotations, lambda: tell("progress", {})))
    findings = [*find_findings(annotations), *image_findings]
    if json:
        # Escaped: a name fits through a pipe of any encoding.
        print(json_format.dumps(describe(annotations, loaded.layout, findings), indent=2))
    else:
        _print(build_results_console(), annotations, loaded.layout, findings)
    return 1 if any(finding.severity == "error" for finding in findings) else 0


def describe(annotations: Annotations, layout: Layout, findings: list[Finding]) -> dict[str, Any]:
    """Return INTERFACE's JSON of an inspection."""
    targets = annotations.targets
    counts = zip(
        annotations.label_space, targets.num_present_L, targets.num_absent_L, targets.num_unknown_L, strict=True
    )
    return {
        "layout": layout.name,
        "evidence": list(layout.evidence),
        "num_images": len(annotations),
        "num_labels": len(annotations.label_space),
        "labels": [
            {"label": label, "present": int(present), "absent": int(absent), "unknown": int(unknown)}
            for label, present, absent, unknown in counts
        ],
        "findings": [finding.to_dict() for finding in findings],
    }


def _print(console: Console, annotations: Annotations, layout: Layout, findings: list[Finding]) -> None:
    # Lines are not broken: a path has to stay whole for whoever copies it or searches for it.
    console.print(f"[bold]{escape(annotations.name)}[/bold]: {layout.name}", soft_wrap=True)
    for sentence in layout.evidence:
        console.print(f"  {sentence}", markup=False, soft_wrap=True)
    statistics = describe_targets(annotations.targets)
    console.print(
        f"\n{statistics.num_images:,} images, {statistics.num_labels} labels, "
        f"{statistics.cardinality:.2f} labels per image, {statistics.num_without_labels:,} images without a label",
        markup=False,
    )
    parts = annotations.parts()
    if parts:
        console.print("parts: " + ", ".join(f"{name} {len(part):,}" for name, part in parts.items()), markup=False)
    console.print("\n[bold]First rows[/bold]")
    for row in range(min(_FIRST_ROWS, len(annotations))):
        labels = " | ".join(annotations.labels_of(row))
        console.print(
            f"  {annotations.records[row].id}: {labels if labels else '(none)'}", markup=False, soft_wrap=True
        )
    console.print()
    _print_labels(console, annotations)
    _print_findings(console, findings)


def _print_labels(console: Console, annotations: Annotations) -> None:
    targets = annotations.targets
    present_L, unknown_L = targets.num_present_L, targets.num_unknown_L
    order = sorted(range(len(present_L)), key=lambda column: -int(present_L[column]))
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("label", overflow="ellipsis", max_width=32)
    for name in ("present", "share", "unknown"):
        table.add_column(name, justify="right")
    table.add_column("")
    largest = max(1, int(present_L.max()))
    for column in order[:_SHOWN_LABELS]:
        count, unknown = int(present_L[column]), int(unknown_L[column])
        known = len(annotations) - unknown
        share = f"{count / known:.1%}" if known else "-"
        bar = "█" * max(1 if count else 0, round(20 * count / largest))
        table.add_row(escape(annotations.label_space.names[column]), f"{count:,}", share, f"{unknown:,}", bar)
    console.print(table)
    if len(order) > _SHOWN_LABELS:
        console.print(f"... and {len(order) - _SHOWN_LABELS} rarer labels (--json lists all).")
    console.print()


def _print_findings(console: Console, findings: list[Finding]) -> None:
    if not findings:
        console.print("Nothing to complain about.")
    for finding in findings:
        colour = _COLOUR_OF_SEVERITY[finding.severity]
        console.print(f"[{colour}]{finding.severity}[/{colour}] {escape(finding.message)}", soft_wrap=True)
        if finding.fix:
            console.print(f"    {finding.fix}.", markup=False)
