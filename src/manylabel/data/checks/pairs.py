"""What pairs of labels tell: columns that are the same, labels that imply others, labels that mostly come together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.data.annotations import Annotations
from manylabel.data.findings import Finding, build_finding
from manylabel.errors import join_names
from manylabel.labels.targets import Targets

MIN_SUPPORT = 5
"""In how many images a label has to stand before its company says anything."""

MAX_CHANCE = 1e-4
"""How probable it may be that a label's images have another one by chance before that counts as an implication."""

STRONG_OVERLAP = 0.5
"""The share of the images with either of two labels that have both, from which it is worth a note."""

CLOSER_THAN_CHANCE = 1.5
"""How many times as often as two labels meet by chance they have to: frequent labels often do."""

MAX_COMPARED_LABELS = 2000
"""Of more labels the most frequent ones are compared: the table of pairs grows with the square."""

_CHUNK_ROWS = 16_384

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
Pair = tuple[int, int]


@dataclass(frozen=True)
class PairCounts:
    """In how many images two labels meet.

    Shapes: K compared labels; `columns_K` are their columns in the table. `both_KK` counts images with both, `met_KK`
    images with the first of which the second is known.
    """

    columns_K: IntArray
    both_KK: IntArray
    met_KK: IntArray

    @classmethod
    def build(cls, targets: Targets) -> PairCounts:
        """Count the pairs of labels that are neither rare nor in every image."""
        present_L = targets.num_present_L
        columns_K = np.flatnonzero((present_L >= MIN_SUPPORT) & (present_L < targets.num_known_L))
        if len(columns_K) > MAX_COMPARED_LABELS:
            columns_K = np.sort(columns_K[np.argsort(-present_L[columns_K], kind="stable")[:MAX_COMPARED_LABELS]])
        has_unknown = bool(targets.num_unknown_L[columns_K].any())
        both_KK = np.zeros((len(columns_K), len(columns_K)))
        met_KK = np.zeros_like(both_KK)
        for start in range(0, len(targets), _CHUNK_ROWS):
            rows = slice(start, start + _CHUNK_ROWS)
            present_BK = targets.present_NL(rows)[:, columns_K].astype(np.float32)
            both_KK += present_BK.T @ present_BK  # exact: a chunk's counts stay below 2**24
            if has_unknown:
                met_KK += present_BK.T @ targets.known_NL(rows)[:, columns_K].astype(np.float32)
        if not has_unknown:
            met_KK[:] = np.diagonal(both_KK)[:, None]
        return cls(columns_K, both_KK.astype(np.int64), met_KK.astype(np.int64))


def find_pair_findings(annotations: Annotations) -> Iterator[Finding]:
    """Yield labels with identical columns, labels that never stand without another, and pairs that mostly meet."""
    targets, names = annotations.targets, annotations.label_space.names
    counts = PairCounts.build(targets)
    names_K = [names[column] for column in counts.columns_K]
    always_KK = _find_always(counts)
    share_K = (targets.num_present_L / np.maximum(targets.num_known_L, 1))[counts.columns_K]
    num_absent_K = targets.num_absent_L[counts.columns_K]
    chance_KK = share_K[None, :] ** counts.both_KK
    is_identical_KK = always_KK & always_KK.T & (chance_KK * (1 - share_K) ** num_absent_K < MAX_CHANCE)
    is_implied_KK = always_KK & ~is_identical_KK & (chance_KK < MAX_CHANCE)
    yield from _describe_identical(names_K, counts, is_identical_KK)
    yield from _describe_implied(names_K, counts, is_implied_KK)
    is_likely_KK = counts.both_KK < CLOSER_THAN_CHANCE * counts.met_KK * share_K[None, :]
    yield from _describe_co_occurring(names_K, counts, always_KK | always_KK.T | is_likely_KK)


def _find_always(counts: PairCounts) -> BoolArray:
    """Return for which labels (rows) every image with it also has another (columns), where that one is known."""
    is_always_KK = (counts.both_KK == counts.met_KK) & (counts.both_KK >= MIN_SUPPORT)
    np.fill_diagonal(is_always_KK, False)
    return np.asarray(is_always_KK)


def _describe_identical(names_K: Sequence[str], counts: PairCounts, is_identical_KK: BoolArray) -> Iterator[Finding]:
    is_earlier_KK = np.tril(is_identical_KK, -1)
    pairs = [(int(is_earlier_KK[row].argmax()), int(row)) for row in np.flatnonzero(is_earlier_KK.any(axis=1))]
    if pairs:
        shown = [f"{names_K[a]} = {names_K[b]} ({counts.both_KK[a, b]:,} images)" for a, b in pairs]
        yield build_finding(
            "identical-labels", f"Labels that stand in the same images: {join_names(shown)}.", _flatten(names_K, pairs)
        )


def _describe_implied(names_K: Sequence[str], counts: PairCounts, is_implied_KK: BoolArray) -> Iterator[Finding]:
    pairs = _order_pairs(is_implied_KK, counts.both_KK)
    if pairs:
        shown = [f"{names_K[a]} -> {names_K[b]} ({counts.both_KK[a, b]:,} images)" for a, b in pairs]
        message = f"Labels that never stand without another: {join_names(shown)}."
        yield build_finding("implied-label", message, _flatten(names_K, pairs))


def _describe_co_occurring(names_K: Sequence[str], counts: PairCounts, is_left_out_KK: BoolArray) -> Iterator[Finding]:
    either_KK = counts.met_KK + counts.met_KK.T - counts.both_KK
    share_KK = counts.both_KK / np.maximum(either_KK, 1)
    is_strong_KK = (share_KK >= STRONG_OVERLAP) & (counts.both_KK >= MIN_SUPPORT) & ~is_left_out_KK
    pairs = _order_pairs(np.triu(is_strong_KK, 1), share_KK)
    if pairs:
        shown = [
            f"{names_K[a]} + {names_K[b]} ({counts.both_KK[a, b]:,} of the {either_KK[a, b]:,} images with either)"
            for a, b in pairs
        ]
        message = f"Labels that mostly stand together: {join_names(shown)}."
        yield build_finding("co-occurring-labels", message, _flatten(names_K, pairs))


def _order_pairs(is_meant_KK: BoolArray, weight_KK: npt.NDArray[Any]) -> list[Pair]:
    """Return the pairs that are meant, the heaviest first."""
    first, second = np.nonzero(is_meant_KK)
    order = np.argsort(-weight_KK[first, second], kind="stable")
    return [(int(first[place]), int(second[place])) for place in order]


def _flatten(names_K: Sequence[str], pairs: Sequence[Pair]) -> list[str]:
    return [names_K[place] for pair in pairs for place in pair]
