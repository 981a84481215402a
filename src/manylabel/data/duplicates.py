"""Duplicates: the same file twice, and the same picture resized, encoded again or mirrored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from manylabel.data.annotations import Annotations
from manylabel.data.findings import Finding, build_finding
from manylabel.data.perceptual_hash import COLOUR_SIDE_PX, THUMBNAIL_SIDE_PX
from manylabel.data.scan import ImageFacts
from manylabel.errors import join_names

UIntArray = npt.NDArray[np.uint64]
IntArray = npt.NDArray[np.int64]

MAX_DISTANCE = 7
"""How many of the 64 bits may differ. With four bands of 16 bits one of them then differs in one bit at most."""

_BANDS = 4
_BAND_BITS = 16
_MAX_PAIRS_AT_ONCE = 4_000_000

_MIN_CORRELATION = 0.97
"""How alike thumbnails have to be besides: measured, the same photograph resized or encoded again stays above, and
different drawings on the same paper, whose hashes do meet, below (docs/experiments.md)."""

_MAX_COLOUR_DIFFERENCE = 16
"""How far (of 255) the colour of a sixteenth of the image may be off: copies stay within 9 (docs/experiments.md), and
the same shape in another colour is another picture."""

_FLAT = 3.0
"""Below this standard deviation (of 255) an image shows next to nothing, and its hash is noise."""


@dataclass(frozen=True)
class Relatives:
    """Rows that show the same picture: `exact` if all files are equal byte by byte, else `near`."""

    rows: tuple[int, ...]
    kind: Literal["exact", "near"]


def find_relatives(facts: Sequence[ImageFacts]) -> list[Relatives]:
    """Return the groups of rows that show the same picture, in the order of their first row; no row is in two.

    Exact ones have the same bytes. Near ones have hashes within `MAX_DISTANCE` bits, upright or mirrored, and
    thumbnails that differ by little beside their contrast and in colour; images that show next to nothing are only ever
    exact.
    """
    group_of = _Groups(len(facts))
    first_of: dict[str, int] = {}
    for row, fact in enumerate(facts):
        if fact.digest:
            group_of.join(first_of.setdefault(fact.digest, row), row)
    pictures = [row for row in first_of.values() if facts[row].thumbnail]
    for one, two in _find_near(facts, pictures):
        group_of.join(one, two)
    relatives = []
    for rows in group_of.groups():
        digests = {facts[row].digest for row in rows}
        relatives.append(Relatives(rows, "exact" if len(digests) == 1 else "near"))
    return relatives


def _find_near(facts: Sequence[ImageFacts], rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of rows whose hashes and thumbnails are alike."""
    if not rows:
        return
    side, colour_side = THUMBNAIL_SIDE_PX, COLOUR_SIDE_PX
    bytes_NK = np.frombuffer(b"".join(facts[row].thumbnail for row in rows), np.uint8).reshape(len(rows), -1)
    thumbs_NHW = bytes_NK[:, : side**2].reshape(-1, side, side)
    contrast_N = thumbs_NHW.std(axis=(1, 2))
    shown = np.flatnonzero(contrast_N >= _FLAT)
    bits_N = np.array([facts[rows[int(position)]].hash_bits for position in shown], np.uint64)
    mirror_N = np.array([facts[rows[int(position)]].mirror_bits for position in shown], np.uint64)
    colours_NCHW = bytes_NK[shown, side**2 :].reshape(-1, 2, colour_side, colour_side).astype(np.int16)
    thumbs_NHW = thumbs_NHW[shown].astype(np.float32)
    thumbs_NHW = (thumbs_NHW - thumbs_NHW.mean(axis=(1, 2), keepdims=True)) / contrast_N[shown, None, None]
    for is_mirrored, pairs in ((False, find_near_pairs(bits_N)), (True, find_near_pairs(bits_N, mirror_N))):
        for start in range(0, len(pairs), 65_536):
            first, second = pairs[start : start + 65_536].T
            turn = slice(None, None, -1 if is_mirrored else 1)
            alike = (thumbs_NHW[first] * thumbs_NHW[second][..., turn]).mean(axis=(1, 2)) >= _MIN_CORRELATION
            differences = np.abs(colours_NCHW[first] - colours_NCHW[second][..., turn])
            alike &= differences.max(axis=(1, 2, 3)) <= _MAX_COLOUR_DIFFERENCE
            for one, two in zip(first[alike], second[alike], strict=True):
                yield rows[int(shown[one])], rows[int(shown[two])]


def find_near_pairs(
    hash_bits_N: UIntArray, mirror_bits_N: UIntArray | None = None, max_distance: int = MAX_DISTANCE
) -> IntArray:
    """Return the pairs of rows whose hashes differ in at most `max_distance` bits, the smaller row first.

    Of rows with equal hashes each is paired with the first of them only, so that a hundred thousand equal ones give
    a hundred thousand pairs and not five billion.

    Args:
        hash_bits_N: the hashes.
        mirror_bits_N: hashes of the mirror images; then a pair is a hash and the mirror hash of another row.
        max_distance: at most 7: a match is looked up by bands of 16 bits, of which one differs in one bit at most.

    Returns: int64 [K, 2], sorted.

    Source: Norouzi, Punjani and Fleet 2012, "Fast search in Hamming space with multi-index hashing".

    Example:
        >>> find_near_pairs(np.array([0, 0b111, 2**63, 2**64 - 1], np.uint64)).tolist()
        [[0, 1], [0, 2], [1, 2]]
    """
    assert 0 <= max_distance <= MAX_DISTANCE, "the bands do not find pairs that are further apart"
    distinct, first_of, inverse = np.unique(hash_bits_N, return_index=True, return_inverse=True)
    queries = distinct if mirror_bits_N is None else np.unique(mirror_bits_N)
    near = [(found[0], found[1]) for found in _find_candidates(queries, distinct, max_distance)]
    query = np.concatenate([pair[0] for pair in near]) if near else np.zeros(0, np.int64)
    target = np.concatenate([pair[1] for pair in near]) if near else np.zeros(0, np.int64)
    if mirror_bits_N is None:
        copies = np.column_stack([first_of[inverse], np.arange(len(hash_bits_N))])
        pairs = np.concatenate([copies, np.column_stack([first_of[query], first_of[target]])])
    else:
        _, mirror_first_of, mirror_inverse = np.unique(mirror_bits_N, return_index=True, return_inverse=True)
        copies = np.column_stack([mirror_first_of[mirror_inverse], np.arange(len(mirror_bits_N))])
        pairs = np.concatenate([np.column_stack([mirror_first_of[query], first_of[target]]), copies[:0]])
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    return np.unique(pairs, axis=0).astype(np.int64)


def _find_candidates(queries: UIntArray, targets: UIntArray, max_distance: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield (query, target) positions within the distance: those with a band that differs in one bit at most."""
    for band in range(_BANDS):
        shift = np.uint64(band * _BAND_BITS)
        mask = np.uint64((1 << _BAND_BITS) - 1)
        target_keys = (targets >> shift) & mask
        order = np.argsort(target_keys, kind="stable")
        starts = np.searchsorted(target_keys[order], np.arange((1 << _BAND_BITS) + 1, dtype=np.uint64))
        query_keys = (queries >> shift) & mask
        for flip in (0, *(1 << bit for bit in range(_BAND_BITS))):
            keys = query_keys ^ np.uint64(flip)
            begin, end = starts[keys], starts[keys + np.uint64(1)]
            yield from _compare(queries, targets, order, begin, end, max_distance)


def _compare(
    queries: UIntArray, targets: UIntArray, order: IntArray, begin_Q: IntArray, end_Q: IntArray, max_distance: int
) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield the pairs of a query with the targets of its bucket that are near enough, some millions at a time."""
    lengths_Q = end_Q - begin_Q
    total = np.cumsum(lengths_Q)
    start = 0
    while start < len(queries):
        done = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + _MAX_PAIRS_AT_ONCE, side="right")))
        lengths = lengths_Q[start:stop]
        query = np.repeat(np.arange(start, stop), lengths)
        offset = np.arange(len(query)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        target = order[np.repeat(begin_Q[start:stop], lengths) + offset]
        is_near = np.bitwise_count(queries[query] ^ targets[target]) <= max_distance
        yield query[is_near], target[is_near]
        start = stop


class _Groups:
    """Rows joined pair by pair (union-find)."""

    def __init__(self, num_rows: int) -> None:
        self._parent = list(range(num_rows))

    def find(self, row: int) -> int:
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = self._parent[row]
        return row

    def join(self, first: int, second: int) -> None:
        first, second = sorted((self.find(first), self.find(second)))
        self._parent[second] = first

    def groups(self) -> Iterator[tuple[int, ...]]:
        """Yield the rows of every group of two or more."""
        rows_of: dict[int, list[int]] = {}
        for row in range(len(self._parent)):
            rows_of.setdefault(self.find(row), []).append(row)
        return (tuple(rows) for rows in rows_of.values() if len(rows) > 1)


def find_duplicate_findings(annotations: Annotations, facts: Sequence[ImageFacts]) -> Iterator[Finding]:
    """Yield what duplicates do: those with other labels, those in two parts, and then the exact and the near ones."""
    relatives = find_relatives(facts)
    differing = [group for group in relatives if _have_other_labels(annotations, group)]
    split = [group for group in relatives if len({annotations.records[row].part for row in group.rows}) > 1]
    for kind, message, groups in (
        ("duplicate-in-two-parts", "Pictures that stand in two parts, so that what is judged was trained on", split),
        ("contradicting-duplicates", "Pictures that stand several times with different labels", differing),
        ("exact-duplicate", "Files that are equal byte by byte", [each for each in relatives if each.kind == "exact"]),
        (
            "near-duplicate",
            "Pictures that stand several times, resized, encoded again or mirrored",
            [each for each in relatives if each.kind == "near"],
        ),
    ):
        if groups:
            shown = join_names([" = ".join(_name(annotations, group)) for group in groups], 3)
            rows = [annotations.records[row].id for group in groups for row in group.rows]
            yield build_finding(kind, f"{message}: {len(groups):,} ({shown}).", rows)


def _have_other_labels(annotations: Annotations, group: Relatives) -> bool:
    rows = list(group.rows)
    present, known = annotations.targets.present_bits[rows], annotations.targets.known_bits[rows]
    absent = known & ~present
    return bool((np.bitwise_or.reduce(present) & np.bitwise_or.reduce(absent)).any())


def _name(annotations: Annotations, group: Relatives, limit: int = 3) -> list[str]:
    names = [annotations.records[row].id for row in group.rows[:limit]]
    return names if len(group.rows) <= limit else [*names, f"{len(group.rows) - limit} more"]
