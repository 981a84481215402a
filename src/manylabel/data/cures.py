"""Cures: what can be put right without asking anybody, finding by finding, in a new table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from manylabel.data.annotations import Annotations
from manylabel.data.checks import find_table_findings
from manylabel.data.findings import Finding
from manylabel.errors import DataError, build_message, join_names
from manylabel.labels.targets import Targets

Cure = Callable[[Annotations, Finding], tuple[Annotations, str]]
"""Takes a table and a finding about it; gives the cured table and a sentence that says what changed, if anything."""


@dataclass(frozen=True)
class CuredTable:
    """A cleaned table, a sentence for each change, and the findings that are left for a person to decide."""

    annotations: Annotations
    changes: tuple[str, ...]
    left: tuple[Finding, ...]


def cure_findings(annotations: Annotations, findings: Sequence[Finding]) -> CuredTable:
    """Apply the cures of `CURES` in their order; what the cells tell is looked at again after each.

    Args:
        findings: what was found; findings of kinds that have no cure are left.

    Raises:
        DataError: no image with a label is left.
    """
    cells_kinds = {finding.kind for finding in find_table_findings(annotations)}
    others = [finding for finding in findings if finding.kind not in cells_kinds]
    changes = [
        f"{DECIDED_BY_READING[each.kind].format(_count(len(each.rows), 'image'))}: {join_names(each.rows)}."
        for each in others
        if each.kind in DECIDED_BY_READING
    ]
    for kind, cure in CURES.items():
        for finding in [each for each in (*others, *find_table_findings(annotations)) if each.kind == kind]:
            annotations, change = cure(annotations, finding)
            changes += [change] if change else []
    cured = {*CURES, *DECIDED_BY_READING}
    left = [finding for finding in (*others, *find_table_findings(annotations)) if finding.kind not in cured]
    return CuredTable(annotations, tuple(changes), tuple(left))


def remove_images(annotations: Annotations, finding: Finding) -> tuple[Annotations, str]:
    """Remove the rows of images that cannot be used."""
    gone = set(finding.rows)
    kept = annotations.filter(lambda record: record.id not in gone)
    if not kept.targets.num_present_L.any():
        raise DataError(build_message(annotations.name, "no image with a label is left without the unusable ones"))
    if len(kept) == len(annotations):
        return annotations, ""
    return (
        kept,
        f"Removed {_count(len(annotations) - len(kept), 'image')} ({finding.kind}): {join_names(finding.rows)}.",
    )


def merge_same_labels(annotations: Annotations, finding: Finding) -> tuple[Annotations, str]:
    """Make one label of the spellings of one name: present where one of them is, unknown where all are."""
    kept_of = dict(zip(finding.rows[::2], finding.rows[1::2], strict=True))
    shown = join_names([f"{name!r} to {kept!r}" for name, kept in kept_of.items()])
    return merge_labels(annotations, kept_of), f"Renamed labels: {shown}."


def merge_labels(annotations: Annotations, kept_of: Mapping[str, str]) -> Annotations:
    """Return the table with each key of `kept_of` merged into the label that is its value.

    A cell is present where one of the merged ones is, else absent where one of them is, else unknown.
    """
    space = annotations.label_space
    present_bits, known_bits = annotations.targets.present_bits.copy(), annotations.targets.known_bits.copy()
    for name, kept in kept_of.items():
        for bits in (present_bits, known_bits):
            _add_column(bits, space.index(name), space.index(kept))
    left = [name for name in space if name not in kept_of]
    targets = Targets(present_bits, known_bits, len(space)).select_labels([space.index(name) for name in left])
    records = tuple(
        replace(
            record, regions=tuple(replace(part, label=kept_of.get(part.label, part.label)) for part in record.regions)
        )
        if record.regions
        else record
        for record in annotations.records
    )
    return replace(annotations, records=records, targets=targets, label_space=space.subset(left))


def _add_column(bits: npt.NDArray[np.uint8], source: int, target: int) -> None:
    """Set the bits of a column wherever those of another are set."""
    is_set_N = (bits[:, source >> 3] & (128 >> (source & 7))) > 0
    bits[is_set_N, target >> 3] |= 128 >> (target & 7)


def remove_labels(annotations: Annotations, finding: Finding) -> tuple[Annotations, str]:
    """Remove labels that no image has."""
    left = annotations.label_space.subset(name for name in annotations.label_space if name not in set(finding.rows))
    sentence = f"Removed {_count(len(finding.rows), 'label')} that no image has: {join_names(finding.rows)}."
    return annotations.align(left, unknown_labels="drop"), sentence


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


CURES: Mapping[str, Cure] = {
    "missing-image": remove_images,
    "image-missing": remove_images,
    "image-empty": remove_images,
    "image-broken": remove_images,
    "image-unreadable": remove_images,
    "image-not-a-file": remove_images,
    "image-unsupported-format": remove_images,
    "image-too-large": remove_images,
    "image-too-many-scans": remove_images,
    "same-label": merge_same_labels,
    "label-without-positive": remove_labels,
}
"""The cure of each kind of finding that has a safe one, in the order in which they are applied."""

DECIDED_BY_READING: Mapping[str, str] = {
    "repeated-image": "Made one row of the rows of {}",
    "contradicting-rows": "Made unknown what the rows of {} contradict each other on",
    "image-in-two-parts": "Chose the part of the first row for {}",
}
"""What reading has decided already, so that writing the table cures it."""
