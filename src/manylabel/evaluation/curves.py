"""What every threshold would do: right and wrong decisions of each label at about a hundred thresholds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.decisions.thresholds import HALF
from manylabel.labels.targets import BoolArray

Float32Array = npt.NDArray[np.float32]
CountArray = npt.NDArray[np.int64]

MAX_POINTS = 96
"""About how many thresholds a label gets; with fewer known images, every probability is one."""


@dataclass(frozen=True)
class Curves:
    """How many images each label would be given to, rightly and wrongly, by threshold.

    The points of all labels stand one after another: those of label l are `starts_L1[l]` up to `starts_L1[l + 1]`, with
    rising thresholds. 0, 0.5, 1 and the threshold of the policy are always among them. The counts are exact.

    Shapes: L labels, P points.
    """

    starts_L1: CountArray
    thresholds_P: Float32Array
    true_positives_P: CountArray
    false_positives_P: CountArray
    num_positive_L: CountArray
    num_negative_L: CountArray

    def points_of(self, column: int) -> slice:
        """Return where the points of a label stand."""
        return slice(int(self.starts_L1[column]), int(self.starts_L1[column + 1]))


def trace_curves(
    probs_NL: Float32Array, thresholds_L: Float32Array, truth_NL: BoolArray, known_NL: BoolArray
) -> Curves:
    """Return the counts of every label at thresholds that follow its own probabilities; unknown cells count nowhere.

    Shapes: N images, L labels.

    Example:
        >>> probs_NL = np.array([[0.9], [0.4], [0.2]], np.float32)
        >>> truth_NL = np.array([[True], [True], [False]])
        >>> curves = trace_curves(probs_NL, np.array([0.3], np.float32), truth_NL, np.ones_like(truth_NL))
        >>> [round(float(threshold), 2) for threshold in curves.thresholds_P]
        [0.0, 0.2, 0.3, 0.4, 0.5, 0.9, 1.0]
        >>> curves.true_positives_P.tolist(), curves.false_positives_P.tolist()
        ([2, 2, 2, 2, 1, 1, 0], [1, 1, 0, 0, 0, 0, 0])
    """
    points = [
        _trace(probs_NL[known_N, column], truth_NL[known_N, column], thresholds_L[column])
        for column, known_N in enumerate(known_NL.T)
    ]
    num_positive_L = np.count_nonzero(truth_NL & known_NL, axis=0)
    return Curves(
        np.cumsum([0, *(len(thresholds) for thresholds, _, _ in points)]),
        np.concatenate([thresholds for thresholds, _, _ in points]),
        np.concatenate([found for _, found, _ in points]),
        np.concatenate([wrong for _, _, wrong in points]),
        num_positive_L,
        np.count_nonzero(known_NL, axis=0) - num_positive_L,
    )


def _trace(
    probs_K: Float32Array, truth_K: BoolArray, threshold: np.float32
) -> tuple[Float32Array, CountArray, CountArray]:
    """Return thresholds, true positives and false positives of one label's K known images."""
    rising_K, positives = np.sort(probs_K), np.sort(probs_K[truth_K])
    always = np.array([0, HALF, 1, threshold], np.float32)
    thresholds = np.unique(np.concatenate([_thin_out(rising_K, positives), always]))
    found = len(positives) - np.searchsorted(positives, thresholds, side="left")
    given = len(rising_K) - np.searchsorted(rising_K, thresholds, side="left")
    return thresholds, found.astype(np.int64), (given - found).astype(np.int64)


def _thin_out(rising_K: Float32Array, positives: Float32Array) -> Float32Array:
    """Return some of the probabilities: half dense where few images lie above, half evenly spread over positives."""
    if len(rising_K) <= MAX_POINTS:
        return rising_K
    ranks = np.geomspace(1, len(rising_K), MAX_POINTS // 2).round().astype(np.int64)
    places = np.linspace(0, max(0, len(positives) - 1), min(len(positives), MAX_POINTS // 2)).round().astype(np.int64)
    return np.concatenate([rising_K[-ranks], positives[places]])
