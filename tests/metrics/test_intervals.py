from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from manylabel.errors import ConfigError
from manylabel.metrics.intervals import draw_copies, percentile_interval
from manylabel.metrics.summary import SUMMARY_NAMES, summarise, summarise_resamples, summarise_with_intervals

NAN = float("nan")


def test_a_resample_by_copies_scores_as_the_physically_repeated_rows(case: Any) -> None:
    num_images = len(case.truth_NL)
    copies_RN = draw_copies(num_images, num_resamples=5, seed=3)
    resampled = summarise_resamples(case.probs_NL, case.decisions_NL, case.truth_NL, case.known_NL, copies_RN)
    for resample, copies_N in enumerate(copies_RN):
        rows = np.repeat(np.arange(num_images), copies_N)
        known_NL = None if case.known_NL is None else case.known_NL[rows]
        repeated = summarise(case.probs_NL[rows], case.decisions_NL[rows], case.truth_NL[rows], known_NL)
        for name in SUMMARY_NAMES:
            np.testing.assert_allclose(resampled[name][resample], repeated[name], rtol=0, atol=1e-9, err_msg=name)


def test_more_cells_than_one_block_resample_alike() -> None:
    generator = np.random.default_rng(0)
    probs_NL = generator.random((6_000, 5)).round(2)
    truth_NL = generator.random((6_000, 5)) < 0.1
    copies_RN = draw_copies(6_000, num_resamples=180, seed=1)
    resampled = summarise_resamples(probs_NL, probs_NL >= 0.5, truth_NL, None, copies_RN)
    rows = np.repeat(np.arange(6_000), copies_RN[-1])
    repeated = summarise(probs_NL[rows], probs_NL[rows] >= 0.5, truth_NL[rows])
    for name in SUMMARY_NAMES:
        np.testing.assert_allclose(resampled[name][-1], repeated[name], rtol=0, atol=1e-9, err_msg=name)


def test_every_resample_holds_as_many_images_as_the_data() -> None:
    copies_RN = draw_copies(num_images=50, num_resamples=300, seed=0)
    assert copies_RN.shape == (300, 50)
    assert (copies_RN.sum(axis=1) == 50).all()
    # Each image is drawn once on average, with a standard error of 1 / sqrt(300), of which five are allowed.
    np.testing.assert_allclose(copies_RN.mean(axis=0), 1, atol=0.3)
    # The share of images that a resample misses is (1 - 1/50) ** 50.
    assert (copies_RN == 0).mean() == pytest.approx((1 - 1 / 50) ** 50, abs=0.01)


def test_the_same_seed_draws_the_same_resamples_and_another_seed_others() -> None:
    np.testing.assert_array_equal(draw_copies(20, 4, seed=7), draw_copies(20, 4, seed=7))
    assert (draw_copies(20, 4, seed=7) != draw_copies(20, 4, seed=8)).any()


def test_the_interval_of_a_share_has_the_width_that_its_standard_error_gives() -> None:
    generator = np.random.default_rng(0)
    num_images = 1_000
    truth_NL = np.ones((num_images, 1), np.bool_)
    decisions_NL = generator.random((num_images, 1)) < 0.8
    summary = summarise_with_intervals(
        decisions_NL.astype(np.float64), decisions_NL, truth_NL, num_resamples=2_000, confidence=0.9
    )["recall_micro"]
    share = decisions_NL.mean()
    half_width = 1.645 * math.sqrt(share * (1 - share) / num_images)
    assert summary["value"] == pytest.approx(share)
    assert summary["low"] == pytest.approx(share - half_width, abs=0.1 * half_width)
    assert summary["high"] == pytest.approx(share + half_width, abs=0.1 * half_width)


def test_a_wider_confidence_gives_a_wider_interval() -> None:
    values_R = np.random.default_rng(0).random(500)
    low_90, high_90 = percentile_interval(values_R, 0.9)
    low_95, high_95 = percentile_interval(values_R, 0.95)
    assert low_95 < low_90 < high_90 < high_95


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([1.0, 2.0, 3.0], (1.5, 2.5), id="the middle half"),
        pytest.param([NAN, 1.0, NAN, 2.0, 3.0], (1.5, 2.5), id="undefined resamples are left out"),
        pytest.param([4.0], (4.0, 4.0), id="one value"),
        pytest.param([NAN, NAN], (NAN, NAN), id="no resample has a value"),
    ],
)
def test_the_interval_holds_the_middle_of_the_defined_values(
    values: list[float], expected: tuple[float, float]
) -> None:
    np.testing.assert_allclose(percentile_interval(np.array(values), 0.5), expected)


def test_resamples_that_miss_the_only_positive_are_left_out() -> None:
    probs_NL = np.array([[0.9], [0.1], [0.2], [0.3], [0.4]])
    truth_NL = np.array([[True], [False], [False], [False], [False]])
    copies_RN = draw_copies(5, num_resamples=200, seed=0)
    resampled = summarise_resamples(probs_NL, probs_NL >= 0.5, truth_NL, None, copies_RN)
    np.testing.assert_array_equal(np.isnan(resampled["average_precision_macro"]), copies_RN[:, 0] == 0)
    summary = summarise_with_intervals(probs_NL, probs_NL >= 0.5, truth_NL)
    assert summary["average_precision_macro"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_an_undefined_metric_has_no_interval() -> None:
    nothing = np.zeros((5, 2))
    summary = summarise_with_intervals(nothing, nothing > 0, nothing > 0)
    assert all(np.isnan(list(summary["recall_macro"].values())))  # type: ignore[arg-type]
    assert summary["hamming_loss"] == {"value": 0.0, "low": 0.0, "high": 0.0}


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, NAN])
def test_a_confidence_that_is_no_share_is_an_error(confidence: float) -> None:
    expected = rf"^confidence: not a share, got {confidence}, expected a number between 0 and 1, such as 0\.95\.$"
    with pytest.raises(ConfigError, match=expected):
        summarise_with_intervals(np.array([[0.5]]), np.array([[True]]), np.array([[True]]), confidence=confidence)


def test_no_resamples_at_all_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"^num_resamples: too few, got 0, expected 1 or more\.$"):
        draw_copies(5, num_resamples=0)
