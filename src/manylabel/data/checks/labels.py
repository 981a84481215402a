"""What the cells tell: labels that cannot be learnt or judged, and images that say nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from manylabel.data.annotations import Annotations
from manylabel.data.findings import Finding, build_finding
from manylabel.data.splits import PART_NAMES
from manylabel.errors import join_names
from manylabel.labels.targets import Targets

FEW_POSITIVES = 5
"""With fewer images of a label a share of them in each part is not to be had."""

IntArray = npt.NDArray[np.int64]


def find_label_findings(annotations: Annotations, parts: Sequence[str] = PART_NAMES) -> Iterator[Finding]:
    """Yield labels that are never or always present or too rare, images that say nothing, and unknown cells.

    Args:
        parts: the parts that are wanted; a table that has several parts is judged by its own.
    """
    yield from _find_constant_labels(annotations)
    own_parts = annotations.parts()
    if len(own_parts) > 1:
        yield from _find_labels_missing_in_parts(annotations, own_parts)
        yield from _find_rare_labels(annotations, at_least=1)
    else:
        yield from _find_labels_rarer_than_parts(annotations, parts)
        yield from _find_rare_labels(annotations, at_least=len(parts))
    yield from _find_silent_images(annotations)
    yield from _find_unknown_cells(annotations)


def _find_constant_labels(annotations: Annotations) -> Iterator[Finding]:
    present_L, absent_L = annotations.targets.num_present_L, annotations.targets.num_absent_L
    never = _name(annotations, present_L == 0)
    if never:
        message = f"Labels that no image has: {join_names(never)}. They cannot be learnt or judged."
        yield build_finding("label-without-positive", message, never)
    always = _name(annotations, (present_L > 0) & (absent_L == 0))
    if always and len(annotations) > 1:
        message = f"Labels that every image has for which they are known: {join_names(always)}."
        yield build_finding("label-without-negative", message, always)


def _find_labels_missing_in_parts(annotations: Annotations, parts: Mapping[str, Annotations]) -> Iterator[Finding]:
    present_PL = np.stack([part.targets.num_present_L for part in parts.values()])
    is_lacking_PL = (present_PL == 0) & (present_PL.sum(axis=0) > 0)
    if is_lacking_PL.any():
        lacking = [
            f"{part} lacks {join_names(_name(annotations, is_lacking_L))}"
            for part, is_lacking_L in zip(parts, is_lacking_PL, strict=True)
            if is_lacking_L.any()
        ]
        message = f"Labels without an image in some part: {'; '.join(lacking)}."
        yield build_finding("label-missing-in-part", message, _name(annotations, is_lacking_PL.any(axis=0)))


def _find_labels_rarer_than_parts(annotations: Annotations, parts: Sequence[str]) -> Iterator[Finding]:
    num_places_L = count_places(annotations)
    rare = _name(annotations, (num_places_L > 0) & (num_places_L < len(parts)))
    if rare:
        places = "groups of images" if any(record.group for record in annotations.records) else "images"
        message = (
            f"Labels in fewer than {len(parts)} {places}: {_join_counts(annotations, rare)}. "
            f"They cannot be in each of {', '.join(parts)}."
        )
        yield build_finding("label-too-rare", message, rare)


def count_places(annotations: Annotations) -> IntArray:
    """Return for each label in how many places a split could put it: groups of images, and images without a group."""
    targets = annotations.targets
    if not any(record.group for record in annotations.records):
        return targets.num_present_L
    code_of: dict[tuple[bool, str], int] = {}
    keys = ((True, record.group) if record.group else (False, record.id) for record in annotations.records)
    codes_N = np.fromiter((code_of.setdefault(key, len(code_of)) for key in keys), np.int64, len(annotations))
    order_N = np.argsort(codes_N, kind="stable")
    starts = np.searchsorted(codes_N[order_N], np.arange(len(code_of)))
    bits = np.bitwise_or.reduceat(targets.present_bits[order_N], starts, axis=0)
    return Targets(bits, bits.copy(), targets.num_labels).num_present_L


def _find_rare_labels(annotations: Annotations, at_least: int) -> Iterator[Finding]:
    """Yield the labels of few images, without those that were named because they stand in too few places."""
    present_L = annotations.targets.num_present_L
    is_rare_L = (present_L > 0) & (present_L < FEW_POSITIVES) & (count_places(annotations) >= at_least)
    rare = _name(annotations, is_rare_L)
    if rare:
        message = f"Labels that fewer than {FEW_POSITIVES} images have: {_join_counts(annotations, rare)}."
        yield build_finding("rare-label", message, rare)


def _find_silent_images(annotations: Annotations) -> Iterator[Finding]:
    known_N = annotations.targets.num_known_N
    is_bare_N = (annotations.targets.num_present_N == 0) & (known_N == len(annotations.label_space))
    bare = [annotations.records[row].id for row in is_bare_N.nonzero()[0]]
    if bare:
        shown = f"{len(bare):,} ({join_names(bare, 3)})"
        message = f"Images without any label: {shown}. The empty set is an answer, if it is meant."
        yield build_finding("image-without-label", message, bare)
    told = {
        image
        for finding in annotations.findings
        if finding.kind in ("outside-label-folder", "missing-mask")
        for image in finding.rows
    }
    ids = (annotations.records[row].id for row in (known_N == 0).nonzero()[0])
    silent = [image for image in ids if image not in told]
    if silent:
        message = f"Images of which no label is known: {len(silent):,} ({join_names(silent, 3)}). They count nowhere."
        yield build_finding("image-without-known-label", message, silent)


def _find_unknown_cells(annotations: Annotations) -> Iterator[Finding]:
    unknown_L = annotations.targets.num_unknown_L
    num_unknown = int(unknown_L.sum())
    if num_unknown:
        columns = [int(column) for column in np.argsort(-unknown_L, kind="stable") if unknown_L[column]]
        names = [annotations.label_space.names[column] for column in columns]
        shown = [f"{name} ({unknown_L[column]:,})" for name, column in zip(names, columns, strict=True)]
        share = num_unknown / (len(annotations) * len(annotations.label_space))
        message = (
            f"{num_unknown:,} cells ({share:.1%}) are unknown: they count neither in training nor in a metric. "
            f"By label: {join_names(shown)}."
        )
        yield build_finding("unknown-cells", message, names)


def _name(annotations: Annotations, is_meant_L: npt.NDArray[np.bool_]) -> list[str]:
    return [annotations.label_space.names[column] for column in np.flatnonzero(is_meant_L)]


def _join_counts(annotations: Annotations, names: Sequence[str]) -> str:
    present_L = annotations.targets.num_present_L
    return join_names([f"{name} ({present_L[annotations.label_space.index(name)]:,})" for name in names])
