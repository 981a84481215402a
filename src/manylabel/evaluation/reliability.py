"""Reliability: of the images with a probability of about 0.7, do seven in ten show the label?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.labels.targets import BoolArray
from manylabel.metrics.averaging import fraction
from manylabel.metrics.calibration import DEFAULT_NUM_BINS
from manylabel.metrics.resampling import split_into_blocks

FloatArray = npt.NDArray[np.float64]
CountArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reliability:
    """Known cells in equally wide bins of their probability, those of the calibration error.

    `mean_LB` is the mean probability and `share_LB` the share that is true, NaN in an empty bin.

    Shapes: L labels (one row for all labels pooled), B bins.
    """

    num_LB: CountArray
    num_true_LB: CountArray
    mean_LB: FloatArray

    @property
    def share_LB(self) -> FloatArray:
        """The share of each bin that is true, NaN in an empty one."""
        return fraction(self.num_true_LB, self.num_LB)

    def pooled(self) -> Reliability:
        """Return the one row of all labels together."""
        num_1B = self.num_LB.sum(axis=0, keepdims=True)
        sums_1B = np.where(self.num_LB > 0, self.mean_LB * self.num_LB, 0).sum(axis=0, keepdims=True)
        return Reliability(num_1B, self.num_true_LB.sum(axis=0, keepdims=True), fraction(sums_1B, num_1B))


def measure_reliability(
    probs_NL: npt.NDArray[np.floating], truth_NL: BoolArray, known_NL: BoolArray, num_bins: int = DEFAULT_NUM_BINS
) -> Reliability:
    """Return how often each label is true by probability; a bin holds its upper edge, the first one also 0.

    Shapes: N images, L labels.

    Example:
        >>> truth_NL = np.array([[True], [False], [True]])
        >>> found = measure_reliability(np.array([[0.9], [0.8], [0.1]]), truth_NL, np.ones_like(truth_NL), num_bins=2)
        >>> found.num_LB.tolist(), found.share_LB.tolist()
        ([[1, 2]], [[1.0, 0.5]])
    """
    num_images, num_labels = probs_NL.shape
    inner_edges = np.linspace(0, 1, num_bins + 1)[1:-1]
    num, num_true, sums = (np.zeros(num_labels * num_bins) for _ in range(3))
    for images in split_into_blocks(num_images, num_labels):
        known_BL = known_NL[images]
        probs = probs_NL[images][known_BL]
        slots = (np.searchsorted(inner_edges, probs_NL[images], side="left") + np.arange(num_labels) * num_bins)[
            known_BL
        ]
        num += np.bincount(slots, minlength=num.size)
        num_true += np.bincount(slots, truth_NL[images][known_BL], minlength=num.size)
        sums += np.bincount(slots, probs, minlength=num.size)
    shape = num_labels, num_bins
    return Reliability(
        num.reshape(shape).astype(np.int64),
        num_true.reshape(shape).astype(np.int64),
        fraction(sums, num).reshape(shape),
    )
