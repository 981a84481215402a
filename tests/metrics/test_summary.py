from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from manylabel.errors import DataError
from manylabel.metrics import averaging, calibration, decisions, ranking
from manylabel.metrics.counts import confusion_counts
from manylabel.metrics.summary import SUMMARY_NAMES, summarise, summarise_resamples, summarise_with_intervals

PROBS_NL = np.array([[0.9, 0.4, 0.3, 0.2], [0.6, 0.8, 0.1, 0.3], [0.7, 0.2, 0.5, 0.3]])
TRUTH_NL = np.array([[True, False, True, False], [True, True, False, False], [False, True, True, False]])

# Worked by hand for the three images and four labels above with thresholds of 0.5. The last label is neither true nor
# given anywhere, so it has no precision, recall, F1, average precision or ROC curve.
BY_HAND = {
    "average_precision_macro": (5 / 6 + 5 / 6 + 1) / 3,
    "average_precision_micro": (1 / 1 + 2 / 2 + 3 / 4 + 4 / 5 + 5 / 9 + 6 / 11) / 6,
    "roc_auc_macro": (1 / 2 + 1 / 2 + 1) / 3,
    "f1_macro": (4 / 5 + 2 / 3 + 2 / 3) / 3,
    "f1_micro": 8 / 11,
    "f1_weighted": (2 * 4 / 5 + 2 * 2 / 3 + 2 * 2 / 3) / 6,
    "f1_samples": (2 / 3 + 1 + 1 / 2) / 3,
    "f1_of_means": 2 / (1 / (8 / 9) + 1 / (2 / 3)),
    "precision_macro": (2 / 3 + 1 + 1) / 3,
    "precision_micro": 4 / 5,
    "precision_weighted": (2 * 2 / 3 + 2 * 1 + 2 * 1) / 6,
    "precision_samples": (1 + 1 + 1 / 2) / 3,
    "recall_macro": (1 + 1 / 2 + 1 / 2) / 3,
    "recall_micro": 4 / 6,
    "recall_weighted": (2 * 1 + 2 * 1 / 2 + 2 * 1 / 2) / 6,
    "recall_samples": (1 / 2 + 1 + 1 / 2) / 3,
    "hamming_loss": 3 / 12,
    "subset_accuracy": 1 / 3,
    "jaccard_samples": (1 / 2 + 1 + 1 / 3) / 3,
    "coverage_error": (3 + 2 + 4) / 3,
    "ranking_loss": (1 / 4 + 0 + 3 / 4) / 3,
    "label_ranking_average_precision": ((1 + 2 / 3) / 2 + 1 + (1 / 2 + 2 / 4) / 2) / 3,
    "one_error": 1 / 3,
    "expected_calibration_error": (0.1 + 0.2 + 0.7 + 0.4 + 0.5 + 0.4 + (1 - 0.9) + (1 - 0.4) + 0.1) / 12,
    "brier": (0.66 / 3 + 0.84 / 3 + 0.75 / 3 + 0.22 / 3) / 4,
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[Any, Any, Any, Any]:
    shape = (draw(st.integers(1, 8)), draw(st.integers(1, 5)))
    scores = st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0]) | st.floats(0, 1, width=32)
    return (
        draw(hypothesis_numpy.arrays(np.float64, shape, elements=scores)),
        draw(hypothesis_numpy.arrays(np.bool_, shape)),
        draw(hypothesis_numpy.arrays(np.bool_, shape)),
        draw(hypothesis_numpy.arrays(np.bool_, shape)),
    )


def assert_same(found: dict[str, float], expected: dict[str, float]) -> None:
    for name in SUMMARY_NAMES:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-9, err_msg=name)


def test_the_worked_example_has_the_values_found_by_hand() -> None:
    assert_same(summarise(PROBS_NL, PROBS_NL >= 0.5, TRUTH_NL), BY_HAND)


def test_a_summary_lists_every_name_in_order() -> None:
    assert tuple(summarise(PROBS_NL, PROBS_NL >= 0.5, TRUTH_NL)) == SUMMARY_NAMES
    assert tuple(BY_HAND) == SUMMARY_NAMES


def test_a_summary_holds_what_the_single_metrics_give(case: Any) -> None:
    judged = (case.decisions_NL, case.truth_NL, case.known_NL)
    ranked = (case.probs_NL, case.truth_NL, case.known_NL)
    counts = confusion_counts(*judged)
    expected = {
        "average_precision_macro": averaging.macro(ranking.average_precision(*ranked)),
        "average_precision_micro": ranking.average_precision_micro(*ranked),
        "roc_auc_macro": averaging.macro(ranking.roc_auc(*ranked)),
        "f1_samples": decisions.f1_samples(*judged),
        "precision_samples": decisions.precision_samples(*judged),
        "recall_samples": decisions.recall_samples(*judged),
        "hamming_loss": decisions.hamming_loss(*judged),
        "subset_accuracy": decisions.subset_accuracy(*judged),
        "jaccard_samples": decisions.jaccard_samples(*judged),
        "coverage_error": ranking.coverage_error(*ranked),
        "ranking_loss": ranking.ranking_loss(*ranked),
        "label_ranking_average_precision": ranking.label_ranking_average_precision(*ranked),
        "one_error": ranking.one_error(*ranked),
        "expected_calibration_error": calibration.expected_calibration_error(*ranked),
        "brier": averaging.macro(calibration.brier(*ranked)),
    }
    for name, metric in (("f1", decisions.f1), ("precision", decisions.precision), ("recall", decisions.recall)):
        expected[f"{name}_macro"] = averaging.macro(metric(counts))
        expected[f"{name}_micro"] = float(metric(counts.pooled())[0])
        expected[f"{name}_weighted"] = averaging.weighted(metric(counts), counts.num_positive_L)
    both = np.array([expected["precision_macro"], expected["recall_macro"]])
    expected["f1_of_means"] = float(averaging.fraction(2 * both.prod(), both.sum()))
    assert_same(summarise(case.probs_NL, *judged), expected)


def test_intervals_stand_around_the_values_of_the_plain_summary() -> None:
    plain = summarise(PROBS_NL, PROBS_NL >= 0.5, TRUTH_NL)
    summary = summarise_with_intervals(PROBS_NL, PROBS_NL >= 0.5, TRUTH_NL, num_resamples=50, seed=1)
    assert tuple(summary) == SUMMARY_NAMES
    assert_same({name: entry["value"] for name, entry in summary.items()}, plain)
    assert all(entry["low"] <= entry["value"] <= entry["high"] for entry in summary.values())
    assert all(type(number) is float for entry in summary.values() for number in (entry["low"], entry["high"]))


def test_the_same_seed_gives_the_same_intervals() -> None:
    first = summarise_with_intervals(PROBS_NL, PROBS_NL >= 0.5, TRUTH_NL, seed=4)
    assert first == summarise_with_intervals(PROBS_NL, PROBS_NL >= 0.5, TRUTH_NL, seed=4)
    assert first != summarise_with_intervals(PROBS_NL, PROBS_NL >= 0.5, TRUTH_NL, seed=5)


def test_a_label_that_is_absent_is_left_out_of_the_mean_average_precision() -> None:
    probs_NL = np.array([[0.9, 0.1], [0.2, 0.8]])
    truth_NL = np.array([[True, False], [False, False]])
    assert summarise(probs_NL, probs_NL >= 0.95, truth_NL)["average_precision_macro"] == 1.0


def test_labels_that_are_neither_true_nor_given_lend_no_perfect_f1() -> None:
    truth_NL = np.array([[True, False, False], [True, False, False]])
    decisions_NL = np.array([[True, False, False], [False, False, False]])
    summary = summarise(decisions_NL.astype(np.float64), decisions_NL, truth_NL)
    # One label of precision 1 and recall 1/2; calling the two empty labels perfect would give 8/9.
    assert summary["f1_macro"] == pytest.approx(2 / 3)


def test_images_without_labels_count() -> None:
    probs_NL = np.array([[0.9, 0.1], [0.8, 0.1], [0.7, 0.1]])
    truth_NL = np.array([[True, False], [False, False], [False, False]])
    summary = summarise(probs_NL, probs_NL >= 0.5, truth_NL)
    # Dropping the two images without a label would make all of these perfect.
    assert summary["precision_micro"] == pytest.approx(1 / 3)
    assert summary["f1_samples"] == pytest.approx(1 / 3)
    assert summary["subset_accuracy"] == pytest.approx(1 / 3)
    assert summary["hamming_loss"] == pytest.approx(2 / 6)


@settings(deadline=None, max_examples=40)
@given(table=tables(), data=st.data())
def test_permuting_images_changes_nothing(table: tuple[Any, ...], data: st.DataObject) -> None:
    rows = data.draw(st.permutations(range(len(table[0]))))
    assert_same(summarise(*(array[rows] for array in table)), summarise(*table))


@settings(deadline=None, max_examples=40)
@given(table=tables(), data=st.data())
def test_permuting_labels_changes_no_mean_and_permutes_the_values_per_label(
    table: tuple[Any, ...], data: st.DataObject
) -> None:
    columns = data.draw(st.permutations(range(table[0].shape[1])))
    permuted = tuple(array[:, columns] for array in table)
    assert_same(summarise(*permuted), summarise(*table))
    probs_NL, decisions_NL, truth_NL, known_NL = table
    for metric in (ranking.average_precision, ranking.roc_auc, calibration.brier):
        values_L = metric(probs_NL, truth_NL, known_NL)
        np.testing.assert_allclose(metric(permuted[0], permuted[2], permuted[3]), values_L[columns], rtol=0, atol=1e-9)
    counts = confusion_counts(decisions_NL, truth_NL, known_NL)
    np.testing.assert_array_equal(
        decisions.f1(confusion_counts(permuted[1], permuted[2], permuted[3])), decisions.f1(counts)[columns]
    )


@settings(deadline=None, max_examples=40)
@given(table=tables(), other=st.sampled_from([0.0, 0.5, 1.0, 17.0, float("nan")]))
def test_changing_an_unknown_cell_changes_nothing(table: tuple[Any, ...], other: float) -> None:
    probs_NL, decisions_NL, truth_NL, known_NL = table
    changed = summarise(np.where(known_NL, probs_NL, other), decisions_NL ^ ~known_NL, truth_NL ^ ~known_NL, known_NL)
    assert_same(changed, summarise(*table))


@settings(deadline=None, max_examples=40)
@given(table=tables())
def test_every_value_is_undefined_or_in_its_range(table: tuple[Any, ...]) -> None:
    for name, value in summarise(*table).items():
        most = table[0].shape[1] if name == "coverage_error" else 1
        assert np.isnan(value) or -1e-12 <= value <= most + 1e-12, name


@settings(deadline=None, max_examples=40)
@given(table=tables(), times=st.integers(2, 4))
def test_repeating_all_images_alike_changes_nothing(table: tuple[Any, ...], times: int) -> None:
    assert_same(summarise(*(np.tile(array, (times, 1)) for array in table)), summarise(*table))


def test_no_images_leave_everything_undefined() -> None:
    nothing = np.zeros((0, 3))
    summary = summarise_with_intervals(nothing, nothing > 0, nothing > 0, num_resamples=3)
    assert all(np.isnan([entry["value"], entry["low"], entry["high"]]).all() for entry in summary.values())


@pytest.mark.parametrize(
    ("copies_RN", "message"),
    [
        pytest.param(
            np.ones((2, 4), int),
            "copies_RN: wrong shape, got (2, 4), expected a column for each of 3 images.",
            id="copies of other images",
        ),
        pytest.param(
            np.ones(3, int),
            "copies_RN: wrong shape, got (3,), expected a column for each of 3 images.",
            id="one resample without its axis",
        ),
        pytest.param(
            np.array([[1, -1, 3]]),
            "copies_RN: not counts, expected whole numbers from 0 up.",
            id="a copy below zero",
        ),
        pytest.param(
            np.array([[0.5, 0.5, 2.0]]),
            "copies_RN: not counts, expected whole numbers from 0 up.",
            id="weights",
        ),
    ],
)
def test_copies_that_do_not_fit_are_refused(copies_RN: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        summarise_resamples(PROBS_NL, PROBS_NL >= 0.5, TRUTH_NL, None, copies_RN)


def test_decisions_and_probabilities_given_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(DataError, match=r"^decisions_NL: neither True nor False, got 'float64'"):
        summarise(PROBS_NL >= 0.5, PROBS_NL, TRUTH_NL)  # type: ignore[arg-type]
