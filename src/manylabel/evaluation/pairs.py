"""Pairs of labels: which are said in place of which, and which come together, in truth and in the answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.labels.targets import BoolArray
from manylabel.metrics.averaging import fraction
from manylabel.metrics.resampling import split_into_blocks

CountArray = npt.NDArray[np.int64]

MAX_PAIRS = 100
"""How many pairs of each kind are kept."""

MAX_MATRIX_LABELS = 20
"""How many labels a matrix shows: more do not fit a page."""

_LEAST_EXPECTED = 0.5
"""How many images a pair has to be expected on before their absence says anything."""


@dataclass(frozen=True)
class Swap:
    """`said` was wrongly given to `num_images` that truly show `true`; to `num_missed` of them `true` was not given.

    `times_chance` compares `num_missed` with what it would be if the two mistakes had nothing to do with each other.
    """

    said: int
    true: int
    num_images: int
    num_missed: int
    times_chance: float


@dataclass(frozen=True)
class Companions:
    """Two labels that come together more, or less, often than chance would have it.

    `lift` is how many times as often as if they had nothing to do with each other, in truth and among the answers; NaN
    where one of them never occurs there.
    """

    first: int
    second: int
    num_true: int
    num_given: int
    true_lift: float
    given_lift: float


@dataclass(frozen=True)
class PairMatrix:
    """Counts between the labels `columns`: [K, K], the first axis said (or first), the second true (or second)."""

    columns: tuple[int, ...]
    counts_KK: CountArray
    totals_K: CountArray
    """Of how many: the wrongly given of each label, or the images that show it."""


@dataclass(frozen=True)
class Pairs:
    """The swaps and companions that chance explains least, and a matrix of each kind."""

    swaps: tuple[Swap, ...]
    swap_matrix: PairMatrix
    companions: tuple[Companions, ...]
    companion_matrix: PairMatrix


def find_pairs(decisions_NL: BoolArray, truth_NL: BoolArray, known_NL: BoolArray) -> Pairs:
    """Return what is said in place of what, and what comes together; unknown cells count nowhere.

    Shapes: N images, L labels.

    Example:
        >>> truth_NL = np.array([[True, False], [False, True]])
        >>> pairs = find_pairs(~truth_NL, truth_NL, np.ones_like(truth_NL))
        >>> pairs.swaps[0]
        Swap(said=0, true=1, num_images=1, num_missed=1, times_chance=2.0)
    """
    shown_NL, given_NL = truth_NL & known_NL, decisions_NL & known_NL
    wrong_NL, missed_NL = given_NL & ~truth_NL, shown_NL & ~decisions_NL
    shown_LL = _count_together(shown_NL, shown_NL)
    swaps, swap_matrix = _find_swaps(wrong_NL, shown_NL, missed_NL)
    return Pairs(
        swaps,
        swap_matrix,
        _find_companions(shown_LL, _count_together(given_NL, given_NL), len(truth_NL)),
        _build_matrix(shown_LL, _most(np.diagonal(shown_LL)), np.diagonal(shown_LL)),
    )


def _find_swaps(wrong_NL: BoolArray, shown_NL: BoolArray, missed_NL: BoolArray) -> tuple[tuple[Swap, ...], PairMatrix]:
    images_LL, missed_LL = _count_together(wrong_NL, shown_NL), _count_together(wrong_NL, missed_NL)
    num_wrong_L, num_missed_L = (np.count_nonzero(flags_NL, axis=0) for flags_NL in (wrong_NL, missed_NL))
    # A label that is given to nearly everything meets every other one: what counts is more than that explains.
    expected_LL = np.outer(num_wrong_L, num_missed_L) / max(1, len(wrong_NL))
    surprise_LL = (missed_LL - expected_LL) / np.sqrt(expected_LL + 1)
    swaps = tuple(
        Swap(
            said,
            true,
            int(images_LL[said, true]),
            int(missed_LL[said, true]),
            float(missed_LL[said, true] / expected_LL[said, true]),
        )
        for said, true in _largest(surprise_LL)
    )
    involved = _most(missed_LL.sum(axis=0) + missed_LL.sum(axis=1))
    return swaps, _build_matrix(missed_LL, involved, num_wrong_L)


def _find_companions(shown_LL: CountArray, given_LL: CountArray, num_images: int) -> tuple[Companions, ...]:
    expected_LL = np.outer(np.diagonal(shown_LL), np.diagonal(shown_LL)) / max(1, num_images)
    gap_LL = np.abs(shown_LL - expected_LL)
    surprise_LL = np.where(expected_LL >= _LEAST_EXPECTED, gap_LL / np.sqrt(np.maximum(expected_LL, 1e-12)), 0)
    true_lift_LL, given_lift_LL = _lift(shown_LL, num_images), _lift(given_LL, num_images)
    return tuple(
        Companions(
            first,
            second,
            int(shown_LL[first, second]),
            int(given_LL[first, second]),
            float(true_lift_LL[first, second]),
            float(given_lift_LL[first, second]),
        )
        for first, second in _largest(np.triu(surprise_LL, 1))
    )


def _lift(together_LL: CountArray, num_images: int) -> npt.NDArray[np.float64]:
    alone_L = np.diagonal(together_LL).astype(np.float64)
    return fraction(together_LL * float(num_images), np.outer(alone_L, alone_L))


def _count_together(first_NL: BoolArray, second_NL: BoolArray) -> CountArray:
    """Return for how many images both are true, [L, L]."""
    num_images, num_labels = first_NL.shape
    total_LL = np.zeros((num_labels, num_labels))
    for images in split_into_blocks(num_images, num_labels):
        # In float32 for BLAS; the counts of a block stay far below 2**24, so they are exact.
        total_LL += first_NL[images].T.astype(np.float32) @ second_NL[images].astype(np.float32)
    return total_LL.astype(np.int64)


def _largest(values_LL: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return the row and column of the MAX_PAIRS largest values above 0, the largest first."""
    flat = values_LL.ravel()
    num_kept = min(MAX_PAIRS, int(np.count_nonzero(flat > 0)))
    kept = np.argpartition(-flat, num_kept - 1)[:num_kept] if num_kept else np.zeros(0, np.int64)
    kept = kept[np.lexsort((kept, -flat[kept]))]
    return [divmod(int(place), values_LL.shape[1]) for place in kept]


def _most(totals_L: CountArray) -> tuple[int, ...]:
    order = np.argsort(-totals_L, kind="stable")[:MAX_MATRIX_LABELS]
    return tuple(int(column) for column in order if totals_L[column] > 0)


def _build_matrix(counts_LL: CountArray, columns: tuple[int, ...], totals_L: CountArray) -> PairMatrix:
    kept = list(columns)
    return PairMatrix(columns, counts_LL[np.ix_(kept, kept)], totals_L[kept])
