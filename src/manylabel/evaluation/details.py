"""What lies behind the numbers of a report: curves, reliability, pairs of labels, sizes of label sets, worst images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.evaluation.curves import Curves, trace_curves
from manylabel.evaluation.pairs import Pairs, find_pairs
from manylabel.evaluation.reliability import Reliability, measure_reliability
from manylabel.evaluation.worst_images import WorstImages, find_worst_images
from manylabel.labels.targets import BoolArray


@dataclass(frozen=True)
class Details:
    """What a page shows of a report beside its numbers; a few megabytes for 10,000 images and 1,000 labels."""

    curves: Curves
    reliability: Reliability
    pairs: Pairs
    num_true_labels: tuple[int, ...]
    """How many images truly show 0, 1, 2, ... labels; unknown cells do not count."""
    num_given_labels: tuple[int, ...]
    """How many images were given 0, 1, 2, ... labels among those whose truth is known."""
    worst: WorstImages


def collect_details(
    images: Sequence[str],
    probs_NL: npt.NDArray[np.float32],
    decisions_NL: BoolArray,
    thresholds_L: npt.NDArray[np.float32],
    truth_NL: BoolArray,
    known_NL: BoolArray,
) -> Details:
    """Return what lies behind the numbers of these decisions.

    Shapes: N images, L labels.
    """
    return Details(
        trace_curves(probs_NL, thresholds_L, truth_NL, known_NL),
        measure_reliability(probs_NL, truth_NL, known_NL),
        find_pairs(decisions_NL, truth_NL, known_NL),
        _count_sizes(truth_NL & known_NL),
        _count_sizes(decisions_NL & known_NL),
        find_worst_images(images, probs_NL, decisions_NL, truth_NL, known_NL),
    )


def _count_sizes(flags_NL: BoolArray) -> tuple[int, ...]:
    return tuple(int(number) for number in np.bincount(np.count_nonzero(flags_NL, axis=1)))
