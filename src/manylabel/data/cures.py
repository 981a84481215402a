"""Cures: what can be put right without asking anybody, finding by finding, in a new table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from manylabel.data.annotations import Annotations
from manylabel.data.checks import find_table_findings
from manylabel.data.duplicates import find_duplicate_findings, find_relatives
from manylabel.data.findings import Finding
from manylabel.data.scan import ImageFacts
from manylabel.data.splits import PART_NAMES
from manylabel.errors import DataError, build_message, join_names
from manylabel.labels.targets import Targets

Cure = Callable[[Annotations, Finding, Sequence[ImageFacts]], tuple[Annotations, str]]
"""Takes a table, a finding about it and what was seen of its images; gives the cured table and a sentence that says
what changed, if anything."""


@dataclass(frozen=True)
class CuredTable:
    """A cleaned table, a sentence for each change, and the findings that are left for a person to decide."""

    annotations: Annotations
    changes: tuple[str, ...]
    left: tuple[Finding, ...]


def cure_findings(
    annotations: Annotations, findings: Sequence[Finding], facts: Sequence[ImageFacts] = ()
) -> CuredTable:
    """Apply the cures of `CURES` in their order; what the cells tell is looked at again after each.

    Args:
        findings: what was found; findings of kinds that have no cure are left.
        facts: what `scan_images` saw of the images; without it nothing is known of duplicates.

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
            annotations, change = cure(annotations, finding, _keep_facts(annotations, facts))
            changes += [change] if change else []
    others = [finding for finding in others if finding.kind not in DUPLICATE_KINDS]
    again = find_duplicate_findings(annotations, _keep_facts(annotations, facts)) if facts else ()
    cured = {*CURES, *DECIDED_BY_READING}
    left = [each for each in (*others, *again, *find_table_findings(annotations)) if each.kind not in cured]
    return CuredTable(annotations, tuple(changes), tuple(left))


def _keep_facts(annotations: Annotations, facts: Sequence[ImageFacts]) -> list[ImageFacts]:
    """Return the facts of the images that are in the table, in its order."""
    fact_of = {fact.image: fact for fact in facts}
    return [fact_of[image] for image in annotations.images if image in fact_of]


def remove_images(annotations: Annotations, finding: Finding, _facts: Sequence[ImageFacts]) -> tuple[Annotations, str]:
    """Remove the rows of images that cannot be used."""
    gone = set(finding.rows)
    kept = annotations.filter(lambda record: record.id not in gone)
    if not kept.targets.num_present_L.any():
        raise DataError(build_message(annotations.name, "no image with a label is left without the unusable ones"))
    if len(kept) == len(annotations):
        return annotations, ""
    removed = _count(len(annotations) - len(kept), "image")
    return kept, f"Removed {removed} ({finding.kind}): {join_names(finding.rows)}."


def keep_one_copy(annotations: Annotations, _finding: Finding, facts: Sequence[ImageFacts]) -> tuple[Annotations, str]:
    """Keep one of the files that are equal byte by byte; where their labels contradict each other they are unknown.

    The copy that judges is kept before one that trains, so that no part for judging becomes smaller.
    """
    rows_of: dict[str, list[int]] = {}
    row_of = {image: row for row, image in enumerate(annotations.images)}
    for fact in facts:
        if fact.digest:
            rows_of.setdefault(fact.digest, []).append(row_of[fact.image])
    copies = [rows for rows in rows_of.values() if len(rows) > 1]
    kept_of = {_choose_copy(annotations, rows): rows for rows in copies}
    present_bits, known_bits = annotations.targets.present_bits.copy(), annotations.targets.known_bits.copy()
    num_contradicting = 0
    for kept, rows in kept_of.items():
        present = np.bitwise_or.reduce(annotations.targets.present_bits[rows])
        absent = np.bitwise_or.reduce(annotations.targets.known_bits[rows] & ~annotations.targets.present_bits[rows])
        conflict = present & absent
        present_bits[kept] = present & ~conflict
        known_bits[kept] = (present | absent) & ~conflict
        num_contradicting += bool(conflict.any())
    gone = {row for kept, rows in kept_of.items() for row in rows if row != kept}
    if not gone:
        return annotations, ""
    merged = replace(annotations, targets=Targets(present_bits, known_bits, annotations.targets.num_labels))
    names = join_names([annotations.records[row].id for row in sorted(gone)])
    unknown = (
        f" Made unknown what the copies of {_count(num_contradicting, 'image')} contradict each other on."
        if num_contradicting
        else ""
    )
    return (
        merged.select([row for row in range(len(annotations)) if row not in gone]),
        f"Removed {_count(len(gone), 'image')} of which an equal copy is kept: {names}.{unknown}",
    )


def _choose_copy(annotations: Annotations, rows: Sequence[int]) -> int:
    return min(rows, key=lambda row: (_JUDGING_PARTS.get(annotations.records[row].part or "", len(PART_NAMES)), row))


_JUDGING_PARTS = {name: place for place, name in enumerate(reversed(PART_NAMES))}


def group_relatives(
    annotations: Annotations, _finding: Finding, facts: Sequence[ImageFacts]
) -> tuple[Annotations, str]:
    """Give the images that show the same picture one group, so that no split parts them; groups they had are joined."""
    relatives = [[facts[row].image for row in each.rows] for each in find_relatives(facts)]
    group_of = {record.id: record.group for record in annotations.records}
    name_of: dict[str, str] = {}

    def find(group: str) -> str:
        while name_of.get(group, group) != group:
            group = name_of[group]
        return group

    for images in relatives:
        groups = [find(group) for group in (group_of[image] for image in images) if group]
        name = groups[0] if groups else images[0]
        name_of |= dict.fromkeys(groups, name)
        group_of |= dict.fromkeys(images, name)
    records = tuple(
        replace(record, group=None if group is None else find(group))
        for record, group in zip(annotations.records, group_of.values(), strict=True)
    )
    num_images = sum(map(len, relatives))
    if not num_images:
        return annotations, ""
    shown = join_names([" = ".join(images) for images in relatives], 3)
    return (
        replace(annotations, records=records),
        f"Gave {num_images:,} images that show {_count(len(relatives), 'picture')} a common group: {shown}.",
    )


def merge_same_labels(
    annotations: Annotations, finding: Finding, _facts: Sequence[ImageFacts]
) -> tuple[Annotations, str]:
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


def remove_labels(annotations: Annotations, finding: Finding, _facts: Sequence[ImageFacts]) -> tuple[Annotations, str]:
    """Remove labels that no image has."""
    if set(annotations.label_space) <= set(finding.rows):
        raise DataError(build_message(annotations.name, "no image has any label, so no label would be left"))
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
    "exact-duplicate": keep_one_copy,
    "near-duplicate": group_relatives,
    "same-label": merge_same_labels,
    "label-without-positive": remove_labels,
}
"""The cure of each kind of finding that has a safe one, in the order in which they are applied."""

DUPLICATE_KINDS = ("duplicate-in-two-parts", "contradicting-duplicates", "exact-duplicate", "near-duplicate")
"""What is looked for again in the cleaned table: keeping one copy cures some of it."""

DECIDED_BY_READING: Mapping[str, str] = {
    "repeated-image": "Made one row of the rows of {}",
    "contradicting-rows": "Made unknown what the rows of {} contradict each other on",
    "image-in-two-parts": "Chose the part of the first row for {}",
}
"""What reading has decided already, so that writing the table cures it."""
