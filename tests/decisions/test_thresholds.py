"""Thresholds against a search over every cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from manylabel.decisions import GOALS
from manylabel.decisions.thresholds import MIN_POSITIVES, Thresholds, choose_f1_thresholds, choose_half

# Few distinct values, so that ties are common.
coarse = hnp.arrays(np.float32, (24, 3), elements=st.integers(0, 8).map(lambda number: number / 8))
fine = hnp.arrays(np.float32, (24, 3), elements=st.floats(0, 1, width=32))
truths = hnp.arrays(np.bool_, (24, 3))
masks = hnp.arrays(np.bool_, (24, 3), elements=st.sampled_from([True, True, True, False]))


def f1(truth_N: np.ndarray, decisions_N: np.ndarray) -> float:
    # scikit-learn's f1_score with zero_division=0 is the same number, and far slower.
    num_right = int((truth_N & decisions_N).sum())
    num_wrong = int((truth_N ^ decisions_N).sum())
    return 2 * num_right / (2 * num_right + num_wrong) if num_right else 0.0


def best_f1(probs_N: np.ndarray, truth_N: np.ndarray) -> float:
    """Return the largest F1 over every set of images that some threshold gives the label to."""
    return max((f1(truth_N, probs_N >= cut) for cut in np.unique(probs_N)), default=0.0)


def is_tunable(truth_N: np.ndarray) -> bool:
    return truth_N.sum() >= MIN_POSITIVES and not truth_N.all()


@settings(max_examples=40, deadline=None)
@given(coarse | fine, truths, masks)
def test_no_cut_is_better_and_half_is_never_better(
    probs_NL: np.ndarray, truth_NL: np.ndarray, known_NL: np.ndarray
) -> None:
    chosen = choose_f1_thresholds(probs_NL, truth_NL, known_NL)
    for column in range(3):
        known_N = known_NL[:, column]
        probs_N, truth_N = probs_NL[known_N, column], truth_NL[known_N, column]
        if is_tunable(truth_N):
            assert chosen.sources[column] == "label"
            value = f1(truth_N, probs_N >= chosen.thresholds_L[column])
            assert value == pytest.approx(best_f1(probs_N, truth_N), abs=1e-12)
            assert value >= f1(truth_N, probs_N >= 0.5) - 1e-12
        else:
            assert chosen.sources[column] == "global"
            assert chosen.thresholds_L[column] == np.float32(chosen.global_threshold)
    probs, truth = probs_NL[known_NL], truth_NL[known_NL]
    if truth.any():
        assert f1(truth, probs >= chosen.global_threshold) == pytest.approx(best_f1(probs, truth), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(fine, truths, masks, st.randoms(use_true_random=False))
def test_an_unknown_cell_changes_nothing(
    probs_NL: np.ndarray, truth_NL: np.ndarray, known_NL: np.ndarray, random: st.DrawFn
) -> None:
    other_probs_NL = np.where(known_NL, probs_NL, np.float32(random.random()))  # type: ignore[attr-defined]
    other_truth_NL = np.where(known_NL, truth_NL, ~truth_NL)
    first = choose_f1_thresholds(probs_NL, truth_NL, known_NL)
    second = choose_f1_thresholds(other_probs_NL, other_truth_NL, known_NL)
    np.testing.assert_array_equal(first.thresholds_L, second.thresholds_L)
    assert (first.sources, first.global_threshold) == (second.sources, second.global_threshold)


@settings(max_examples=40, deadline=None)
@given(coarse, truths, st.randoms(use_true_random=False))
def test_the_rounding_of_another_machine_decides_no_image(
    probs_NL: np.ndarray, truth_NL: np.ndarray, random: st.DrawFn
) -> None:
    assume(truth_NL.any())  # else all are 0.5, whatever the probabilities
    thresholds_L = choose_f1_thresholds(probs_NL, truth_NL, np.ones_like(truth_NL)).thresholds_L
    # Distinct values are an eighth apart, so that half-way leaves a sixteenth; only 0 has nothing below it.
    seed = random.randrange(2**32)  # type: ignore[attr-defined]
    noise_NL = np.random.default_rng(seed).uniform(-0.06, 0.06, probs_NL.shape)
    shaken_NL = np.where(probs_NL == 0, probs_NL, probs_NL + noise_NL)
    np.testing.assert_array_equal(shaken_NL >= thresholds_L, probs_NL >= thresholds_L)


def choose(probs_N: list[float], truth_N: list[int]) -> Thresholds:
    truth_NL = np.array(truth_N, bool)[:, None]
    return choose_f1_thresholds(np.array(probs_N, np.float32)[:, None], truth_NL, np.ones_like(truth_NL))


# By hand.
@pytest.mark.parametrize(
    ("probs", "truth", "threshold", "source"),
    [
        pytest.param([0.9, 0.8, 0.7, 0.6, 0.5, 0.1], [1, 1, 1, 1, 1, 0], 0.3, "label", id="half-way across the gap"),
        pytest.param([0.8] * 5 + [0.8, 0.4], [1] * 5 + [0, 0], 0.6, "label", id="a tie is not parted"),
        pytest.param([0.8] * 5 + [0.4] * 5, [0] * 5 + [1] * 5, 0.2, "label", id="the wrong way round: all get it"),
        pytest.param([0.0] * 6, [1] * 5 + [0], 0.0, "label", id="all at 0"),
        pytest.param([0.9, 0.2, 0.4, 0.6, 0.3], [1, 0, 0, 1, 0], 0.5, "global", id="too few positives"),
        pytest.param([0.9, 0.8, 0.7, 0.6, 0.5], [1] * 5, 0.25, "global", id="no negative"),
        pytest.param([0.9, 0.2, 0.3], [0, 0, 0], 0.5, "global", id="no positive at all"),
        pytest.param([], [], 0.5, "global", id="no image"),
    ],
)
def test_the_threshold_is_the_one_worked_by_hand(
    probs: list[float], truth: list[int], threshold: float, source: str
) -> None:
    chosen = choose(probs, truth)
    assert chosen.thresholds_L[0] == pytest.approx(threshold, abs=1e-6)
    assert chosen.sources == (source,)


def test_of_equally_good_cuts_the_highest_is_taken() -> None:
    # F1 at 0.9: 2 * 3 / (3 + 6) = 2/3; at 0.3: 2 * 6 / (12 + 6) = 2/3; in between it is lower.
    probs = [0.9] * 3 + [0.5] * 5 + [0.3] * 4
    truth = [1] * 3 + [0] * 5 + [1] * 3 + [0]
    assert choose(probs, truth).thresholds_L[0] == pytest.approx(0.7)


def test_a_rare_label_gets_the_threshold_that_is_best_for_all_cells_together() -> None:
    probs_NL = np.array([[0.9, 0.6], [0.8, 0.7], [0.7, 0.1], [0.6, 0.2], [0.5, 0.1], [0.2, 0.3]], np.float32)
    truth_NL = np.array([[1, 1], [1, 0], [1, 0], [1, 0], [1, 0], [0, 0]], bool)
    chosen = choose_f1_thresholds(probs_NL, truth_NL, np.ones_like(truth_NL))
    assert chosen.sources == ("label", "global")
    # By hand: the pooled cut above 0.3 gives 6 true and 1 false, F1 12/13.
    assert chosen.thresholds_L[1] == np.float32(chosen.global_threshold) == pytest.approx(0.4)


def test_neighbouring_probabilities_are_still_parted() -> None:
    low = np.float32(0.5)
    high = np.nextafter(low, np.float32(1))
    thresholds_L = choose([float(high)] * 5 + [float(low)] * 5, [1] * 5 + [0] * 5).thresholds_L
    assert low < thresholds_L[0] <= high


def test_half_is_half_for_every_label() -> None:
    chosen = choose_half(np.zeros((0, 3)), np.zeros((0, 3), bool), np.zeros((0, 3), bool))
    assert chosen.thresholds_L.tolist() == [0.5, 0.5, 0.5]
    assert chosen.thresholds_L.dtype == np.float32
    assert chosen.sources == ("global",) * 3


@pytest.mark.parametrize("goal", GOALS)
def test_every_goal_gives_a_threshold_and_a_source_per_label(goal: str) -> None:
    rng = np.random.default_rng(0)
    probs_NL, truth_NL = rng.random((30, 4)).astype(np.float32), rng.random((30, 4)) < 0.4
    chosen = GOALS[goal](probs_NL, truth_NL, np.ones_like(truth_NL))
    assert chosen.thresholds_L.shape == (4,)
    assert chosen.thresholds_L.dtype == np.float32
    assert len(chosen.sources) == 4
