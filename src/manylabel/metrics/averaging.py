"""From one value per label to one number: fractions that may be undefined, and the means that leave those out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from manylabel.errors import DataError, build_message
from manylabel.metrics.inputs import CountArray, FloatArray


def fraction(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return numerator / denominator, NaN wherever the denominator is 0.

    Example:
        >>> fraction([1, 0], [2, 0])
        array([0.5, nan])
    """
    above, below = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    quotient = np.full(below.shape, np.nan)
    np.divide(above, below, out=quotient, where=below != 0)
    return quotient


def macro(values_L: FloatArray) -> float:
    """Return the mean over the labels whose value is defined.

    A label that has no value (NaN) is left out, it does not count as 0.

    Shapes: L labels.

    Returns:
        the mean; NaN when no label has a value.

    Example:
        >>> macro(np.array([1.0, np.nan, 0.5]))
        0.75
    """
    return float(mean_over_labels(np.asarray(values_L)[np.newaxis])[0])


def weighted(values_L: FloatArray, weights_L: CountArray | FloatArray) -> float:
    """Return the weighted mean over the labels whose value is defined; the usual weight is the number of positives.

    When every defined label has weight 0 the weights are ignored, as scikit-learn does.

    Shapes: L labels.

    Returns:
        the mean; NaN when no label has a value.

    Raises:
        DataError: not one weight per label.

    Example:
        >>> weighted(np.array([1.0, np.nan, 0.5]), np.array([3, 9, 1]))
        0.875
    """
    shape = np.shape(values_L)
    if np.shape(weights_L) != shape:
        raise DataError(build_message("weights_L", "wrong shape", got=np.shape(weights_L), expected=f"{shape}"))
    return float(mean_over_labels(np.asarray(values_L)[np.newaxis], np.asarray(weights_L, np.float64)[np.newaxis])[0])


def mean_over_labels(
    values_RL: FloatArray, weights_RL: CountArray | FloatArray | None = None
) -> npt.NDArray[np.float64]:
    """Return `macro`, or `weighted` when weights are given, of each row.

    Shapes: R resamples (see resampling.py), L labels -> R.
    """
    defined_RL = ~np.isnan(values_RL)
    if weights_RL is None:
        shares_RL = defined_RL.astype(np.float64)
    else:
        shares_RL = np.where(defined_RL, weights_RL, 0).astype(np.float64)
        weightless_R = shares_RL.sum(axis=1) == 0
        shares_RL[weightless_R] = defined_RL[weightless_R]
    return fraction((np.where(defined_RL, values_RL, 0) * shares_RL).sum(axis=1), shares_RL.sum(axis=1))
