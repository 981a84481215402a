"""Pairs: what is taken for what, and what comes together."""

from __future__ import annotations

import numpy as np
import pytest

from manylabel.evaluation.pairs import MAX_MATRIX_LABELS, MAX_PAIRS, find_pairs

CAT, DOG, TREE = range(3)

TRUTH = np.array([[1, 0, 1], [1, 0, 0], [0, 1, 1], [0, 1, 0]] * 3, bool)


def swap_cats_for_dogs() -> np.ndarray:
    """Return answers that call the first two cats a dog, and are right of everything else."""
    decisions_NL = TRUTH.copy()
    decisions_NL[:2, [CAT, DOG]] = [False, True]
    return decisions_NL


def test_what_was_taken_for_what_is_counted() -> None:
    pairs = find_pairs(swap_cats_for_dogs(), TRUTH, np.ones_like(TRUTH))
    (swap,) = pairs.swaps
    assert (swap.said, swap.true, swap.num_images, swap.num_missed) == (DOG, CAT, 2, 2)
    # 2 of 12 images are wrongly given dog, 2 of 12 miss cat: by chance both on 1/3 of an image.
    assert swap.times_chance == pytest.approx(6)
    assert pairs.swap_matrix.columns == (CAT, DOG)
    assert pairs.swap_matrix.counts_KK.tolist() == [[0, 0], [2, 0]]
    assert pairs.swap_matrix.totals_K.tolist() == [0, 2]


def test_a_label_that_is_given_to_everything_is_not_taken_for_any() -> None:
    decisions_NL = TRUTH.copy()
    decisions_NL[:, TREE] = True
    decisions_NL[0, CAT] = False
    decisions_NL[1, CAT] = False
    pairs = find_pairs(decisions_NL, TRUTH, np.ones_like(TRUTH))
    assert pairs.swaps == ()


def test_what_comes_together_is_compared_with_chance_in_truth_and_in_answers() -> None:
    truth_NL = np.array([[1, 1], [1, 1], [0, 0], [0, 0]], bool)
    decisions_NL = np.array([[1, 0], [1, 1], [0, 1], [0, 0]], bool)
    (pair,) = find_pairs(decisions_NL, truth_NL, np.ones_like(truth_NL)).companions
    assert (pair.first, pair.second, pair.num_true, pair.num_given) == (0, 1, 2, 1)
    assert pair.true_lift == 2.0  # half of the images show each, half show both
    assert pair.given_lift == 1.0


def test_labels_that_avoid_each_other_are_companions_too() -> None:
    pairs = find_pairs(TRUTH, TRUTH, np.ones_like(TRUTH))
    assert (pairs.companions[0].first, pairs.companions[0].second, pairs.companions[0].true_lift) == (CAT, DOG, 0.0)
    assert pairs.companion_matrix.counts_KK.tolist() == [[6, 0, 3], [0, 6, 3], [3, 3, 6]]


def test_an_unknown_cell_counts_nowhere() -> None:
    known_NL = np.ones_like(TRUTH)
    known_NL[:2, DOG] = False
    assert find_pairs(swap_cats_for_dogs(), TRUTH, known_NL).swaps == ()
    nothing_NL = np.zeros_like(TRUTH)
    empty = find_pairs(TRUTH, TRUTH, nothing_NL)
    assert empty.swaps == empty.companions == empty.swap_matrix.columns == empty.companion_matrix.columns == ()


def test_a_thousand_labels_keep_the_pairs_that_say_most() -> None:
    generator = np.random.default_rng(0)
    truth_NL, decisions_NL = (generator.random((200, 300)) < 0.2 for _ in range(2))
    pairs = find_pairs(decisions_NL, truth_NL, np.ones_like(truth_NL))
    assert len(pairs.swaps) == len(pairs.companions) == MAX_PAIRS
    assert pairs.swap_matrix.counts_KK.shape == (MAX_MATRIX_LABELS, MAX_MATRIX_LABELS)
