from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from manylabel.errors import DataError
from manylabel.metrics.counts import ConfusionCounts, confusion_counts


def test_counts_are_those_of_scikit_learn_on_the_known_images_of_each_label(case: Any) -> None:
    counts = confusion_counts(case.decisions_NL, case.truth_NL, case.known_NL)
    for label in range(case.truth_NL.shape[1]):
        known_N = case.all_known_NL[:, label]
        expected = np.zeros((2, 2), int)
        if known_N.any():
            expected = confusion_matrix(
                case.truth_NL[known_N, label], case.decisions_NL[known_N, label], labels=[False, True]
            )
        found = [
            [counts.true_negatives_L[label], counts.false_positives_L[label]],
            [counts.false_negatives_L[label], counts.true_positives_L[label]],
        ]
        np.testing.assert_array_equal(found, expected)
        assert counts.num_known_L[label] == known_N.sum()
        assert counts.num_positive_L[label] == case.truth_NL[known_N, label].sum()


def test_counts_are_whole_numbers() -> None:
    counts = confusion_counts(np.array([[True]]), np.array([[True]]))
    assert counts.true_positives_L.dtype == np.int64
    assert counts.num_known_L.dtype == np.int64


def test_pooled_counts_are_the_sums_over_labels() -> None:
    counts = ConfusionCounts(np.array([1, 2]), np.array([3, 4]), np.array([5, 6]), np.array([7, 8]))
    pooled = counts.pooled()
    assert pooled.true_positives_L.tolist() == [3]
    assert pooled.false_positives_L.tolist() == [7]
    assert pooled.false_negatives_L.tolist() == [11]
    assert pooled.true_negatives_L.tolist() == [15]
    assert pooled.num_known_L.tolist() == [36]
    assert pooled.num_positive_L.tolist() == [14]


def test_no_images_give_counts_of_zero() -> None:
    nothing = np.zeros((0, 3), np.bool_)
    assert confusion_counts(nothing, nothing).num_known_L.tolist() == [0, 0, 0]


def test_counts_of_different_labels_are_refused() -> None:
    message = "false_negatives_L: wrong shape, got (1,), expected (2,)."
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        ConfusionCounts(np.array([1, 2]), np.array([3, 4]), np.array([5]), np.array([7, 8]))


def test_a_count_below_zero_is_refused() -> None:
    with pytest.raises(DataError, match=r"^false_positives_L: a count below zero, got -1\.$"):
        ConfusionCounts(np.array([1]), np.array([-1]), np.array([5]), np.array([7]))
