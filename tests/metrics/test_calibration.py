from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from manylabel.errors import ConfigError
from manylabel.metrics.calibration import brier, expected_calibration_error

NAN = float("nan")


def assert_equal(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_the_gaps_are_those_of_scikit_learns_calibration_curve(case: Any, num_bins: int) -> None:
    known_NL = case.all_known_NL
    probs, truth = case.probs_NL[known_NL], case.truth_NL[known_NL]
    value = expected_calibration_error(case.probs_NL, case.truth_NL, case.known_NL, num_bins)
    if not known_NL.any():
        assert np.isnan(value)
        return
    frequency, mean_prob = calibration_curve(truth, probs, n_bins=num_bins, pos_label=True)
    edges = np.linspace(0, 1, num_bins + 1)
    above = np.concatenate([[-1.0], edges[1:-1]])
    num_cells = np.array([((low < probs) & (probs <= high)).sum() for low, high in zip(above, edges[1:], strict=True)])
    expected = (np.abs(frequency - mean_prob) * num_cells[num_cells > 0]).sum() / len(probs)
    assert_equal(value, expected)


@pytest.mark.parametrize(
    ("probs", "truth", "expected"),
    [
        # Two bins: in one bin the sums are compared, in two bins each alone.
        pytest.param([0.5, 0.75], [True, False], (0.5 + 0.75) / 2, id="an upper edge belongs to the lower bin"),
        pytest.param([0.0, 0.5], [False, True], (1 - 0.5) / 2, id="0 belongs to the first bin"),
        pytest.param([1.0, 0.75], [True, False], (1.75 - 1) / 2, id="1 belongs to the last bin"),
    ],
)
def test_edges_belong_to_the_bin_that_the_docstring_names(
    probs: list[float], truth: list[bool], expected: float
) -> None:
    value = expected_calibration_error(np.array([probs]), np.array([truth]), num_bins=2)
    assert value == pytest.approx(expected)


def test_probabilities_that_come_true_as_often_as_they_say_have_no_error() -> None:
    truth_NL = np.array([[True], [False], [False], [False]])
    assert expected_calibration_error(np.full((4, 1), 0.25), truth_NL) == 0.0


def test_fewer_than_one_bin_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"^num_bins: too few bins, got 0, expected 1 or more\.$"):
        expected_calibration_error(np.array([[0.5]]), np.array([[True]]), num_bins=0)


def test_brier_scores_are_those_of_scikit_learn_on_the_known_images_of_each_label(case: Any) -> None:
    values_L = brier(case.probs_NL, case.truth_NL, case.known_NL)
    for label, value in enumerate(values_L):
        known_N = case.all_known_NL[:, label]
        expected = NAN
        if known_N.any():
            truth_K = case.truth_NL[known_N, label]
            expected = brier_score_loss(truth_K, case.probs_NL[known_N, label], pos_label=True, labels=[False, True])
        assert_equal(value, expected)


def test_single_precision_probabilities_are_scored_in_double_precision() -> None:
    probs_NL = np.full((10, 1), 0.1, np.float32)
    truth_NL = np.zeros((10, 1), np.bool_)
    assert brier(probs_NL, truth_NL)[0] == pytest.approx(float(np.float32(0.1)) ** 2, abs=1e-15)


def test_more_cells_than_one_block_add_up() -> None:
    generator = np.random.default_rng(0)
    probs_NL = generator.random((30_000, 40))
    truth_NL = generator.random((30_000, 40)) < probs_NL**2
    assert_equal(brier(probs_NL, truth_NL), ((probs_NL - truth_NL) ** 2).mean(axis=0))
    pooled = expected_calibration_error(probs_NL.reshape(-1, 1), truth_NL.reshape(-1, 1))
    assert_equal(expected_calibration_error(probs_NL, truth_NL), pooled)


def test_bins_of_equal_mass_hold_equally_many_cells() -> None:
    probs_NL = np.array([[0.01], [0.02], [0.03], [0.04], [0.05], [0.9]])
    truth_NL = np.array([[False], [False], [True], [False], [False], [True]])
    # Three bins of two cells: |0 - 0.03|, |1 - 0.07| and |1 - 0.95|.
    found = expected_calibration_error(probs_NL, truth_NL, num_bins=3, binning="equal_mass")
    assert found == pytest.approx((0.03 + 0.93 + 0.05) / 6)
    with pytest.raises(ConfigError, match=r"^binning: unknown binning 'equal_mas' \(did you mean 'equal_mass'\?\)"):
        expected_calibration_error(probs_NL, truth_NL, binning="equal_mas")
