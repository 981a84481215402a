"""What the page's script draws from: curves, reliability and worst images of every label, packed tightly."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from manylabel.errors import make_printable
from manylabel.evaluation.evaluate import Report
from manylabel.evaluation.mistakes import PRESENT, Mistake
from manylabel.evaluation.pictures import find_best_epoch
from manylabel.evaluation.reliability import Reliability
from manylabel.evaluation.report.arrays import pack_counts, pack_numbers
from manylabel.evaluation.report.definitions import DEFINITIONS
from manylabel.evaluation.report.facts import MAX_OVERALL_MISTAKES
from manylabel.evaluation.report.sentences import format_value, shorten
from manylabel.evaluation.worst_images import WorstImages
from manylabel.metrics.intervals import wilson_interval

MapsOfMistakes = Mapping[tuple[str, str], Mapping[str, Any]]
"""What the page shows of a map, by the names of its image and its label: an image may be wrong about several."""


def build_script_data(
    reports: Sequence[Report],
    history: Sequence[Mapping[str, Any]] | None,
    thumbnails: Mapping[str, str],
    maps: Mapping[str, MapsOfMistakes] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return what the script reads: one object per report, the epochs, and the thumbnails by their number.

    `maps` are what the page shows of the maps of mistakes, by the name of the report.
    """
    number_of = {image: number for number, image in enumerate(thumbnails)}
    return {
        "parts": [_pack_report(report, number_of, maps.get(report.name, {})) for report in reports],
        "history": pack_history(history) if history else None,
        "thumbnails": list(thumbnails.values()),
    }


def list_wanted_images(reports: Sequence[Report]) -> Iterator[str]:
    """Yield the images that a page would show, those first that it would miss most.

    The first report before the others; in it the worst of all labels together, the cells in doubt, then the worst
    mistake of each label, the most frequent label first, before the second worst of any.
    """
    for report in reports:
        worst = report.details.worst
        yield from (worst.images[mistake.place].image for _, _, mistake in worst.overall(MAX_OVERALL_MISTAKES))
        yield from (suspect.image for suspect in report.suspects)
        columns = sorted(range(len(report.labels)), key=lambda column: -report.labels[column]["num_positive"])
        depth = max((len(mistakes) for mistakes in (*worst.missed, *worst.wrongly_given)), default=0)
        for rank in range(depth):
            for column in columns:
                for mistakes in (worst.missed[column], worst.wrongly_given[column]):
                    if rank < len(mistakes):
                        yield worst.images[mistakes[rank].place].image


def pack_history(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the epochs as columns; a value that is missing or undefined is None."""
    monitor = str(history[-1].get("monitor", ""))
    return {
        "epochs": [row["epoch"] for row in history],
        "train_loss": [_to_number(row.get("train_loss")) for row in history],
        "val_loss": [_to_number(row.get("val_loss")) for row in history],
        "monitor": DEFINITIONS[monitor].title if monitor in DEFINITIONS else make_printable(monitor),
        "val_monitor": [_to_number(row.get(f"val_{monitor}")) for row in history],
        "best": find_best_epoch(history),
    }


def _to_number(value: Any) -> float | None:
    return None if value is None or math.isnan(value) else round(float(value), 6)


def _pack_report(report: Report, number_of: Mapping[str, int], maps: MapsOfMistakes) -> dict[str, Any]:
    details, rows = report.details, report.labels
    curves = details.curves
    return {
        "labels": [make_printable(row["label"]) for row in rows],
        "num_images": report.num_images,
        "chosen": pack_numbers(np.array([row["threshold"] for row in rows])),
        "average_precision": pack_numbers(np.array([row["average_precision"] for row in rows])),
        "positives": pack_counts(curves.num_positive_L),
        "negatives": pack_counts(curves.num_negative_L),
        "starts": pack_counts(curves.starts_L1),
        "thresholds": pack_numbers(curves.thresholds_P),
        "found": pack_counts(curves.true_positives_P),
        "wrong": pack_counts(curves.false_positives_P),
        "num_bins": details.reliability.num_LB.shape[1],
        "reliability": _pack_reliability(details.reliability, report.confidence),
        "pooled": _pack_reliability(details.reliability.pooled(), report.confidence),
        "num_true_labels": details.num_true_labels,
        "num_given_labels": details.num_given_labels,
        "worst": _pack_worst(details.worst, number_of),
        "suspects": [
            [make_printable(suspect.image), number_of.get(suspect.image, -1), _describe_suspect(suspect)]
            for suspect in report.suspects
        ],
        "overall": _pack_overall(report, maps),
    }


def _pack_overall(report: Report, maps: MapsOfMistakes) -> list[list[Any]]:
    """Return the worst of all labels as [label, whether it was missed, place, probability, its map or None]."""
    worst, names = report.details.worst, [row["label"] for row in report.labels]
    return [
        [
            column,
            is_missed,
            mistake.place,
            round(mistake.probability, 4),
            maps.get((worst.images[mistake.place].image, names[column])),
        ]
        for column, is_missed, mistake in worst.overall(MAX_OVERALL_MISTAKES)
    ]


def _describe_suspect(suspect: Mistake) -> str:
    label = make_printable(shorten(suspect.label, 30))
    doubt = "may be missing" if suspect.suggestion == PRESENT else "may not be there"
    return f"{label} {doubt}, at {format_value(suspect.probability)}"


def _pack_reliability(reliability: Reliability, confidence: float) -> dict[str, Any]:
    low_LB, high_LB = wilson_interval(reliability.num_true_LB, reliability.num_LB, confidence)
    return {
        "num": pack_counts(reliability.num_LB),
        "mean": pack_numbers(reliability.mean_LB),
        "share": pack_numbers(reliability.share_LB),
        "low": pack_numbers(low_LB),
        "high": pack_numbers(high_LB),
    }


def _pack_worst(worst: WorstImages, number_of: Mapping[str, int]) -> dict[str, Any]:
    """Return images as [name, true, given, number of its thumbnail or -1], mistakes as [place, probability]."""
    return {
        "images": [
            [make_printable(shown.image), shown.true, shown.given, number_of.get(shown.image, -1)]
            for shown in worst.images
        ],
        "missed": [[[m.place, round(m.probability, 4)] for m in mistakes] for mistakes in worst.missed],
        "given": [[[m.place, round(m.probability, 4)] for m in mistakes] for mistakes in worst.wrongly_given],
    }
