"""Curves: at every threshold the counts are those of deciding with it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from manylabel.evaluation.curves import MAX_POINTS, Curves, trace_curves

ROUND = 2
"""Decimals of the random probabilities: few, so that ties occur."""


def draw(num_images: int, num_labels: int, share_unknown: float = 0.2) -> tuple[npt.NDArray[np.float32], ...]:
    generator = np.random.default_rng(num_images)
    shape = num_images, num_labels
    probs_NL = generator.random(shape).round(ROUND).astype(np.float32)
    thresholds_L = generator.random(num_labels).astype(np.float32)
    return probs_NL, thresholds_L, generator.random(shape) < 0.3, generator.random(shape) >= share_unknown


def count_by_hand(curves: Curves, probs_NL, truth_NL, known_NL) -> None:  # type: ignore[no-untyped-def]
    for column in range(probs_NL.shape[1]):
        points = curves.points_of(column)
        for place in range(points.start, points.stop):
            given_N = (probs_NL[:, column] >= curves.thresholds_P[place]) & known_NL[:, column]
            assert curves.true_positives_P[place] == np.count_nonzero(given_N & truth_NL[:, column])
            assert curves.false_positives_P[place] == np.count_nonzero(given_N & ~truth_NL[:, column])


@pytest.mark.parametrize("num_images", [1, 30, 400], ids=["one image", "every probability", "thinned out"])
def test_the_counts_are_those_of_deciding_with_each_threshold(num_images: int) -> None:
    probs_NL, thresholds_L, truth_NL, known_NL = draw(num_images, 3)
    curves = trace_curves(probs_NL, thresholds_L, truth_NL, known_NL)
    count_by_hand(curves, probs_NL, truth_NL, known_NL)
    assert curves.num_positive_L.tolist() == np.count_nonzero(truth_NL & known_NL, axis=0).tolist()
    assert curves.num_negative_L.tolist() == np.count_nonzero(~truth_NL & known_NL, axis=0).tolist()


def test_thresholds_rise_and_hold_the_ends_the_half_and_the_chosen_one() -> None:
    probs_NL, thresholds_L, truth_NL, known_NL = draw(400, 3)
    curves = trace_curves(probs_NL, thresholds_L, truth_NL, known_NL)
    for column, chosen in enumerate(thresholds_L):
        own = curves.thresholds_P[curves.points_of(column)]
        assert (np.diff(own) > 0).all()
        assert {0.0, 0.5, 1.0, float(chosen)} <= set(own.tolist())
        assert len(own) <= MAX_POINTS + 4


def test_a_rare_label_keeps_a_threshold_at_each_of_its_positives() -> None:
    generator = np.random.default_rng(0)
    probs_N1 = generator.random((20_000, 1)).astype(np.float32)
    truth_N1 = np.zeros(probs_N1.shape, bool)
    truth_N1[:12] = True
    curves = trace_curves(probs_N1, np.array([0.5], np.float32), truth_N1, np.ones_like(truth_N1))
    assert set(probs_N1[:12, 0].tolist()) <= set(curves.thresholds_P.tolist())


def test_a_label_that_is_known_nowhere_has_points_without_counts() -> None:
    probs_NL = np.full((3, 1), 0.7, np.float32)
    nothing_NL = np.zeros((3, 1), bool)
    curves = trace_curves(probs_NL, np.array([0.25], np.float32), nothing_NL, nothing_NL)
    assert curves.thresholds_P.tolist() == [0, 0.25, 0.5, 1]
    assert not curves.true_positives_P.any()
    assert not curves.false_positives_P.any()
