"""`manylabel inspect`: how a table is understood, its first rows, its statistics, what is wrong with it, and a cure."""

from __future__ import annotations

import json as json_format
import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from manylabel.cli.console import build_results_console, show_progress
from manylabel.cli.outputs import check_output, check_spares_images
from manylabel.cli.tables import Reading
from manylabel.data.annotations import Annotations
from manylabel.data.checks import find_file_findings, find_findings
from manylabel.data.cures import CURES, CuredTable, cure_findings
from manylabel.data.duplicates import find_duplicate_findings
from manylabel.data.findings import Finding
from manylabel.data.formats.delimited import label_names_path, save_delimited
from manylabel.data.formats.detect import LoadedData
from manylabel.data.scan import find_cache_folder, scan_images
from manylabel.errors import ConfigError, build_message, join_problems
from manylabel.labels.statistics import describe_targets

_FIRST_ROWS = 5
_SHOWN_LABELS = 30
_COLOUR_OF_SEVERITY = {"error": "red", "warning": "yellow", "note": "cyan"}
_INDENT = " " * 9
"""What is found stands beside its severity: `warning` and two blanks."""


@dataclass(frozen=True)
class Inspection:
    """What was read, what is wrong with it, where its paths start, and the cleaned table, if one was written."""

    loaded: LoadedData
    findings: tuple[Finding, ...]
    images: Path
    table: Path | None = None
    cured: CuredTable | None = None


def run_inspect(
    data: str,
    reading: Reading,
    should_cache: bool,
    fix: Path | None,
    html: Path | None,
    json: bool,
    quiet: bool,
) -> int:
    """Print what was found; return 1 if a finding is an error."""
    _check_outputs(fix, html)
    loaded = reading.load_data(data)
    annotations = loaded.annotations
    if html is not None:
        check_output(html, (data,), "--html")
        check_spares_images(html, annotations)
    with show_progress(quiet or json) as tell:
        tell("stage", {"name": "Looking at images", "total": len(annotations)})
        facts = scan_images(
            annotations,
            cache=find_cache_folder() if should_cache else None,
            on_image=lambda: tell("progress", {}),
            on_note=lambda message: tell("note", {"message": message}),
        )
    found = [
        *find_findings(annotations),
        *find_file_findings(annotations, facts),
        *find_duplicate_findings(annotations, facts),
    ]
    findings = _order_findings(found, _build_command(data, reading))
    beside = Path(data) if Path(data).is_dir() else Path(data).parent
    inspection = Inspection(loaded, findings, beside if reading.images is None else Path(reading.images))
    if fix is not None:
        cured = cure_findings(annotations, findings, facts)
        save_delimited(cured.annotations, fix)
        inspection = replace(inspection, table=fix, cured=cured)
    if html is not None:
        from manylabel.runs.inspection import save_inspection

        save_inspection(html, annotations, loaded.layout, findings)
    if json:
        # Escaped: a name fits through a pipe of any encoding.
        print(json_format.dumps(describe(inspection), indent=2))
    else:
        _print(build_results_console(), inspection, html)
    return 1 if any(finding.severity == "error" for finding in findings) else 0


def _check_outputs(fix: Path | None, html: Path | None) -> None:
    """Refuse to write over anything but an older page, before the work is done."""
    problems = [
        build_message("--fix", f"{path} is there already", do="Choose another name: nothing is written over")
        for path in ((fix, label_names_path(fix)) if fix is not None else ())
        if path.exists()
    ]
    if html is not None and html.suffix.lower() not in (".html", ".htm"):
        problems.append(build_message("--html", "not the name of a page", got=str(html), expected="NAME.html"))
    if problems:
        raise ConfigError(join_problems(problems))


def _build_command(data: str, reading: Reading) -> str:
    return shlex.join(["manylabel", "inspect", data, *reading.build_flags(), "--fix", "cleaned.csv"])


def _order_findings(findings: Sequence[Finding], command: str) -> tuple[Finding, ...]:
    """Return the gravest first, each that wants a cure and gets one from `--fix` with the command that does it."""
    ordered = sorted(findings, key=lambda finding: list(_COLOUR_OF_SEVERITY).index(finding.severity))
    return tuple(
        replace(finding, fix=f"{finding.fix}: {command}")
        if finding.kind in CURES and not finding.fix.startswith("Nothing")
        else finding
        for finding in ordered
    )


def describe(inspection: Inspection) -> dict[str, Any]:
    """Return INTERFACE's JSON of an inspection; `fixed` only where a cleaned table was written."""
    annotations, layout = inspection.loaded.annotations, inspection.loaded.layout
    targets = annotations.targets
    counts = zip(
        annotations.label_space, targets.num_present_L, targets.num_absent_L, targets.num_unknown_L, strict=True
    )
    described: dict[str, Any] = {
        "layout": layout.name,
        "evidence": list(layout.evidence),
        "num_images": len(annotations),
        "num_labels": len(annotations.label_space),
        "labels": [
            {"label": label, "present": int(present), "absent": int(absent), "unknown": int(unknown)}
            for label, present, absent, unknown in counts
        ],
        "findings": [finding.to_dict() for finding in inspection.findings],
    }
    if inspection.cured is not None:
        described["fixed"] = {
            "table": str(inspection.table),
            "num_images": len(inspection.cured.annotations),
            "num_labels": len(inspection.cured.annotations.label_space),
            "changes": list(inspection.cured.changes),
            "left": [finding.to_dict() for finding in inspection.cured.left],
        }
    return described


def _print(console: Console, inspection: Inspection, html: Path | None) -> None:
    annotations, layout = inspection.loaded.annotations, inspection.loaded.layout
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
    console.print("[bold]Findings[/bold]")
    if not inspection.findings:
        console.print("Nothing to complain about.")
    for finding in inspection.findings:
        _print_finding(console, finding)
    if inspection.cured is not None and inspection.table is not None:
        _print_cured(console, inspection.cured, inspection.table, inspection.images)
    if html is not None:
        console.print(f"\nPage: {html}", markup=False, soft_wrap=True)


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


def _print_finding(console: Console, finding: Finding) -> None:
    colour = _COLOUR_OF_SEVERITY[finding.severity]
    message = _indent(console, finding.message).lstrip()
    console.print(f"[{colour}]{finding.severity:<{len(_INDENT)}}[/{colour}]{escape(message)}", soft_wrap=True)
    if finding.fix:
        console.print(f"[dim]{escape(_indent(console, f'{finding.fix}.'))}[/dim]", soft_wrap=True)


def _print_cured(console: Console, cured: CuredTable, path: Path, images: Path) -> None:
    annotations = cured.annotations
    console.print(
        f"\n[bold]Written[/bold]: {escape(str(path))} ({len(annotations):,} images, "
        f"{len(annotations.label_space):,} labels); the original is as it was",
        soft_wrap=True,
    )
    for change in cured.changes if cured.changes else ("Nothing was changed: no finding has a cure that is safe.",):
        console.print(_indent(console, change, "  "), markup=False, soft_wrap=True)
    left = [finding.kind for finding in cured.left if finding.severity != "note"]
    if left:
        sentence = f"Left for you to decide: {', '.join(dict.fromkeys(left))}."
        console.print(_indent(console, sentence, "  "), markup=False, soft_wrap=True)
    if any(record.regions for record in annotations.records):
        console.print("  Boxes, polygons and masks are not in it: it holds labels alone.")
    again = ["--fresh"] if "group-in-two-parts" in left else []
    command = shlex.join(["manylabel", "split", str(path), "split.csv", "--images", str(images), *again])
    console.print(f"  Next: {command}", markup=False, soft_wrap=True)


def _indent(console: Console, text: str, indent: str = _INDENT) -> str:
    """Return the text in lines that fit, broken at blanks alone: a name stays whole for whoever searches for it."""
    width = max(60, min(console.width, 100))
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
