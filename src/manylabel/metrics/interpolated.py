"""Average precision as other benchmarks count it: interpolated, which is never below the step-wise one.

At every recall the precision is replaced by the best that is reached at this recall or above. Pascal VOC then takes the
area (from 2010 on) or the mean over 11 recalls (until 2009), COCO the mean over 101 recalls. A figure of a paper can
only be compared with the same count; our own `average_precision` does not interpolate, as scikit-learn's.

Source: Everingham et al., "The Pascal visual object classes (VOC) challenge", 2010, section 4.2, and its development
kits of 2007 and 2012; Lin et al., "Microsoft COCO", 2014, with the evaluation code of its authors. There a list ranks
detections; here it ranks images, and equal scores are one step.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from manylabel.errors import ConfigError, build_message, join_names, suggest_name
from manylabel.metrics.image_order import rank_images
from manylabel.metrics.inputs import BoolArray, FloatArray, check_probs

_RECALLS = {"voc_2007": np.linspace(0, 1, 11), "coco": np.linspace(0, 1, 101)}
COUNTS = ("voc_2007", "voc_2010", "coco")
"""11 recalls, the whole area, 101 recalls."""

_ROUNDING = 1e-12
"""A recall of 3/10 and the grid's 0.3 are the same number, whatever their last bit says."""


def interpolated_average_precision(
    probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray | None = None, count: str = "voc_2010"
) -> npt.NDArray[np.float64]:
    """Return for each label the average precision as Pascal VOC or COCO count it; `macro` of it is their mAP.

    Shapes: N images, L labels -> L.

    Args:
        probs_NL: probabilities; only their order matters.
        truth_NL: True where the image shows the label.
        known_NL: False where nobody knows; such cells never count. None when all are known.
        count: `voc_2007` (11 recalls), `voc_2010` (the whole area) or `coco` (101 recalls).

    Returns:
        a number in (0, 1] per label; NaN for a label without a positive.

    Raises:
        DataError: shapes that differ, a probability outside [0, 1] or NaN at a known cell.
        ConfigError: no such count.

    Example:
        >>> probs_NL, truth_NL = np.array([[0.9], [0.8], [0.7]]), np.array([[True], [False], [True]])
        >>> [float(interpolated_average_precision(probs_NL, truth_NL, count=count).round(4)[0]) for count in COUNTS]
        [0.8485, 0.8333, 0.835]
    """
    if count not in COUNTS:
        raise ConfigError(
            build_message("count", f"unknown count {count!r}{suggest_name(count, COUNTS)}", expected=join_names(COUNTS))
        )
    probs_NL, truth_NL, known_NL = check_probs(probs_NL, truth_NL, known_NL)
    values_L = np.full(probs_NL.shape[1], np.nan)
    for label in range(len(values_L)):
        recall_P, precision_P = _find_best_precision(probs_NL[:, [label]], truth_NL[:, [label]], known_NL[:, [label]])
        if len(recall_P) == 0:
            continue
        if count == "voc_2010":
            values_L[label] = (np.diff(recall_P, prepend=0) * precision_P).sum()
        else:
            places = np.searchsorted(recall_P, _RECALLS[count] - _ROUNDING)
            values_L[label] = precision_P[places].mean()
    return values_L


def _find_best_precision(
    probs_N1: FloatArray, truth_N1: BoolArray, known_N1: BoolArray
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return each recall that is reached, ascending, and the best precision at this recall or above.

    Positives of one score are reached together, so that the recalls below the last of them have its precision.
    """
    order = rank_images(probs_N1, truth_N1, known_N1)
    num_positive = len(order.positive_image_P)
    found_P = (num_positive - order.low_of_positives_P)[::-1]
    precision_P = found_P / (len(order.image_K) - order.low_of_all_P)[::-1]
    best_P = np.maximum.accumulate(precision_P[::-1])[::-1]
    return found_P / max(1, num_positive), best_P
