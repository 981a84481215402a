"""What other decisions bring on the same images: each figure before and after, and an interval of the difference.

Every figure here is made of sums over images, so that a resample is a matrix product. Images of one group are drawn
together; very many images or groups are first added up in lots, put together at random, which are then drawn as wholes.

Source: of the intervals, Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13, on pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.metrics import decisions
from manylabel.metrics.averaging import fraction, mean_over_labels
from manylabel.metrics.counts import ConfusionCounts, confusion_counts_per_image
from manylabel.metrics.intervals import DEFAULT_CONFIDENCE, draw_copies, find_interval, spread_of_value

BoolArray = npt.NDArray[np.bool_]
Float64Array = npt.NDArray[np.float64]

FEWER_IS_BETTER = frozenset({"cost_per_image", "count_error", "hamming_loss"})
NEITHER_IS_BETTER = frozenset({"labels_per_image"})
"""The figures of which less is better, and those of which neither more nor less is."""

_NUM_RESAMPLES = 1000
_MOST_GROUPS = 4096


@dataclass(frozen=True)
class Figure:
    """A figure before and after; `gain` is positive where after is better, `low` and `high` are its 95 % interval."""

    before: float
    after: float
    gain: float
    low: float
    high: float

    @property
    def is_better(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low > 0


def compare_decisions(
    before_NL: BoolArray,
    after_NL: BoolArray,
    truth_NL: BoolArray,
    known_NL: BoolArray,
    settings: Mapping[str, float | str],
    group_N: npt.NDArray[np.integer] | None = None,
) -> dict[str, Figure]:
    """Return each figure for two decisions about the same images, with a paired bootstrap interval of the gain.

    Shapes: N images, L labels.

    Args:
        settings: `beta` of `f_beta_macro`, `missed` and `false_alarm` of `cost_per_image`, where a goal has them.
        group_N: a number for the group of each image; whole groups are drawn. None draws single images.
    """
    lots = _divide_into_lots(len(truth_NL), group_N)
    sums = [_sum_lots(decided_NL, truth_NL, known_NL, lots) for decided_NL in (before_NL, after_NL)]
    num_groups = len(sums[0].hits_GL)
    copies_RG = np.concatenate([np.ones((1, num_groups), np.uint16), draw_copies(num_groups, _NUM_RESAMPLES)])
    copies_RG = copies_RG.astype(np.float64)
    before, after = (_measure(one, copies_RG, settings) for one in sums)
    return {name: _compare(name, before[name], after[name]) for name in before}


def describe_promise(name: str, promise: str, settings: Mapping[str, float | str]) -> tuple[str, float]:
    """Return the figure that a goal promises something of, and how large it is to be.

    Example:
        >>> describe_promise("miss_rate", "recall_samples", {"at_most": 0.1, "per": "label"})
        ('recall_macro', 0.9)
    """
    if name == "miss_rate":
        metric = "recall_macro" if settings.get("per") == "label" else promise
        return metric, 1 - float(settings["at_most"])
    return promise, float(settings["at_least"])


def _compare(name: str, before_R: Float64Array, after_R: Float64Array) -> Figure:
    gains_R = before_R - after_R if name in FEWER_IS_BETTER else after_R - before_R
    gain = float(gains_R[0])
    spread = spread_of_value(gain, gains_R[1:])
    low, high = find_interval(gain, spread, DEFAULT_CONFIDENCE, -math.inf, math.inf)
    return Figure(float(before_R[0]), float(after_R[0]), gain, low, high)


@dataclass(frozen=True)
class _Sums:
    """Sums over the images of each group.

    Shapes: G groups, L labels.
    """

    hits_GL: Float64Array
    given_GL: Float64Array
    true_GL: Float64Array
    known_GL: Float64Array
    images_GK: Float64Array
    """Per image: is it known, is all right, how far is the count off, its F1 and recall, and whether it has those."""


def _divide_into_lots(num_images: int, group_N: npt.NDArray[np.integer] | None) -> list[npt.NDArray[np.int64]] | None:
    """Return the rows of images that are drawn together; None where each is drawn alone."""
    if group_N is None and num_images <= _MOST_GROUPS:
        return None
    _, unit_N = (None, np.arange(num_images)) if group_N is None else np.unique(group_N, return_inverse=True)
    num_units = int(unit_N.max()) + 1
    lot_U = np.random.default_rng(0).permutation(num_units) * min(_MOST_GROUPS, num_units) // num_units
    lot_N = lot_U[unit_N]
    rows = np.argsort(lot_N, kind="stable")
    return np.split(rows, np.flatnonzero(np.diff(lot_N[rows])) + 1)


def _sum_lots(
    decided_NL: BoolArray, truth_NL: BoolArray, known_NL: BoolArray, lots: list[npt.NDArray[np.int64]] | None
) -> _Sums:
    decided_NL, truth_NL = decided_NL & known_NL, truth_NL & known_NL
    per_image = confusion_counts_per_image(decided_NL, truth_NL, known_NL)
    f1_N, recall_N = decisions.f1(per_image), decisions.recall(per_image)
    given_N = per_image.true_positives_L + per_image.false_positives_L
    columns = [
        per_image.num_known_L > 0,
        np.nan_to_num(decisions.all_right(per_image)),
        np.abs(given_N - per_image.num_positive_L),
        np.nan_to_num(f1_N),
        ~np.isnan(f1_N),
        np.nan_to_num(recall_N),
        ~np.isnan(recall_N),
    ]
    images_NK = np.stack([np.asarray(column, np.float64) for column in columns], axis=1)
    tables = (decided_NL & truth_NL, decided_NL, truth_NL, known_NL, images_NK)
    return _Sums(*(_add_up(table, lots) for table in tables))


def _add_up(table_NK: npt.NDArray[np.generic], lots: list[npt.NDArray[np.int64]] | None) -> Float64Array:
    """Return the sums of lots of images, or the table itself."""
    if lots is None:
        return table_NK.astype(np.float64)
    return np.stack([np.add.reduce(table_NK[rows], axis=0, dtype=np.float64) for rows in lots])


def _measure(sums: _Sums, copies_RG: Float64Array, settings: Mapping[str, float | str]) -> dict[str, Float64Array]:
    tables = (sums.hits_GL, sums.given_GL, sums.true_GL, sums.known_GL)
    hits_RL, given_RL, true_RL, known_RL = ((copies_RG @ table_GL).astype(np.int64) for table_GL in tables)
    counts = ConfusionCounts(hits_RL, given_RL - hits_RL, true_RL - hits_RL, known_RL - given_RL - true_RL + hits_RL)
    pooled = counts.pooled()
    num_images_R, right_R, off_R, f1_R, num_f1_R, recall_R, num_recall_R = (copies_RG @ sums.images_GK).T
    missed_R, wrong_R = pooled.false_negatives_L[:, 0], pooled.false_positives_L[:, 0]
    cost_R = float(settings.get("missed", 1)) * missed_R + float(settings.get("false_alarm", 1)) * wrong_R
    return {
        "f1_macro": mean_over_labels(decisions.f1(counts)),
        "f_beta_macro": mean_over_labels(_f_beta(counts, float(settings.get("beta", 2)))),
        "f1_micro": decisions.f1(pooled)[:, 0],
        "f1_samples": fraction(f1_R, num_f1_R),
        "precision_macro": mean_over_labels(decisions.precision(counts)),
        "recall_macro": mean_over_labels(decisions.recall(counts)),
        "precision_micro": decisions.precision(pooled)[:, 0],
        "recall_micro": decisions.recall(pooled)[:, 0],
        "recall_samples": fraction(recall_R, num_recall_R),
        "subset_accuracy": fraction(right_R, num_images_R),
        "hamming_loss": decisions.share_wrong(pooled)[:, 0],
        "count_error": fraction(off_R, num_images_R),
        "cost_per_image": fraction(cost_R, num_images_R),
        "labels_per_image": fraction(given_RL.sum(axis=1), num_images_R),
    }


def _f_beta(counts: ConfusionCounts, beta: float) -> Float64Array:
    weight = beta * beta
    hits = (1 + weight) * counts.true_positives_L
    return fraction(hits, hits + weight * counts.false_negatives_L + counts.false_positives_L)
