"""The page of an inspection: what was read, what is wrong with pictures of it, the labels, and which come together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel import __version__
from manylabel.data.annotations import Annotations
from manylabel.data.findings import FINDING_KINDS, Finding
from manylabel.data.formats.detect import Layout
from manylabel.errors import make_printable
from manylabel.evaluation.report.page import render_page
from manylabel.evaluation.report.sentences import count, format_share
from manylabel.evaluation.report.thumbnails import embed_thumbnail
from manylabel.files import write_bytes_atomically
from manylabel.labels.statistics import co_occurrence, describe_targets

FIRST_ROWS = 8
PICTURES_PER_FINDING = 8
MAX_HEAT_LABELS = 20
"""How many labels the table of pairs shows: more do not fit a page."""

_THUMBNAIL_PX = 160
_STRONGEST = 80
"""Per cent of colour in a cell of 100 %: text stays readable on it."""


def save_inspection(
    path: str | os.PathLike[str], annotations: Annotations, layout: Layout, findings: Sequence[Finding]
) -> None:
    """Write the page of an inspection as one HTML file that loads nothing.

    Raises:
        RunError: the file cannot be written.
    """
    html = render_inspection(annotations, layout, findings)
    write_bytes_atomically(path, html.encode("utf-8", "backslashreplace"))


def render_inspection(annotations: Annotations, layout: Layout, findings: Sequence[Finding]) -> str:
    """Return the page that `save_inspection` writes."""
    pictures = _Pictures(annotations)
    statistics = describe_targets(annotations.targets)
    cells = statistics.num_images * statistics.num_labels
    severities = [finding.severity for finding in findings]
    heat_columns = np.argsort(-annotations.targets.num_present_L, kind="stable")[:MAX_HEAT_LABELS]
    return render_page(
        resources.files("manylabel.runs").joinpath("inspection.html").read_text(encoding="utf-8"),
        title=make_printable(PurePath(annotations.name).name),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        summary=(
            f"{count(statistics.num_images, 'image')} with {count(statistics.num_labels, 'label')}, "
            f"{statistics.cardinality:.2f} labels per image."
        ),
        layout=layout.name,
        evidence=[make_printable(sentence) for sentence in layout.evidence],
        parts=", ".join(f"{make_printable(name)} {len(part):,}" for name, part in annotations.parts().items()),
        tiles=[
            ("errors", f"{severities.count('error'):,}"),
            ("warnings", f"{severities.count('warning'):,}"),
            ("notes", f"{severities.count('note'):,}"),
            ("unknown cells", format_share(int(annotations.targets.num_unknown_L.sum()) / cells if cells else 0.0)),
        ],
        first_rows=[pictures.describe(row) for row in range(min(FIRST_ROWS, len(annotations)))],
        findings=[_describe_finding(finding, pictures) for finding in findings],
        labels=_describe_labels(annotations),
        heat=_describe_heat(annotations, heat_columns.tolist()),
        num_left_out=len(annotations.label_space) - len(heat_columns),
    )


class _Pictures:
    """The thumbnails of a table's images, each made once."""

    def __init__(self, annotations: Annotations) -> None:
        self.annotations = annotations
        self.row_of = {image: row for row, image in enumerate(annotations.images)}
        self._address_of: dict[int, str] = {}

    def describe(self, row: int) -> dict[str, Any]:
        """Return the id, the thumbnail ("" where the image cannot be used) and the labels of an image."""
        if row not in self._address_of:
            self._address_of[row] = embed_thumbnail(self.annotations.records[row].source, _THUMBNAIL_PX)
        labels = self.annotations.labels_of(row)
        return {
            "image": make_printable(self.annotations.records[row].id),
            "address": self._address_of[row],
            "labels": make_printable(", ".join(labels)) if labels else "(none)",
        }


def _describe_finding(finding: Finding, pictures: _Pictures) -> dict[str, Any]:
    rows = _find_rows(finding, pictures)
    shown = rows[:PICTURES_PER_FINDING]
    return {
        "severity": finding.severity,
        "kind": finding.kind,
        "message": make_printable(finding.message),
        "fix": make_printable(finding.fix),
        "pictures": [pictures.describe(row) for row in shown],
        "num_more": len(rows) - len(shown),
    }


def _find_rows(finding: Finding, pictures: _Pictures) -> list[int]:
    """Return the images that a finding is about: those it names, or those with the labels that it warns of."""
    known = FINDING_KINDS.get(finding.kind)
    if known is None or known.rows.startswith("images"):
        return [pictures.row_of[image] for image in finding.rows if image in pictures.row_of]
    if not known.rows.startswith("labels") or finding.severity == "note":
        return []
    space, targets = pictures.annotations.label_space, pictures.annotations.targets
    columns = [space.index(label) for label in dict.fromkeys(finding.rows) if label in space]
    return [int(row) for column in columns for row in np.flatnonzero(_get_column(targets.present_bits, column))]


def _get_column(bits_NB: npt.NDArray[np.uint8], column: int) -> npt.NDArray[np.bool_]:
    return (bits_NB[:, column >> 3] & (128 >> (column & 7))) > 0


def _describe_labels(annotations: Annotations) -> list[dict[str, Any]]:
    targets, num_images = annotations.targets, max(1, len(annotations))
    present_L, known_L = targets.num_present_L, targets.num_known_L
    rows: list[dict[str, Any]] = []
    for column in np.argsort(-present_L, kind="stable"):
        present, known = int(present_L[column]), int(known_L[column])
        numbers = {"present": present, "absent": known - present, "unknown": len(annotations) - known}
        rows.append(
            {
                "label": make_printable(annotations.label_space.names[column]),
                **numbers,
                **{f"percent_{state}": f"{100 * number / num_images:.2f}" for state, number in numbers.items()},
                "share": format_share(present / known) if known else "n/a",
                "share_sort": f"{present / known:.6f}" if known else "",
            }
        )
    return rows


def _describe_heat(annotations: Annotations, columns: list[int]) -> list[dict[str, Any]]:
    names = [make_printable(annotations.label_space.names[column]) for column in columns]
    both_KK = co_occurrence(annotations.targets.select_labels(columns))
    return [
        {"label": name, "cells": [_describe_pair(both_KK, names, row, column) for column in range(len(names))]}
        for row, name in enumerate(names)
    ]


def _describe_pair(both_KK: Any, names: list[str], row: int, column: int) -> dict[str, Any]:
    both, alone = int(both_KK[row, column]), int(both_KK[row, row])
    share = both / alone if alone else 0.0
    return {
        "is_self": row == column,
        "strength": round(_STRONGEST * share),
        "text": "·" if row == column else (f"{100 * share:.0f}" if both else ""),
        "title": f"{names[row]} and {names[column]}: {count(both, 'image')} of {alone:,}",
    }
