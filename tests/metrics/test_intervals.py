from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from manylabel.errors import ConfigError, DataError
from manylabel.metrics.intervals import (
    Spread,
    draw_copies,
    find_interval,
    find_quantile,
    spread_of_mean,
    spread_of_value,
)
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
    spread = Spread(bias=0.01, deviation=0.1)
    low_90, high_90 = find_interval(0.6, spread, 0.9)
    low_95, high_95 = find_interval(0.6, spread, 0.95)
    assert low_95 < low_90 < high_90 < high_95


@pytest.mark.parametrize(
    ("values", "bias", "deviation"),
    [
        pytest.param([1.0, 2.0, 3.0], 0.5, 1.0, id="mean and deviation of three"),
        pytest.param([NAN, 1.0, NAN, 2.0, 3.0], 0.5, 1.0, id="undefined resamples are left out"),
        pytest.param([4.0], 2.5, 0.0, id="one value"),
        pytest.param([NAN, NAN], NAN, NAN, id="no resample has a value"),
    ],
)
def test_the_spread_is_that_of_the_defined_values(values: list[float], bias: float, deviation: float) -> None:
    spread = spread_of_value(1.5, np.array(values))
    np.testing.assert_allclose([spread.bias, spread.deviation], [bias, deviation])


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("degrees", [6, 12, 40, 400])
def test_quantiles_are_those_of_students_distribution(confidence: float, degrees: int) -> None:
    expected = stats.t.ppf((1 + confidence) / 2, degrees)
    assert find_quantile(confidence, degrees) == pytest.approx(expected, rel=0.02)


def test_an_interval_holds_its_value_and_stays_where_the_metric_can_be() -> None:
    assert find_interval(1.0, Spread(0.0, 0.05), 0.9)[1] == 1.0
    assert find_interval(0.0, Spread(0.0, 0.05), 0.9)[0] == 0.0
    low, high = find_interval(0.5, Spread(bias=0.4, deviation=0.01), 0.9)
    assert 0 < low < 0.1
    assert high == 0.5
    low, high = find_interval(2.0, Spread(0.0, 3.0), 0.9, highest=math.inf)
    assert low == 0
    assert high == pytest.approx(2 + 1.645 * 3, rel=1e-3)
    assert find_interval(0.3, Spread(0.0, 0.0), 0.9) == (0.3, 0.3)


def test_a_label_with_one_positive_takes_bias_and_variance_from_those_with_few() -> None:
    generator = np.random.default_rng(0)
    values_L = np.array([0.5, 0.5, 0.5])
    values_RL = 0.5 + np.stack([np.zeros(400), *generator.normal(0.03, 0.1, (2, 400))], axis=1)
    spread = spread_of_mean(values_L, values_RL, np.array([1, 6, 6]))
    # The two with six positives have a bias of 0.03 and a variance of 0.01: the one with one has six times as much.
    assert spread.bias == pytest.approx((6 * 0.03 + 2 * 0.03) / 3, rel=0.2)
    assert spread.deviation == pytest.approx(math.sqrt(6 * 0.01 + 2 * 0.01) / 3, rel=0.15)
    assert spread.degrees_of_freedom == 4
    alone = spread_of_mean(values_L, values_RL, np.array([100, 600, 600]))
    assert alone.bias == pytest.approx(2 * 0.03 / 3, rel=0.2)
    assert alone.deviation == pytest.approx(math.sqrt(2 * 0.01) / 3, rel=0.15)


def test_groups_are_drawn_whole() -> None:
    group_N = np.array([3, 3, 0, 7, 7, 7])
    copies_RN = draw_copies(6, num_resamples=50, seed=0, group_N=group_N)
    assert (copies_RN[:, 0] == copies_RN[:, 1]).all()
    assert (copies_RN[:, 3:] == copies_RN[:, 3:4]).all()
    assert (copies_RN[:, [0, 2, 3]].sum(axis=1) == 3).all()


def test_images_that_only_repeat_each_other_make_wider_intervals_when_said_to_be_groups() -> None:
    generator = np.random.default_rng(0)
    truth_NL = np.repeat(generator.random((60, 2)) < 0.4, 10, axis=0)
    probs_NL = np.repeat(generator.random((60, 2)), 10, axis=0)
    group_N = np.repeat(np.arange(60), 10)
    alone = summarise_with_intervals(probs_NL, probs_NL >= 0.5, truth_NL)["f1_micro"]
    together = summarise_with_intervals(probs_NL, probs_NL >= 0.5, truth_NL, group_N=group_N)["f1_micro"]
    ratio = (together["high"] - together["low"]) / (alone["high"] - alone["low"])
    assert ratio == pytest.approx(math.sqrt(10), rel=0.25)


def test_a_group_for_each_image_is_needed() -> None:
    with pytest.raises(DataError, match=r"^group_N: wrong shape, got \(2,\), expected \(3,\) as the images\.$"):
        draw_copies(3, group_N=np.array([0, 1]))


def test_nine_intervals_of_ten_hold_the_truth_when_some_labels_are_rare() -> None:
    """The small version of benchmarks/coverage.py: 150 data sets, of which 80 % and more are allowed by chance."""
    generator = np.random.default_rng(0)
    prevalence_L = np.geomspace(0.01, 0.2, 12)

    def draw(num_images: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        truth_NL = generator.random((num_images, 12)) < prevalence_L
        logits_NL = generator.normal(size=truth_NL.shape) + 2 * truth_NL - 2
        return 1 / (1 + np.exp(-logits_NL)), truth_NL

    probs_NL, truth_NL = draw(60_000)
    true = summarise(probs_NL, probs_NL >= 0.4, truth_NL)
    names = ("average_precision_macro", "average_precision_micro", "f1_macro", "f1_micro")
    hits = dict.fromkeys(names, 0)
    for seed in range(150):
        probs_NL, truth_NL = draw(300)
        found = summarise_with_intervals(
            probs_NL, probs_NL >= 0.4, truth_NL, num_resamples=60, confidence=0.9, seed=seed
        )
        for name in names:
            hits[name] += found[name]["low"] <= true[name] <= found[name]["high"]
    for name in names:
        assert 0.8 <= hits[name] / 150 <= 0.98, name


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
