"""Reliability: bins, and the intervals of their shares."""

from __future__ import annotations

import numpy as np
import pytest

from manylabel.evaluation.reliability import measure_reliability
from manylabel.metrics.calibration import DEFAULT_NUM_BINS, expected_calibration_error
from manylabel.metrics.intervals import wilson_interval


def test_the_bins_are_those_of_the_calibration_error() -> None:
    generator = np.random.default_rng(0)
    probs_NL = generator.random((500, 4)).round(2)
    truth_NL, known_NL = generator.random((500, 4)) < probs_NL**2, generator.random((500, 4)) < 0.8
    pooled = measure_reliability(probs_NL, truth_NL, known_NL).pooled()
    assert pooled.num_LB.shape == (1, DEFAULT_NUM_BINS)
    gaps = np.abs(pooled.share_LB - pooled.mean_LB) * pooled.num_LB
    error = np.nansum(gaps) / np.count_nonzero(known_NL)
    assert error == pytest.approx(expected_calibration_error(probs_NL, truth_NL, known_NL), abs=1e-12)


def test_each_label_has_its_own_bins_and_a_bin_holds_its_upper_edge() -> None:
    probs_NL = np.array([[0.0, 0.5], [0.5, 0.51], [0.6, 1.0]])
    truth_NL = np.array([[False, True], [True, False], [True, True]])
    known_NL = np.array([[True, True], [True, True], [False, True]])
    found = measure_reliability(probs_NL, truth_NL, known_NL, num_bins=2)
    assert found.num_LB.tolist() == [[2, 0], [1, 2]]
    assert found.num_true_LB.tolist() == [[1, 0], [1, 1]]
    assert found.mean_LB[0, 0] == pytest.approx(0.25)
    assert np.isnan([found.mean_LB[0, 1], found.share_LB[0, 1]]).all()
    assert found.pooled().num_LB.tolist() == [[3, 2]]
    assert found.pooled().mean_LB[0, 1] == pytest.approx((0.51 + 1) / 2)


def test_the_interval_is_that_of_the_textbook() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3: 15 of 148, 0 of 20.
    low, high = wilson_interval(np.array([15, 0]), np.array([148, 20]), 0.95)
    assert low.round(4).tolist() == [0.0624, 0.0]
    assert high.round(4).tolist() == [0.1605, 0.1611]


def test_nothing_seen_has_no_interval() -> None:
    assert np.isnan(wilson_interval(np.array([0]), np.array([0]), 0.9)).all()
