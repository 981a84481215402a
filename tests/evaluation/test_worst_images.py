"""Worst images: the mistakes that are furthest from right, for each label and for all."""

from __future__ import annotations

import numpy as np

from manylabel.evaluation.worst_images import Mistake, WorstImages, find_worst_images

IMAGES = ("a", "b", "c", "d")
PROBS = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.7], [0.6, 0.6]])
TRUTH = np.array([[0, 1], [1, 0], [1, 0], [0, 1]], bool)


def find(known_NL: np.ndarray | None = None, num_each: int = 4) -> WorstImages:
    known = np.ones_like(TRUTH) if known_NL is None else known_NL
    return find_worst_images(IMAGES, PROBS, PROBS >= 0.5, TRUTH, known, num_each)


def name(worst: WorstImages, mistakes: tuple[Mistake, ...]) -> list[tuple[str, float]]:
    return [(worst.images[mistake.place].image, mistake.probability) for mistake in mistakes]


def test_the_least_probable_is_missed_worst_and_the_most_probable_given_worst() -> None:
    worst = find()
    assert name(worst, worst.missed[0]) == [("c", 0.1), ("b", 0.2)]
    assert name(worst, worst.wrongly_given[0]) == [("a", 0.9), ("d", 0.6)]
    assert name(worst, worst.missed[1]) == [("a", 0.1)]
    assert name(worst, worst.wrongly_given[1]) == [("b", 0.8), ("c", 0.7)]


def test_an_image_carries_what_it_shows_and_what_it_was_given() -> None:
    (shown,) = [shown for shown in find().images if shown.image == "a"]
    assert (shown.true, shown.given) == ((1,), (0,))


def test_only_so_many_are_kept_and_unknown_cells_are_no_mistakes() -> None:
    assert [len(mistakes) for mistakes in find(num_each=1).wrongly_given] == [1, 1]
    nothing = find(np.zeros_like(TRUTH))
    assert nothing == WorstImages((), ((), ()), ((), ()))


def test_an_image_that_is_the_worst_of_several_labels_stands_once_and_leaves_room_for_others() -> None:
    probs_NL = np.array([[0.9, 0.8, 0.6], [0.6, 0.7, 0.7], [0.1, 0.1, 0.1]])
    nothing, everything = np.zeros((3, 3), bool), np.ones((3, 3), bool)
    given = find_worst_images(IMAGES[:3], probs_NL, probs_NL >= 0.5, nothing, everything)
    assert [(label, given.images[m.place].image) for label, _, m in given.overall(2)] == [(0, "a"), (2, "b")]
    missed = find_worst_images(IMAGES[:3], 1 - probs_NL, probs_NL < 0.5, everything, everything)
    assert [(label, missed.images[m.place].image) for label, _, m in missed.overall(2)] == [(0, "a"), (2, "b")]


def test_the_worst_of_all_name_an_image_and_a_label_once() -> None:
    worst = find()
    overall = [(label, is_missed, worst.images[mistake.place].image) for label, is_missed, mistake in worst.overall(5)]
    assert overall == [(0, False, "a"), (1, False, "b"), (0, True, "c")]  # label 1 misses a too, which stands above
