"""Expected numbers come from scikit-learn, called with zero_division=NaN on what is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from manylabel.metrics import decisions
from manylabel.metrics.averaging import macro, weighted
from manylabel.metrics.counts import ConfusionCounts, confusion_counts

NAN = float("nan")
METRICS = {
    "precision": (decisions.precision, sklearn_metrics.precision_score),
    "recall": (decisions.recall, sklearn_metrics.recall_score),
    "f1": (decisions.f1, sklearn_metrics.f1_score),
}
SAMPLES = {
    "precision": (decisions.precision_samples, sklearn_metrics.precision_score),
    "recall": (decisions.recall_samples, sklearn_metrics.recall_score),
    "f1": (decisions.f1_samples, sklearn_metrics.f1_score),
}


def assert_equal(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def known_part(case: Any) -> tuple[Any, Any]:
    """Truth and decisions with unknown cells neither true nor given, and one column more so that it is multi-label."""
    known_NL = case.all_known_NL
    truth_NL = np.pad(case.truth_NL & known_NL, ((0, 0), (0, 1)))
    decisions_NL = np.pad(case.decisions_NL & known_NL, ((0, 0), (0, 1)))
    return truth_NL[known_NL.any(axis=1)], decisions_NL[known_NL.any(axis=1)]


@pytest.mark.parametrize("name", METRICS)
def test_values_per_label_are_those_of_scikit_learn(case: Any, name: str) -> None:
    ours, theirs = METRICS[name]
    values_L = ours(confusion_counts(case.decisions_NL, case.truth_NL, case.known_NL))
    for label, value in enumerate(values_L):
        known_N = case.all_known_NL[:, label]
        expected = NAN
        if known_N.any():
            expected = theirs(case.truth_NL[known_N, label], case.decisions_NL[known_N, label], zero_division=NAN)
        assert_equal(value, expected)


@pytest.mark.parametrize("name", METRICS)
def test_micro_averages_are_those_of_scikit_learn_on_all_known_cells(case: Any, name: str) -> None:
    ours, theirs = METRICS[name]
    known_NL = case.all_known_NL
    value = ours(confusion_counts(case.decisions_NL, case.truth_NL, case.known_NL).pooled())[0]
    expected = NAN
    if known_NL.any():
        expected = theirs(case.truth_NL[known_NL], case.decisions_NL[known_NL], zero_division=NAN)
    assert_equal(value, expected)


@pytest.mark.parametrize("name", METRICS)
def test_macro_and_weighted_averages_are_those_of_scikit_learn(case: Any, name: str) -> None:
    ours, theirs = METRICS[name]
    truth_NL, decisions_NL = known_part(case)
    counts = confusion_counts(case.decisions_NL, case.truth_NL, case.known_NL)
    # The column added for scikit-learn is never true and never given, so it has no value and leaves the means alone.
    for value, average in (
        (macro(ours(counts)), "macro"),
        (weighted(ours(counts), counts.num_positive_L), "weighted"),
    ):
        expected = theirs(truth_NL, decisions_NL, average=average, zero_division=NAN) if len(truth_NL) else NAN
        assert_equal(value, expected)


@pytest.mark.parametrize("name", SAMPLES)
def test_means_over_images_are_those_of_scikit_learn(case: Any, name: str) -> None:
    ours, theirs = SAMPLES[name]
    truth_NL, decisions_NL = known_part(case)
    value = ours(case.decisions_NL, case.truth_NL, case.known_NL)
    expected = theirs(truth_NL, decisions_NL, average="samples", zero_division=NAN) if len(truth_NL) else NAN
    assert_equal(value, expected)


def test_jaccard_is_that_of_scikit_learn_on_images_where_it_is_defined(case: Any) -> None:
    truth_NL, decisions_NL = known_part(case)
    # scikit-learn has no NaN for an empty union here, so the images that have one are taken out beforehand.
    is_defined_N = (truth_NL | decisions_NL).any(axis=1)
    value = decisions.jaccard_samples(case.decisions_NL, case.truth_NL, case.known_NL)
    expected = NAN
    if is_defined_N.any():
        expected = sklearn_metrics.jaccard_score(truth_NL[is_defined_N], decisions_NL[is_defined_N], average="samples")
    assert_equal(value, expected)


def test_subset_accuracy_is_that_of_scikit_learn_on_images_with_a_known_cell(case: Any) -> None:
    truth_NL, decisions_NL = known_part(case)
    value = decisions.subset_accuracy(case.decisions_NL, case.truth_NL, case.known_NL)
    expected = sklearn_metrics.accuracy_score(truth_NL, decisions_NL) if len(truth_NL) else NAN
    assert_equal(value, expected)


def test_hamming_loss_is_that_of_scikit_learn_on_known_cells(case: Any) -> None:
    known_NL = case.all_known_NL
    value = decisions.hamming_loss(case.decisions_NL, case.truth_NL, case.known_NL)
    expected = NAN
    if known_NL.any():
        expected = sklearn_metrics.hamming_loss(case.truth_NL[known_NL], case.decisions_NL[known_NL])
    assert_equal(value, expected)


@pytest.mark.parametrize(
    ("counts", "precision", "recall", "f1"),
    [
        pytest.param((0, 0, 0, 9), NAN, NAN, NAN, id="neither true nor given: nothing is defined, F1 is not 1"),
        pytest.param((0, 3, 0, 6), 0.0, NAN, 0.0, id="given but never true: wrong every time"),
        pytest.param((0, 0, 3, 6), NAN, 0.0, 0.0, id="true but never given: nothing found"),
        pytest.param((3, 1, 2, 3), 0.75, 0.6, 2 / 3, id="the plain case"),
    ],
)
def test_a_metric_is_undefined_only_where_its_fraction_is(
    counts: tuple[int, ...], precision: float, recall: float, f1: float
) -> None:
    one_label = ConfusionCounts(*(np.array([count]) for count in counts))
    assert decisions.precision(one_label)[0] == pytest.approx(precision, nan_ok=True)
    assert decisions.recall(one_label)[0] == pytest.approx(recall, nan_ok=True)
    assert decisions.f1(one_label)[0] == pytest.approx(f1, nan_ok=True)


def test_an_image_without_labels_that_is_given_one_counts_with_zero() -> None:
    truth_NL = np.array([[True, False], [False, False]])
    decisions_NL = np.array([[True, False], [False, True]])
    assert decisions.f1_samples(decisions_NL, truth_NL) == 0.5
    assert decisions.jaccard_samples(decisions_NL, truth_NL) == 0.5
    assert decisions.precision_samples(decisions_NL, truth_NL) == 0.5
    assert decisions.recall_samples(decisions_NL, truth_NL) == 1.0
    assert decisions.subset_accuracy(decisions_NL, truth_NL) == 0.5


def test_an_image_without_labels_that_is_given_none_is_right_and_has_no_f1() -> None:
    truth_NL = np.array([[True, False], [False, False]])
    decisions_NL = np.array([[False, False], [False, False]])
    assert decisions.subset_accuracy(decisions_NL, truth_NL) == 0.5
    assert decisions.f1_samples(decisions_NL, truth_NL) == 0.0
    assert np.isnan(decisions.f1_samples(decisions_NL[1:], truth_NL[1:]))


def test_a_wrong_unknown_cell_does_not_spoil_an_image() -> None:
    truth_NL = np.array([[True, False], [True, True]])
    decisions_NL = np.array([[True, True], [False, False]])
    known_NL = np.array([[True, False], [False, False]])
    assert decisions.subset_accuracy(decisions_NL, truth_NL, known_NL) == 1.0
    assert decisions.hamming_loss(decisions_NL, truth_NL, known_NL) == 0.0
