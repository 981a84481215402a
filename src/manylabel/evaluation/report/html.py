"""One page for people: no network, nothing beside it, readable in light, in dark and on paper."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from manylabel import __version__
from manylabel.errors import ConfigError, build_message
from manylabel.evaluation.evaluate import LabelRow, Report
from manylabel.evaluation.pictures import MAX_SQUARES, render_curves
from manylabel.evaluation.report.definitions import DEFINITIONS, HEADLINES
from manylabel.evaluation.report.metrics import check_names_differ
from manylabel.evaluation.report.page import render_page
from manylabel.evaluation.report.sentences import (
    count,
    describe_baselines,
    describe_tuning,
    format_range,
    format_share,
    format_value,
    make_printable,
    order_by_prevalence,
    summarise_in_words,
    warn,
)
from manylabel.files import write_bytes_atomically

_PICTURE_TYPES = {b"\x89PNG\r\n\x1a\n": "image/png", b"<?xml": "image/svg+xml", b"<svg": "image/svg+xml"}
_TILES = ("average_precision_macro", "f1_macro", "precision_micro", "recall_micro")
_RATES = ("average_precision", "roc_auc", "precision", "recall", "f1")


def save_html(
    reports: Sequence[Report],
    path: str | os.PathLike[str],
    *,
    title: str,
    history: Sequence[Mapping[str, Any]] | None = None,
    config: Mapping[str, Any] | None = None,
    pictures: Mapping[str, bytes] | None = None,
) -> None:
    """Write reports as one HTML file that loads nothing: numbers, tables that sort, pictures, how to reproduce.

    Names are shown as the text they are: the page's own rules forbid any script but the one that sorts the tables.

    Args:
        reports: one section each, in this order.
        path: the file.
        title: the heading.
        history: one row per epoch, drawn as curves (see `pictures.draw_curves`); None leaves them out.
        config: how the numbers came about, shown as a table; the value under "command" is shown as a command.
        pictures: caption to PNG or SVG bytes, shown below the reports.

    Raises:
        ConfigError: no report, two of one name, or a picture that is neither PNG nor SVG.
        RunError: the file cannot be written.
    """
    html = render_html(reports, title=title, history=history, config=config, pictures=pictures)
    # A file name that is not text holds lone surrogates, which are shown with a backslash.
    write_bytes_atomically(path, html.encode("utf-8", "backslashreplace"))


def render_html(
    reports: Sequence[Report],
    *,
    title: str,
    history: Sequence[Mapping[str, Any]] | None = None,
    config: Mapping[str, Any] | None = None,
    pictures: Mapping[str, bytes] | None = None,
) -> str:
    """Return the page that `save_html` writes."""
    if not reports:
        raise ConfigError(build_message("page", "there is no report to show", expected="one or more"))
    check_names_differ(reports)
    template = resources.files("manylabel.evaluation.report").joinpath("page.html").read_text(encoding="utf-8")
    return render_page(
        template,
        title=make_printable(title),
        reports=[_describe_report(report) for report in reports],
        curves=_embed_curves(history),
        pictures=[(make_printable(caption), _embed(data, caption)) for caption, data in (pictures or {}).items()],
        command=make_printable(str(config["command"])) if config is not None and "command" in config else "",
        settings=_list_settings({} if config is None else config),
        definitions=DEFINITIONS,
        version=__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _describe_report(report: Report) -> dict[str, Any]:
    """Return everything the template shows of a report, as text and plain numbers."""
    by_prevalence = [report.labels[place] for place in order_by_prevalence(report)]
    by_support = sorted(report.labels, key=lambda row: -row["num_positive"])
    return {
        "name": make_printable(report.name),
        "summary": " ".join(summarise_in_words(report)),
        "warnings": warn(report),
        "tiles": [_describe_metric(report, name) for name in _TILES],
        "headlines": [_describe_metric(report, name) for name in HEADLINES],
        "others": [_describe_metric(report, name) for name in report.metrics if name not in HEADLINES],
        "confidence": format_share(report.confidence),
        "num_resamples": f"{report.num_resamples:,}",
        "baselines": describe_baselines(report),
        "tuning": describe_tuning(report),
        "rule": report.policy["rule"],
        "labels": [_describe_label(row, place) for place, row in enumerate(by_prevalence)],
        "squares": [_describe_square(row) for row in by_support[:MAX_SQUARES]],
        "left_out": count(len(by_support) - MAX_SQUARES, "label") if len(by_support) > MAX_SQUARES else "",
        "skipped": [(make_printable(image), make_printable(reason)) for image, reason in report.skipped.items()],
        "model_digest": make_printable(report.model_digest),
        "data_digest": make_printable(report.data_digest),
    }


def _describe_metric(report: Report, name: str) -> dict[str, Any]:
    interval, definition = report.metrics[name], DEFINITIONS[name]
    prior = report.baselines["prior"][name]
    numbers = (interval.value, interval.low, interval.high)
    return {
        "name": name,
        "title": definition.title,
        "is_lower_better": definition.is_lower_better,
        "value": format_value(interval.value),
        "range": format_range(interval),
        "at_half": format_value(report.at_half[name]) if name in report.at_half else "",
        "all_negative": format_value(report.baselines["all_negative"][name]),
        "prior": format_value(prior),
        "has_bar": definition.is_share and not any(math.isnan(number) for number in numbers),
        "bar": {key: round(100 * number, 2) for key, number in zip(("value", "low", "high"), numbers, strict=True)},
        "prior_mark": None if math.isnan(prior) else round(100 * prior, 2),
    }


def _describe_label(row: LabelRow, place: int) -> dict[str, Any]:
    """Return a line of the table; a number to sort by is "" where it is undefined."""
    prevalence = row["num_positive"] / row["num_known"] if row["num_known"] else math.nan
    rates: list[float] = [row[name] for name in _RATES]  # type: ignore[literal-required]
    return {
        "label": make_printable(row["label"]),
        "place": place,
        "num_known": row["num_known"],
        "num_positive": row["num_positive"],
        "prevalence": format_share(prevalence),
        "prevalence_sort": _describe_cell(prevalence)["sort"],
        "threshold": _describe_cell(row["threshold"]),
        "rates": [_describe_cell(rate) for rate in rates],
        "false_positives": row["false_positives"],
        "false_negatives": row["false_negatives"],
    }


def _describe_cell(value: float) -> dict[str, str]:
    is_undefined = math.isnan(value)
    return {
        "text": format_value(value),
        "sort": "" if is_undefined else f"{value:.6f}",
        "percent": "0" if is_undefined else f"{100 * value:.1f}",
    }


def _describe_square(row: LabelRow) -> dict[str, Any]:
    num_positive, num_negative = row["num_positive"], row["num_known"] - row["num_positive"]
    return {
        "label": make_printable(row["label"]),
        "cells": [
            _describe_quarter("found", row["true_positives"], num_positive, "right"),
            _describe_quarter("missed", row["false_negatives"], num_positive, "wrong"),
            _describe_quarter("wrongly given", row["false_positives"], num_negative, "wrong"),
            _describe_quarter("rightly not", row["true_negatives"], num_negative, "right"),
        ],
    }


def _describe_quarter(name: str, number: int, total: int, kind: str) -> dict[str, Any]:
    share = number / total if total > 0 else math.nan
    strength = 0 if math.isnan(share) else round(8 + 62 * share)
    return {"name": name, "number": f"{number:,}", "share": format_share(share), "kind": kind, "strength": strength}


def _embed_curves(history: Sequence[Mapping[str, Any]] | None) -> dict[str, str] | None:
    if not history:
        return None
    return {
        "light": _embed(render_curves(history, "svg", theme="light"), "curves"),
        "dark": _embed(render_curves(history, "svg", theme="dark"), "curves"),
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
