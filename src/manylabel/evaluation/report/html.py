"""One page for people: no network, nothing beside it, readable in light, in dark and on paper."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from manylabel import __version__
from manylabel.data.findings import Finding
from manylabel.data.images import ImageSource
from manylabel.errors import ConfigError, build_message, make_printable
from manylabel.evaluation.evaluate import Report
from manylabel.evaluation.mistake_maps import MistakeMaps
from manylabel.evaluation.report.definitions import DEFINITIONS
from manylabel.evaluation.report.facts import describe_report
from manylabel.evaluation.report.heat import describe_maps
from manylabel.evaluation.report.metrics import check_names_differ
from manylabel.evaluation.report.page import load_part, render_page
from manylabel.evaluation.report.script_data import build_script_data, list_wanted_images
from manylabel.evaluation.report.sentences import count, format_value
from manylabel.evaluation.report.thumbnails import embed_thumbnails
from manylabel.files import write_bytes_atomically


class Section(NamedTuple):
    """A section of the page: a file in `sections/`, what the contents call it, and the fact without which it is not."""

    file: str
    title: str
    needs: str = ""


PART_SECTIONS = (
    Section("summary", "Summary"),
    Section("metrics", "Metrics"),
    Section("thresholds", "Thresholds"),
    Section("slices", "Parts", needs="slices"),
    Section("labels", "Labels"),
    Section("squares", "Right and wrong"),
    Section("calibration", "Calibration"),
    Section("swaps", "Mistaken for"),
    Section("companions", "Together"),
    Section("worst", "Worst images"),
    Section("suspects", "Labels in doubt", needs="suspects"),
    Section("skipped", "Skipped", needs="skipped"),
)
"""The sections of every part, whose facts are `part` in the template; a new one is a row here and a file."""

PAGE_SECTIONS = (
    Section("training", "Training", needs="epochs"),
    Section("findings", "Data", needs="is_inspected"),
    Section("pictures", "Pictures", needs="pictures"),
    Section("reproduce", "Reproduce", needs="is_reproducible"),
    Section("words", "Words"),
)
"""The sections that follow all parts."""

_SCRIPTS = ("scripts/arrays.js", "scripts/plot.js", "scripts/charts.js", "scripts/label.js", "scripts/report.js")
_PICTURE_TYPES = {b"\x89PNG\r\n\x1a\n": "image/png", b"<?xml": "image/svg+xml", b"<svg": "image/svg+xml"}


def save_html(
    reports: Sequence[Report],
    path: str | os.PathLike[str],
    *,
    title: str,
    history: Sequence[Mapping[str, Any]] | None = None,
    config: Mapping[str, Any] | None = None,
    versions: Mapping[str, str] | None = None,
    findings: Iterable[Finding] | None = None,
    sources: Mapping[str, ImageSource] | None = None,
    pictures: Mapping[str, bytes] | None = None,
    mistake_maps: Mapping[str, MistakeMaps] | None = None,
) -> None:
    """Write reports as one HTML file that loads nothing: sentences, numbers, curves, pictures, how to reproduce.

    Names are shown as the text they are: the page's own rules forbid any script but its own. Without JavaScript the
    sentences and tables are there, the curves are not.

    Args:
        reports: one part each, in this order; all but the first are folded.
        path: the file.
        title: the heading.
        history: one row per epoch, drawn as curves (see `pictures.draw_curves`); None leaves them out.
        config: how the numbers came about, shown as a table; the value under "command" is shown as a command.
        versions: of the programs that computed, shown as a table.
        findings: what the doctor found in the data; None says nothing about it.
        sources: where the pixels of an image are, by its name, for thumbnails of the worst images; None has none.
        pictures: caption to PNG or SVG bytes, shown below the reports.
        mistake_maps: what spoke for the label in the worst mistakes, by the name of a report; None has none.

    Raises:
        ConfigError: no report, two of one name, or a picture that is neither PNG nor SVG.
        RunError: the file cannot be written.
    """
    html = render_html(
        reports,
        title=title,
        history=history,
        config=config,
        versions=versions,
        findings=findings,
        sources=sources,
        pictures=pictures,
        mistake_maps=mistake_maps,
    )
    # A file name that is not text holds lone surrogates, which are shown with a backslash.
    write_bytes_atomically(path, html.encode("utf-8", "backslashreplace"))


def render_html(
    reports: Sequence[Report],
    *,
    title: str,
    history: Sequence[Mapping[str, Any]] | None = None,
    config: Mapping[str, Any] | None = None,
    versions: Mapping[str, str] | None = None,
    findings: Iterable[Finding] | None = None,
    sources: Mapping[str, ImageSource] | None = None,
    pictures: Mapping[str, bytes] | None = None,
    mistake_maps: Mapping[str, MistakeMaps] | None = None,
) -> str:
    """Return the page that `save_html` writes."""
    if not reports:
        raise ConfigError(build_message("page", "there is no report to show", expected="one or more"))
    check_names_differ(reports)
    thumbnails = embed_thumbnails(list_wanted_images(reports), sources) if sources else {}
    heat = {report.name: describe_maps((mistake_maps or {}).get(report.name)) for report in reports}
    data = build_script_data(reports, history, thumbnails, {part: facts["maps"] for part, facts in heat.items()})
    facts = {
        "parts": [{**describe_report(report), "heat": heat[report.name]} for report in reports],
        "data": data,
        "epochs": _list_epochs(data["history"]),
        "has_thumbnails": bool(thumbnails),
        "is_inspected": findings is not None,
        "findings": [_describe_finding(finding) for finding in findings or ()],
        "pictures": [(make_printable(caption), _embed(data, caption)) for caption, data in (pictures or {}).items()],
        "command": make_printable(str(config["command"])) if config is not None and "command" in config else "",
        "settings": _list_settings(config or {}),
        "versions": _list_settings(versions or {}),
        "is_reproducible": bool(config or versions),
    }
    return render_page(
        load_part("report.html"),
        styles=("report.css",),
        scripts=_SCRIPTS,
        title=make_printable(title),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        definitions=DEFINITIONS,
        part_sections=PART_SECTIONS,
        page_sections=[section for section in PAGE_SECTIONS if not section.needs or facts[section.needs]],
        **facts,
    )


def _list_epochs(history: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if history is None:
        return []
    columns = [history[key] for key in ("train_loss", "val_loss", "val_monitor")]
    return [
        {
            "number": epoch,
            "figures": [format_value(math.nan if column[place] is None else column[place], 4) for column in columns],
        }
        for place, epoch in enumerate(history["epochs"])
    ]


def _describe_finding(finding: Finding) -> dict[str, str]:
    return {
        "severity": finding.severity,
        "kind": finding.kind,
        "message": make_printable(finding.message),
        "fix": make_printable(finding.fix),
        "rows": count(len(finding.rows), "row") if finding.rows else "",
    }


def _embed(data: bytes, caption: str) -> str:
    """Return a picture as an address that holds it: inside an image, no script of an SVG ever runs."""
    for beginning, media_type in _PICTURE_TYPES.items():
        if data.startswith(beginning):
            return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
    raise ConfigError(
        build_message(f"picture {caption!r}", "neither PNG nor SVG", got=data[:8], do="Give one of these")
    )


def _list_settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(make_printable(str(key)), _show_setting(value)) for key, value in config.items() if key != "command"]


def _show_setting(value: Any) -> str:
    is_text = isinstance(value, str)
    return make_printable(value if is_text else json.dumps(value, ensure_ascii=False, default=str))
