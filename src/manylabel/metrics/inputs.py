"""The one place that looks at what a metric is given: shapes, probabilities in [0, 1], True or False elsewhere.

Everything behind these checks may rely on three arrays of one shape with `truth` False wherever it is unknown.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.errors import DataError, build_message

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
CountArray = npt.NDArray[np.integer[Any]]


def check_probs(
    probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray | None
) -> tuple[FloatArray, BoolArray, BoolArray]:
    """Return probabilities, truth and known cells as arrays of one shape, the truth False where it is unknown.

    What stands in an unknown cell is not looked at: NaN is fine there.

    Shapes: N images, L labels.

    Raises:
        DataError: shapes that differ, a probability outside [0, 1] or NaN at a known cell, a truth that is not boolean.

    Example:
        >>> check_probs(np.array([[0.2, 3.0]]), np.array([[False, True]]), None)
        Traceback (most recent call last):
        ...
        manylabel.errors.DataError: probs_NL at image row 0, label column 1: not a probability, got 3.0, expected a \
number from 0 to 1. Apply the sigmoid if these are logits.
    """
    probs_NL = np.asarray(probs_NL)
    if probs_NL.dtype.kind not in "fiub":
        raise DataError(
            build_message("probs_NL", "not numbers", got=str(probs_NL.dtype), expected="floats from 0 to 1")
        )
    if probs_NL.dtype not in (np.float32, np.float64):
        probs_NL = probs_NL.astype(np.float64)
    truth_NL, known_NL = _check_truth(truth_NL, known_NL)
    _check_shape("probs_NL", probs_NL, truth_NL.shape)
    # Written so that NaN counts as outside.
    outside_NL = ~((probs_NL >= 0) & (probs_NL <= 1)) & known_NL
    if outside_NL.any():
        row, column = (int(axis[0]) for axis in np.nonzero(outside_NL))
        raise DataError(
            build_message(
                f"probs_NL at image row {row}, label column {column}",
                "not a probability",
                got=float(probs_NL[row, column]),
                expected="a number from 0 to 1",
                do="Apply the sigmoid if these are logits",
            )
        )
    return probs_NL, truth_NL, known_NL


def check_decisions(
    decisions_NL: BoolArray, truth_NL: BoolArray, known_NL: BoolArray | None
) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Return decisions, truth and known cells as arrays of one shape, decisions and truth False where it is unknown.

    Shapes: N images, L labels.

    Raises:
        DataError: shapes that differ, or values other than True and False (or 1 and 0).

    Example:
        >>> check_decisions(np.array([[0.7]]), np.array([[True]]), None)
        Traceback (most recent call last):
        ...
        manylabel.errors.DataError: decisions_NL: neither True nor False, got 'float64', expected booleans. Apply the \
thresholds if these are probabilities.
    """
    truth_NL, known_NL = _check_truth(truth_NL, known_NL)
    decisions_NL = _as_bool("decisions_NL", decisions_NL, do="Apply the thresholds if these are probabilities")
    _check_shape("decisions_NL", decisions_NL, truth_NL.shape)
    return decisions_NL & known_NL, truth_NL, known_NL


def _check_truth(truth_NL: BoolArray, known_NL: BoolArray | None) -> tuple[BoolArray, BoolArray]:
    truth_NL = _as_bool("truth_NL", truth_NL, do="Say with known_NL which cells are unknown")
    if truth_NL.ndim != 2:
        raise DataError(
            build_message(
                "truth_NL", "wrong shape", got=truth_NL.shape, expected="one row per image, a column per label"
            )
        )
    if known_NL is None:
        return truth_NL, np.broadcast_to(np.True_, truth_NL.shape)
    known_NL = _as_bool("known_NL", known_NL, do="Give True where the truth is known, or None when all of it is")
    _check_shape("known_NL", known_NL, truth_NL.shape)
    return truth_NL & known_NL, known_NL


def _as_bool(name: str, values: BoolArray, do: str) -> BoolArray:
    array = np.asarray(values)
    if array.dtype == np.bool_:
        return array
    if array.dtype.kind in "iu" and bool(((array == 0) | (array == 1)).all()):
        return array.astype(np.bool_)
    raise DataError(build_message(name, "neither True nor False", got=str(array.dtype), expected="booleans", do=do))


def _check_shape(name: str, array: npt.NDArray[Any], expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        raise DataError(build_message(name, "wrong shape", got=array.shape, expected=f"{expected} as truth_NL"))
