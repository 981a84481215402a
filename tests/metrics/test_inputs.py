from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from manylabel.errors import DataError
from manylabel.metrics.inputs import check_decisions, check_probs

TRUTH_NL = np.array([[True, False], [False, True]])


def probs_with(value: float) -> npt.NDArray[np.float64]:
    probs_NL = np.full((2, 2), 0.5)
    probs_NL[1, 0] = value
    return probs_NL


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(-0.01, id="below 0"),
        pytest.param(1.5, id="a logit"),
        pytest.param(float("nan"), id="NaN"),
        pytest.param(float("inf"), id="infinite"),
    ],
)
def test_a_number_that_is_no_probability_is_refused_with_its_place(value: float) -> None:
    message = (
        f"probs_NL at image row 1, label column 0: not a probability, got {value!r}, expected a number from 0 to 1. "
        "Apply the sigmoid if these are logits."
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        check_probs(probs_with(value), TRUTH_NL, None)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -7.0], ids=["NaN", "infinite", "a logit"])
def test_whatever_stands_in_an_unknown_cell_is_accepted(value: float) -> None:
    known_NL = np.array([[True, True], [False, True]])
    _, truth_NL, _ = check_probs(probs_with(value), np.ones((2, 2), np.bool_), known_NL)
    np.testing.assert_array_equal(truth_NL, known_NL)


def test_the_edges_0_and_1_are_probabilities() -> None:
    probs_NL, _, known_NL = check_probs(np.array([[0.0, 1.0]]), np.array([[True, False]]), None)
    assert probs_NL.tolist() == [[0.0, 1.0]]
    assert known_NL.tolist() == [[True, True]]


@pytest.mark.parametrize(
    ("given", "kept"),
    [(np.float32, np.float32), (np.float64, np.float64), (np.float16, np.float64), (np.int64, np.float64)],
    ids=["float32 as it is", "float64 as it is", "half precision widened", "whole numbers widened"],
)
def test_probabilities_keep_the_precision_in_which_they_tie(given: type[Any], kept: type[Any]) -> None:
    probs_NL, _, _ = check_probs(np.zeros((2, 2), given), TRUTH_NL, None)
    assert probs_NL.dtype == kept


def test_truth_and_decisions_may_be_written_as_0_and_1() -> None:
    decisions_NL, truth_NL, _ = check_decisions(np.array([[1, 0]]), np.array([[0, 1]]), np.array([[1, 0]]))
    assert decisions_NL.tolist() == [[True, False]]
    assert truth_NL.tolist() == [[False, False]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            (np.zeros((2, 3)), TRUTH_NL, None),
            "probs_NL: wrong shape, got (2, 3), expected (2, 2) as truth_NL.",
            id="probabilities of other labels",
        ),
        pytest.param(
            (np.zeros((2, 2)), TRUTH_NL, np.ones((3, 2), np.bool_)),
            "known_NL: wrong shape, got (3, 2), expected (2, 2) as truth_NL.",
            id="known cells of other images",
        ),
        pytest.param(
            (np.zeros(2), TRUTH_NL[0], None),
            "truth_NL: wrong shape, got (2,), expected one row per image, a column per label.",
            id="one label without its axis",
        ),
        pytest.param(
            (np.zeros((2, 2)), TRUTH_NL.astype(np.float64), None),
            "truth_NL: neither True nor False, got 'float64', expected booleans. Say with known_NL which cells are "
            "unknown.",
            id="truth as floats that may hold NaN",
        ),
        pytest.param(
            (np.zeros((2, 2)), np.array([[1, -1], [0, 1]]), None),
            "truth_NL: neither True nor False, got 'int64', expected booleans. Say with known_NL which cells are "
            "unknown.",
            id="truth with -1 for unknown",
        ),
        pytest.param(
            (np.zeros((2, 2)), TRUTH_NL, np.full((2, 2), 0.5)),
            "known_NL: neither True nor False, got 'float64', expected booleans. Give True where the truth is known, "
            "or None when all of it is.",
            id="known cells as floats",
        ),
        pytest.param(
            (np.full((2, 2), "high"), TRUTH_NL, None),
            "probs_NL: not numbers, got '<U4', expected floats from 0 to 1.",
            id="words for probabilities",
        ),
    ],
)
def test_probabilities_and_truth_that_do_not_fit_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        check_probs(*arguments)


@pytest.mark.parametrize(
    ("decisions_NL", "message"),
    [
        pytest.param(
            np.zeros((2, 3), np.bool_),
            "decisions_NL: wrong shape, got (2, 3), expected (2, 2) as truth_NL.",
            id="decisions on other labels",
        ),
        pytest.param(
            np.full((2, 2), 0.7),
            "decisions_NL: neither True nor False, got 'float64', expected booleans. Apply the thresholds if these "
            "are probabilities.",
            id="probabilities in place of decisions",
        ),
        pytest.param(
            np.array([[2, 0], [0, 1]]),
            "decisions_NL: neither True nor False, got 'int64', expected booleans. Apply the thresholds if these are "
            "probabilities.",
            id="counts in place of decisions",
        ),
    ],
)
def test_decisions_that_do_not_fit_are_refused(decisions_NL: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        check_decisions(decisions_NL, TRUTH_NL, None)


def test_a_decision_on_an_unknown_cell_is_forgotten() -> None:
    decisions_NL, _, _ = check_decisions(np.ones((2, 2), np.bool_), TRUTH_NL, TRUTH_NL)
    np.testing.assert_array_equal(decisions_NL, TRUTH_NL)
