"""Thresholds for a goal: every place where one can stand is scored, and the best is taken, for each label.

What a label's own images say is mixed with what all cells together say, as if `shrink` of its positives came from
there: with many positives that changes nothing, with few it keeps chance from choosing. A label with fewer than
`MIN_POSITIVES` known positives, or without a known negative, gets the common threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from manylabel.decisions.conformal import find_miss_rate_threshold
from manylabel.decisions.halfway import halfway
from manylabel.metrics.inputs import check_probs

MIN_POSITIVES = 5
"""Known positives a label needs in the tuning data for a threshold of its own."""

PRECISION_SHRINK, COST_SHRINK = 10.0, 50.0
"""What the goals whose best threshold hardly depends on how frequent a label is take from all cells. The others take
nothing: the threshold with the best F1 is about half that F1, so another for each label (docs/experiments.md)."""

HALF = 0.5

OWN, COMMON, NEVER, ALWAYS = "label", "global", "never", "always"
"""Where a threshold comes from: the label's own images, all labels together; or no cut keeps what was asked, so that
the label is given to no image, or to every one."""

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

_EXACT_CELLS = 2**22
_BITS_DROPPED = 14
_ONE_AS_BITS = 0x3F800000


@dataclass(frozen=True)
class Thresholds:
    """The chosen thresholds [L], where each comes from, and how many labels an image gets at least and at most."""

    thresholds_L: Float32Array
    sources: tuple[str, ...]
    global_threshold: float
    at_least: int = 0
    at_most: int | None = None


@dataclass(frozen=True)
class Cuts:
    """Every place where a threshold can stand over some cells, from giving nothing (the first) to giving all.

    The numbers need not be whole: they may hold a share of other labels' cells.

    Shapes: K cuts.
    """

    lowest_in_K: Float32Array
    """The lowest probability that is let in; 1 for the cut that gives nothing."""
    num_given_K: Float64Array
    num_right_K: Float64Array
    num_positive: float


Score = Callable[[Cuts], Float64Array]
"""From cuts to a score for each: the largest is taken, of equal ones the one with the highest threshold."""


def score_f_beta(cuts: Cuts, beta: float = 1.0) -> Float64Array:
    """Return F-beta at each cut: recall counts `beta` times as much as precision."""
    weight = beta * beta
    return _divide((1 + weight) * cuts.num_right_K, cuts.num_given_K + weight * cuts.num_positive)


def score_precision(cuts: Cuts, at_least: float) -> Float64Array:
    """Return how many are found where enough of the given are right; below everything elsewhere."""
    is_kept_K = cuts.num_right_K >= at_least * cuts.num_given_K - 1e-9
    return np.where(is_kept_K, cuts.num_right_K, -1.0)


def score_recall(cuts: Cuts, at_least: float) -> Float64Array:
    """Return how few are given where enough of the true are found; below everything elsewhere."""
    is_kept_K = cuts.num_right_K >= at_least * cuts.num_positive - 1e-9
    return np.where(is_kept_K, -cuts.num_given_K, -np.inf)


def score_cost(cuts: Cuts, missed: float, false_alarm: float) -> Float64Array:
    """Return the negative cost of what is missed and what is given wrongly."""
    num_missed_K, num_wrong_K = cuts.num_positive - cuts.num_right_K, cuts.num_given_K - cuts.num_right_K
    return -(missed * num_missed_K + false_alarm * num_wrong_K)


def score_cardinality(cuts: Cuts) -> Float64Array:
    """Return how near the number of given is to the number of true."""
    return -np.abs(cuts.num_given_K - cuts.num_positive)


def choose_by_score(
    probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray, score: Score, shrink: float = 0.0
) -> Thresholds:
    """Return the thresholds with the largest score of each label.

    A threshold stands half-way between the last probability it lets in and the first it keeps out, so that the
    rounding of another machine decides no image. Without any known positive all are 0.5.

    Shapes: N images, L labels; unknown cells count nowhere.

    Args:
        shrink: how many positives of a label's share of all cells are mixed into its own.

    Raises:
        DataError: shapes that differ, or a known probability that is not in [0, 1].
    """
    # Label by label in memory: a column of a table kept image by image costs ten times as much to read.
    probs_NL, truth_NL, known_NL = check_probs(probs_NL, truth_NL, known_NL)
    probs_NL, truth_NL, known_NL = (
        np.asfortranarray(probs_NL),
        np.asfortranarray(truth_NL),
        np.asfortranarray(known_NL),
    )
    pooled = _pool_cuts(probs_NL, truth_NL, known_NL)
    common, common_source = _best_threshold(pooled, score)
    thresholds_L = np.full(truth_NL.shape[1], common, np.float32)
    sources = [common_source] * truth_NL.shape[1]
    for column in range(truth_NL.shape[1]):
        known_N = known_NL[:, column]
        cuts = _find_cuts(probs_NL[known_N, column], truth_NL[known_N, column])
        if cuts.num_positive >= MIN_POSITIVES and cuts.num_given_K[-1] > cuts.num_positive:
            mixed = _mix(cuts, pooled, shrink) if shrink > 0 else cuts
            thresholds_L[column], source = _best_threshold(mixed, score)
            sources[column] = OWN if source == COMMON else source
    return Thresholds(thresholds_L, tuple(sources), float(common))


def choose_half(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray) -> Thresholds:  # noqa: ARG001 - a Goal
    """Return 0.5 for every label: what a model gives before anything is tuned."""
    return _same_for_all(HALF, truth_NL.shape[1])


def choose_f1_thresholds(
    probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray, shrink: float = 0.0
) -> Thresholds:
    """Return the thresholds with the largest F1 of each label; see `choose_by_score`."""
    return choose_by_score(probs_NL, truth_NL, known_NL, score_f_beta, shrink)


def choose_f_beta(
    probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray, beta: float = 2.0, shrink: float = 0.0
) -> Thresholds:
    """Return the thresholds with the largest F-beta of each label: a recall `beta` times as important as precision."""
    return choose_by_score(probs_NL, truth_NL, known_NL, partial(score_f_beta, beta=beta), shrink)


def choose_precision(
    probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray, at_least: float, shrink: float = PRECISION_SHRINK
) -> Thresholds:
    """Return the thresholds that find most while enough of what they give is right."""
    return choose_by_score(probs_NL, truth_NL, known_NL, partial(score_precision, at_least=at_least), shrink)


def choose_recall(
    probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray, at_least: float, shrink: float = 0.0
) -> Thresholds:
    """Return the thresholds that give least while enough of what is true is found."""
    return choose_by_score(probs_NL, truth_NL, known_NL, partial(score_recall, at_least=at_least), shrink)


def choose_cost(
    probs_NL: FloatArray,
    truth_NL: BoolArray,
    known_NL: BoolArray,
    missed: float = 1.0,
    false_alarm: float = 1.0,
    shrink: float = COST_SHRINK,
) -> Thresholds:
    """Return the thresholds with the lowest cost, given that of a missed label and of a false one."""
    score = partial(score_cost, missed=missed, false_alarm=false_alarm)
    return choose_by_score(probs_NL, truth_NL, known_NL, score, shrink)


def choose_cardinality(
    probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray, shrink: float = 0.0
) -> Thresholds:
    """Return the thresholds that give each label as often as it is true."""
    return choose_by_score(probs_NL, truth_NL, known_NL, score_cardinality, shrink)


def choose_top_k(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray, k: float) -> Thresholds:  # noqa: ARG001 - a Goal
    """Return thresholds of 0 with a limit: the k most probable labels of every image."""
    num_labels = truth_NL.shape[1]
    thresholds = _same_for_all(0.0, num_labels)
    return Thresholds(thresholds.thresholds_L, thresholds.sources, 0.0, at_most=min(int(k), num_labels))


def choose_at_least_one(
    probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray, shrink: float = 0.0
) -> Thresholds:
    """Return the thresholds for F1, and the label nearest to its threshold for an image that reaches none."""
    chosen = choose_f1_thresholds(probs_NL, truth_NL, known_NL, shrink)
    return Thresholds(chosen.thresholds_L, chosen.sources, chosen.global_threshold, at_least=1)


def choose_miss_rate(
    probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray, at_most: float, per: str = "image"
) -> Thresholds:
    """Return thresholds that miss at most a share of the true labels of images to come, on average.

    `per="image"` has one threshold for all labels, and the share is of an image's labels; `per="label"` has one for
    each, and the share is of a label's images. See `manylabel.decisions.conformal`.

    Raises:
        DataError: shapes that differ, or a known probability that is not in [0, 1].
    """
    probs_NL, truth_NL, known_NL = check_probs(probs_NL, truth_NL, known_NL)
    num_labels = truth_NL.shape[1]
    if per == "image":
        threshold = find_miss_rate_threshold(probs_NL, truth_NL, known_NL, at_most)
        chosen = _same_for_all(threshold, num_labels)
        return Thresholds(chosen.thresholds_L, ((COMMON if threshold > 0 else ALWAYS),) * num_labels, threshold)
    thresholds = [
        find_miss_rate_threshold(probs_NL[:, [column]], truth_NL[:, [column]], known_NL[:, [column]], at_most)
        for column in range(num_labels)
    ]
    sources = tuple(OWN if threshold > 0 else ALWAYS for threshold in thresholds)
    return Thresholds(np.array(thresholds, np.float32), sources, 0.0)


def _same_for_all(threshold: float, num_labels: int) -> Thresholds:
    return Thresholds(np.full(num_labels, threshold, np.float32), (COMMON,) * num_labels, threshold)


def _find_cuts(probs_N: FloatArray, truth_N: BoolArray) -> Cuts:
    """Return the cuts between all probabilities that differ.

    A probability and its truth are packed into one whole number: sorting those is several times faster than sorting an
    order of the probabilities, and the numbers of non-negative floats rise as the floats do.
    """
    bits_N = (np.asarray(probs_N, np.float32) + np.float32(0)).view(np.uint32)  # a -0 becomes a 0
    packed_N = np.sort((bits_N << np.uint32(1)) | truth_N)[::-1]
    sorted_N = packed_N >> np.uint32(1)
    # Equal probabilities cannot be parted: only the last of a tie is a place to cut.
    last_K = np.flatnonzero(np.append(sorted_N[1:] != sorted_N[:-1], True)) if len(sorted_N) else np.zeros(0, np.int64)
    num_right_N = np.cumsum(packed_N & np.uint32(1), dtype=np.int64)
    return _build_cuts(sorted_N[last_K], last_K + 1, num_right_N[last_K])


def _pool_cuts(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray) -> Cuts:
    """Return the cuts over all known cells; of very many cells, those that differ by 0.2 % or less count as equal."""
    if probs_NL.size <= _EXACT_CELLS:
        return _find_cuts(probs_NL[known_NL], truth_NL[known_NL])
    num_groups = (_ONE_AS_BITS >> _BITS_DROPPED) + 1
    num_K, num_true_K = np.zeros(num_groups, np.int64), np.zeros(num_groups, np.int64)
    for column in range(probs_NL.shape[1]):
        known_N = known_NL[:, column]
        bits_N = (probs_NL[known_N, column].astype(np.float32) + np.float32(0)).view(np.uint32)
        group_N = (bits_N >> np.uint32(_BITS_DROPPED)).astype(np.int64)
        num_K += np.bincount(group_N, minlength=num_groups)
        num_true_K += np.bincount(group_N[truth_NL[known_N, column]], minlength=num_groups)
    used_K = np.flatnonzero(num_K)[::-1]
    bits_K = (used_K << _BITS_DROPPED).astype(np.uint32)
    return _build_cuts(bits_K, np.cumsum(num_K[used_K]), np.cumsum(num_true_K[used_K]))


def _build_cuts(
    bits_K: npt.NDArray[np.uint32], num_given_K: npt.NDArray[np.integer], num_right_K: npt.NDArray[np.integer]
) -> Cuts:
    lowest_in_K = np.concatenate([np.ones(1, np.float32), bits_K.astype(np.uint32).view(np.float32)])
    given_K = np.concatenate([np.zeros(1), num_given_K])
    right_K = np.concatenate([np.zeros(1), num_right_K])
    return Cuts(lowest_in_K, given_K, right_K, float(right_K[-1]))


def _mix(cuts: Cuts, pooled: Cuts, shrink: float) -> Cuts:
    """Return a label's cuts with `shrink` positives, and what goes with them, from all cells."""
    if pooled.num_positive == 0:
        return cuts
    # The place of each cut among the pooled ones, which stand from the highest to the lowest.
    place_K = np.searchsorted(-pooled.lowest_in_K[1:], -cuts.lowest_in_K, side="right")
    place_K[0] = 0
    share = shrink / pooled.num_positive
    return Cuts(
        cuts.lowest_in_K,
        cuts.num_given_K + share * pooled.num_given_K[place_K],
        cuts.num_right_K + share * pooled.num_right_K[place_K],
        cuts.num_positive + shrink,
    )


def _best_threshold(cuts: Cuts, score: Score) -> tuple[np.float32, str]:
    """Return the threshold with the largest score, of equal ones the highest, and what it stands for."""
    if cuts.num_positive == 0:
        return np.float32(HALF), COMMON
    best = int(np.argmax(score(cuts)))
    lowest_in = cuts.lowest_in_K[best]
    if best == 0:
        return halfway(lowest_in, cuts.lowest_in_K[1]), NEVER
    is_last = best + 1 == len(cuts.lowest_in_K)
    return halfway(lowest_in, np.float32(0) if is_last else cuts.lowest_in_K[best + 1]), COMMON


def _divide(above_K: Float64Array, below_K: Float64Array) -> Float64Array:
    return np.divide(above_K, below_K, out=np.zeros_like(above_K), where=below_K > 0)
