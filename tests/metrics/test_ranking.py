"""Expected numbers come from scikit-learn, called on what is known of each label, or of each image."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy
from sklearn import metrics as sklearn_metrics
from sklearn.exceptions import UndefinedMetricWarning

from manylabel.errors import DataError
from manylabel.metrics import ranking

NAN = float("nan")


def assert_equal(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def average_precision_by_sklearn(truth: npt.NDArray[Any], scores: npt.NDArray[Any]) -> float:
    return float(sklearn_metrics.average_precision_score(truth, scores)) if truth.any() else NAN


def roc_auc_by_sklearn(truth: npt.NDArray[Any], scores: npt.NDArray[Any]) -> float:
    is_defined = truth.any() and not truth.all()
    return float(sklearn_metrics.roc_auc_score(truth, scores)) if is_defined else NAN


def mean_over_images_by_sklearn(
    metric: Callable[..., float], of_one_label: Callable[[bool], float], case: Any
) -> float:
    """Call scikit-learn on the known labels of each image; it takes no image of one label: worked by hand."""
    if case.known_NL is None and case.truth_NL.shape[1] > 1:
        return metric(case.truth_NL, case.probs_NL)
    values = []
    for probs_L, truth_L, known_L in zip(case.probs_NL, case.truth_NL, case.all_known_NL, strict=True):
        if known_L.sum() == 1:
            values.append(of_one_label(bool(truth_L[known_L][0])))
        elif known_L.any():
            values.append(metric(truth_L[np.newaxis, known_L], probs_L[np.newaxis, known_L]))
    return float(np.mean(values)) if values else NAN


PER_LABEL = {
    "average precision": (ranking.average_precision, average_precision_by_sklearn),
    "area under the ROC curve": (ranking.roc_auc, roc_auc_by_sklearn),
}
PER_IMAGE = {
    "coverage error": (ranking.coverage_error, sklearn_metrics.coverage_error, float),
    "ranking loss": (ranking.ranking_loss, sklearn_metrics.label_ranking_loss, lambda _: 0.0),
    "label ranking average precision": (
        ranking.label_ranking_average_precision,
        sklearn_metrics.label_ranking_average_precision_score,
        lambda _: 1.0,
    ),
}


@pytest.mark.parametrize("name", PER_LABEL)
def test_values_per_label_are_those_of_scikit_learn(case: Any, name: str) -> None:
    ours, theirs = PER_LABEL[name]
    values_L = ours(case.probs_NL, case.truth_NL, case.known_NL)
    expected_L = [
        theirs(case.truth_NL[known_N, label], case.probs_NL[known_N, label])
        for label, known_N in enumerate(case.all_known_NL.T)
    ]
    assert_equal(values_L, expected_L)


def test_micro_average_precision_is_that_of_scikit_learn_on_all_known_cells(case: Any) -> None:
    value = ranking.average_precision_micro(case.probs_NL, case.truth_NL, case.known_NL)
    known_NL = case.all_known_NL
    expected = average_precision_by_sklearn(case.truth_NL[known_NL], case.probs_NL[known_NL])
    assert_equal(value, expected)


@pytest.mark.parametrize("name", PER_IMAGE)
def test_means_over_images_are_those_of_scikit_learn(case: Any, name: str) -> None:
    ours, theirs, of_one_label = PER_IMAGE[name]
    value = ours(case.probs_NL, case.truth_NL, case.known_NL)
    assert_equal(value, mean_over_images_by_sklearn(theirs, of_one_label, case))


@pytest.mark.parametrize("metric", [row[0] for row in PER_IMAGE.values()], ids=list(PER_IMAGE))
def test_more_images_than_one_block_holds_have_the_mean_of_their_halves(metric: Callable[..., float]) -> None:
    generator = np.random.default_rng(0)
    probs_NL = generator.random((30_000, 40)).round(2)
    truth_NL = generator.random((30_000, 40)) < 0.05
    halves = [metric(probs_NL[:15_000], truth_NL[:15_000]), metric(probs_NL[15_000:], truth_NL[15_000:])]
    assert_equal(metric(probs_NL, truth_NL), np.mean(halves))


@settings(deadline=None, max_examples=60)
@given(
    table=st.tuples(st.integers(1, 12), st.integers(2, 5)).flatmap(
        lambda shape: st.tuples(
            hypothesis_numpy.arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
            hypothesis_numpy.arrays(np.bool_, shape),
        )
    )
)
def test_any_small_table_of_ties_agrees_with_scikit_learn(table: tuple[Any, Any]) -> None:
    probs_NL, truth_NL = table
    assert_equal(
        ranking.average_precision(probs_NL, truth_NL),
        [average_precision_by_sklearn(*column) for column in zip(truth_NL.T, probs_NL.T, strict=True)],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        for ours, theirs, _ in PER_IMAGE.values():
            assert_equal(ours(probs_NL, truth_NL), theirs(truth_NL, probs_NL))


@settings(deadline=None, max_examples=60)
@given(
    eighths_NL=hypothesis_numpy.arrays(np.int64, (9, 3), elements=st.integers(0, 8)),
    truth_NL=hypothesis_numpy.arrays(np.bool_, (9, 3)),
)
def test_turning_all_scores_round_turns_the_area_under_the_roc_curve_round(eighths_NL: Any, truth_NL: Any) -> None:
    upwards_L = ranking.roc_auc(eighths_NL / 8, truth_NL)
    downwards_L = ranking.roc_auc(1 - eighths_NL / 8, truth_NL)
    assert_equal(upwards_L, 1 - downwards_L)


@pytest.mark.parametrize("name", [*PER_LABEL, *PER_IMAGE])
def test_only_the_order_of_probabilities_matters(name: str) -> None:
    metric: Callable[..., Any] = {**PER_LABEL, **PER_IMAGE}[name][0]
    generator = np.random.default_rng(1)
    probs_NL = generator.random((40, 6)).round(1)
    truth_NL = generator.random((40, 6)) < 0.3
    np.testing.assert_array_equal(metric(probs_NL, truth_NL), metric(np.sqrt(probs_NL), truth_NL))


def test_single_precision_ties_where_single_precision_ties() -> None:
    probs_NL = np.array([[0.5], [0.5 + 1e-12]])
    truth_NL = np.array([[True], [False]])
    assert ranking.roc_auc(probs_NL, truth_NL).tolist() == [0.0]
    assert ranking.roc_auc(probs_NL.astype(np.float32), truth_NL).tolist() == [0.5]


@pytest.mark.parametrize(
    ("truth", "coverage", "loss", "precision"),
    [
        pytest.param([False, False, False], 0.0, 0.0, 1.0, id="no true label: nothing to find"),
        pytest.param([True, True, True], 3.0, 0.0, 1.0, id="all true: nothing to order"),
        pytest.param([False, False, True], 3.0, 1.0, 1 / 3, id="the true label stands last"),
    ],
)
def test_images_with_nothing_to_rank_have_the_values_of_scikit_learn(
    truth: list[bool], coverage: float, loss: float, precision: float
) -> None:
    probs_NL, truth_NL = np.array([[0.9, 0.5, 0.1]]), np.array([truth])
    assert ranking.coverage_error(probs_NL, truth_NL) == coverage
    assert ranking.ranking_loss(probs_NL, truth_NL) == loss
    assert ranking.label_ranking_average_precision(probs_NL, truth_NL) == pytest.approx(precision)


def test_an_image_with_nothing_known_is_left_out_of_the_mean() -> None:
    probs_NL = np.array([[0.9, 0.5], [NAN, NAN]])
    truth_NL = np.array([[False, True], [True, True]])
    known_NL = np.array([[True, True], [False, False]])
    assert ranking.coverage_error(probs_NL, truth_NL, known_NL) == 2.0
    assert ranking.ranking_loss(probs_NL, truth_NL, known_NL) == 1.0
    assert ranking.label_ranking_average_precision(probs_NL, truth_NL, known_NL) == 0.5


@pytest.mark.parametrize("score_of_unknown", [0.8, 0.0, NAN], ids=["in between", "level with a known one", "NaN"])
def test_an_unknown_label_does_not_stand_between_known_ones(score_of_unknown: float) -> None:
    # The known true label scores 0, the lowest there is, and the unknown one in between or level with it.
    probs_NL = np.array([[0.9, score_of_unknown, 0.0]])
    truth_NL = np.array([[False, False, True]])
    known_NL = np.array([[True, False, True]])
    assert ranking.coverage_error(probs_NL, truth_NL, known_NL) == 2.0


def test_no_images_leave_everything_undefined() -> None:
    nothing = np.zeros((0, 3))
    assert np.isnan(ranking.average_precision(nothing, nothing > 0)).all()
    assert np.isnan(ranking.roc_auc(nothing, nothing > 0)).all()
    assert np.isnan(ranking.average_precision_micro(nothing, nothing > 0))
    assert all(np.isnan(row[0](nothing, nothing > 0)) for row in PER_IMAGE.values())


def test_a_logit_is_refused() -> None:
    message = "probs_NL at image row 0, label column 0: not a probability, got 2.5"
    with pytest.raises(DataError, match=f"^{re.escape(message)}"):
        ranking.average_precision(np.array([[2.5]]), np.array([[True]]))
