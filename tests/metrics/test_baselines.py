from __future__ import annotations

import re

import numpy as np
import pytest

from manylabel.errors import DataError
from manylabel.metrics.baselines import all_negative_baseline, prior_baseline
from manylabel.metrics.summary import summarise

TRUTH_NL = np.array([[True, False, False], [True, True, False], [False, False, False], [True, False, False]])


def test_all_negative_gives_no_label_and_probability_zero() -> None:
    baseline = all_negative_baseline(TRUTH_NL)
    assert baseline.probs_NL.shape == TRUTH_NL.shape
    assert not baseline.probs_NL.any()
    assert not baseline.decisions_NL.any()


def test_all_negative_has_a_low_hamming_loss_and_finds_nothing() -> None:
    baseline = all_negative_baseline(TRUTH_NL)
    summary = summarise(baseline.probs_NL, baseline.decisions_NL, TRUTH_NL)
    # By hand: 4 of 12 cells are true; one of four images has no label; what ranks nothing has the AP of prevalence.
    assert summary["hamming_loss"] == pytest.approx(4 / 12)
    assert summary["subset_accuracy"] == 0.25
    assert summary["recall_micro"] == 0.0
    assert summary["average_precision_macro"] == pytest.approx((3 / 4 + 1 / 4) / 2)


def test_prior_gives_every_image_the_prevalence_of_the_training_part() -> None:
    baseline = prior_baseline(TRUTH_NL, np.array([0.6, 0.3, 0.0]), np.array([0.5, 0.5, 0.5]))
    np.testing.assert_array_equal(baseline.probs_NL, [[0.6, 0.3, 0.0]] * 4)
    np.testing.assert_array_equal(baseline.decisions_NL, [[True, False, False]] * 4)


def test_prior_gives_a_label_whose_prevalence_stands_exactly_on_the_threshold() -> None:
    just_above = np.nextafter(0.3, 1)
    baseline = prior_baseline(TRUTH_NL[:1], np.array([0.3, 0.3, 0.0]), np.array([0.3, just_above, 0.0]))
    assert baseline.decisions_NL.tolist() == [[True, False, True]]


def test_prior_has_no_skill_in_ranking_images() -> None:
    baseline = prior_baseline(TRUTH_NL, np.array([0.6, 0.3, 0.0]), np.array([0.5, 0.5, 0.5]))
    assert summarise(baseline.probs_NL, baseline.decisions_NL, TRUTH_NL)["roc_auc_macro"] == 0.5


@pytest.mark.parametrize(
    ("prevalence", "thresholds", "message"),
    [
        pytest.param(
            [0.5, 0.5],
            [0.5, 0.5, 0.5],
            "prevalence_L: wrong shape, got (2,), expected one value for each of 3 labels.",
            id="a prevalence is missing",
        ),
        pytest.param(
            [0.5, 0.5, 0.5],
            [0.5],
            "thresholds_L: wrong shape, got (1,), expected one value for each of 3 labels.",
            id="thresholds are missing",
        ),
        pytest.param(
            [0.5, float("nan"), 0.5],
            [0.5, 0.5, 0.5],
            "prevalence_L at label column 1: not a share, got nan, expected a number from 0 to 1. Give 0 for a label "
            "that the training part never knows.",
            id="a prevalence that is not known",
        ),
        pytest.param(
            [0.5, 0.5, 12.0],
            [0.5, 0.5, 0.5],
            "prevalence_L at label column 2: not a share, got 12.0, expected a number from 0 to 1. Give 0 for a label "
            "that the training part never knows.",
            id="a count in place of a share",
        ),
        pytest.param(
            [0.5, 0.5, 0.5],
            [0.5, 0.5, float("nan")],
            "thresholds_L at label column 2: not a number, expected a threshold.",
            id="a threshold that would compare with nothing",
        ),
    ],
)
def test_priors_that_do_not_fit_are_refused(prevalence: list[float], thresholds: list[float], message: str) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        prior_baseline(TRUTH_NL, np.array(prevalence), np.array(thresholds))
