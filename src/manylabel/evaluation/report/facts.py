"""What the page shows of a report, as text and plain numbers: the template computes nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from manylabel.errors import make_printable
from manylabel.evaluation.evaluate import LabelRow, Report
from manylabel.evaluation.pairs import Companions, PairMatrix, Swap
from manylabel.evaluation.pictures import MAX_SQUARES
from manylabel.evaluation.report.definitions import DEFINITIONS, HEADLINES
from manylabel.evaluation.report.sentences import (
    count,
    describe_baselines,
    describe_calibration,
    describe_policy,
    describe_sizes,
    describe_strengths,
    describe_tuning,
    format_range,
    format_share,
    format_value,
    order_by_prevalence,
    summarise_in_words,
    warn,
)
from manylabel.metrics.averaging import fraction

TILES = ("average_precision_macro", "f1_macro", "precision_micro", "recall_micro")
"""The metrics that stand first, in large type."""

MAX_OVERALL_MISTAKES = 7
"""How many of the worst mistakes of all labels stand together, of each kind."""

MAX_LISTED_PAIRS = 30
"""How many pairs of labels a table lists."""

_RATES = ("average_precision", "roc_auc", "precision", "recall", "f1")


def describe_report(report: Report) -> dict[str, Any]:
    """Return everything the template shows of one part."""
    by_support = sorted(report.labels, key=lambda row: -row["num_positive"])
    return {
        "name": make_printable(report.name),
        "summary": " ".join(summarise_in_words(report)),
        "strengths": describe_strengths(report),
        "warnings": warn(report),
        "is_tuning_data": report.judged_on_tuning_data,
        "tiles": [describe_metric(report, name) for name in TILES],
        "headlines": [describe_metric(report, name) for name in HEADLINES],
        "others": [describe_metric(report, name) for name in report.metrics if name not in HEADLINES],
        "confidence": format_share(report.confidence),
        "num_resamples": f"{report.num_resamples:,}",
        "baselines": describe_baselines(report),
        "tuning": describe_tuning(report),
        "decisions": describe_policy(report),
        "rule": report.policy["rule"],
        "labels": [_describe_label(report.labels[place], place) for place in order_by_prevalence(report)],
        "squares": [_describe_square(row) for row in by_support[:MAX_SQUARES]],
        "left_out": count(len(by_support) - MAX_SQUARES, "label") if len(by_support) > MAX_SQUARES else "",
        **_describe_slices(report),
        "suspects": [
            {
                "image": make_printable(suspect.image),
                "label": make_printable(suspect.label),
                "given": suspect.given,
                "suggestion": suspect.suggestion,
                "probability": format_value(suspect.probability),
            }
            for suspect in report.suspects
        ],
        "skipped": [(make_printable(image), make_printable(reason)) for image, reason in report.skipped.items()],
        "model_digest": make_printable(report.model_digest),
        "data_digest": make_printable(report.data_digest),
        **_describe_details(report),
    }


def _describe_slices(report: Report) -> dict[str, Any]:
    """Return the metrics of each part of the images; the figures of all images are its first line."""
    if not report.slices:
        return {"slices": []}
    names = list(report.slices[0].metrics)
    parts = [("all images", report.num_images, report.metrics)]
    parts += [(make_printable(part.value), part.num_images, part.metrics) for part in report.slices]
    return {
        "slice_column": make_printable(report.slices[0].column),
        "slice_titles": [(name, DEFINITIONS[name].title) for name in names],
        "slices": [
            {
                "value": value if value else "(none)",
                "num_images": f"{num_images:,}",
                "figures": [(format_value(metrics[name].value), format_range(metrics[name])) for name in names],
            }
            for value, num_images, metrics in parts
        ],
    }


def _describe_details(report: Report) -> dict[str, Any]:
    details, names = report.details, [make_printable(row["label"]) for row in report.labels]
    pairs = details.pairs
    sizes = max(len(details.num_true_labels), len(details.num_given_labels))
    return {
        "sizes_in_words": describe_sizes(report),
        "sizes": [
            (size, _get(details.num_true_labels, size), _get(details.num_given_labels, size)) for size in range(sizes)
        ],
        "calibration": describe_calibration(report),
        "reliability": _describe_reliability(report),
        "swaps": [_describe_swap(swap, names) for swap in pairs.swaps[:MAX_LISTED_PAIRS]],
        "swap_matrix": _describe_matrix(pairs.swap_matrix, names, "said {} and missed {}", skip_diagonal=True),
        "companions": [_describe_companions(pair, names) for pair in pairs.companions[:MAX_LISTED_PAIRS]],
        "companion_matrix": _describe_matrix(pairs.companion_matrix, names, "{} and {}"),
        "mistakes": [
            {
                "key": (details.worst.images[mistake.place].image, report.labels[column]["label"]),
                "image": make_printable(details.worst.images[mistake.place].image),
                "label": names[column],
                "kind": "missed" if is_missed else "wrongly given",
                "probability": format_value(mistake.probability),
                "threshold": format_value(report.labels[column]["threshold"]),
            }
            for column, is_missed, mistake in details.worst.overall(MAX_OVERALL_MISTAKES)
        ],
        "num_unlisted_labels": len(names) - len(pairs.companion_matrix.columns),
    }


def _describe_swap(swap: Swap, names: Sequence[str]) -> dict[str, str]:
    return {
        "said": names[swap.said],
        "true": names[swap.true],
        "num_missed": f"{swap.num_missed:,}",
        "num_found": f"{swap.num_images - swap.num_missed:,}",
        "times": format_value(swap.times_chance, 1),
    }


def _describe_companions(pair: Companions, names: Sequence[str]) -> dict[str, str]:
    return {
        "first": names[pair.first],
        "second": names[pair.second],
        "num_true": f"{pair.num_true:,}",
        "num_given": f"{pair.num_given:,}",
        "true_lift": format_value(pair.true_lift, 2),
        "given_lift": format_value(pair.given_lift, 2),
    }


def describe_metric(report: Report, name: str) -> dict[str, Any]:
    """Return a line of the table of metrics: the value with its interval, and what it stands beside."""
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
    """Return a line of the table; `place` is the label's in the report, a number to sort by is "" where undefined."""
    prevalence = row["num_positive"] / row["num_known"] if row["num_known"] else math.nan
    return {
        "label": make_printable(row["label"]),
        "place": place,
        "num_known": row["num_known"],
        "num_positive": row["num_positive"],
        "prevalence": format_share(prevalence),
        "prevalence_sort": _describe_cell(prevalence)["sort"],
        "threshold": _describe_cell(row["threshold"]),
        "rates": [_describe_rate(row, name) for name in _RATES],
        "false_positives": row["false_positives"],
        "false_negatives": row["false_negatives"],
    }


def _describe_rate(row: LabelRow, name: str) -> dict[str, str]:
    """Return a rate with its interval, as narrow as a cell is; `range` is "" where there is none."""
    values: dict[str, Any] = dict(row)
    low, high = values.get(f"{name}_low", math.nan), values.get(f"{name}_high", math.nan)
    limits = "" if math.isnan(low) else f"{low:.2f}–{high:.2f}"
    return _describe_cell(values[name]) | {"range": limits}


def _describe_cell(value: float) -> dict[str, str]:
    is_undefined = math.isnan(value)
    return {
        "text": format_value(value),
        "sort": "" if is_undefined else f"{value:.4f}",
        "percent": "0" if is_undefined else f"{100 * value:.0f}",
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


def _describe_reliability(report: Report) -> list[dict[str, str]]:
    pooled = report.details.reliability.pooled()
    num_bins = pooled.num_LB.shape[1]
    return [
        {
            "from": f"{place / num_bins:.2f}",
            "to": f"{(place + 1) / num_bins:.2f}",
            "num": f"{int(pooled.num_LB[0, place]):,}",
            "mean": format_value(float(pooled.mean_LB[0, place])),
            "share": format_value(float(pooled.share_LB[0, place])),
        }
        for place in range(num_bins)
    ]


def _describe_matrix(
    matrix: PairMatrix, names: Sequence[str], caption: str, *, skip_diagonal: bool = False
) -> list[dict[str, Any]]:
    """Return the lines of a matrix; a cell is coloured by its share of the line's total, the largest share fully."""
    shares_KK = fraction(matrix.counts_KK, matrix.totals_K[:, np.newaxis])
    largest = np.max(shares_KK, where=~(np.isnan(shares_KK) | np.eye(len(shares_KK), dtype=bool)), initial=0.0)
    rows = []
    for row, first in enumerate(matrix.columns):
        total = int(matrix.totals_K[row])
        cells = []
        for column, second in enumerate(matrix.columns):
            number = int(matrix.counts_KK[row, column])
            is_self = row == column
            has_colour = number > 0 and not is_self
            cells.append(
                {
                    "is_self": is_self,
                    "text": ("·" if skip_diagonal else f"{number:,}") if is_self else (f"{number:,}" if number else ""),
                    "strength": round(70 * shares_KK[row, column] / largest) if has_colour else 0,
                    "title": f"{caption.format(names[first], names[second])}: {count(number, 'image')} of {total:,}",
                }
            )
        rows.append({"label": names[first], "cells": cells})
    return rows


def _get(counts: Sequence[int], place: int) -> int:
    return counts[place] if place < len(counts) else 0
