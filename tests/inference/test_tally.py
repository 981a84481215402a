"""What many answers came to, beside the images of training."""

from __future__ import annotations

from manylabel.inference.tally import Tally

BEFORE = {"dog": 0.4, "sun": 0.1}


def count(num_dogs: int, num_suns: int, num_images: int = 200, num_failed: int = 0) -> Tally:
    tally = Tally()
    for number in range(num_images):
        tally.add([name for name, most in (("dog", num_dogs), ("sun", num_suns)) if number < most])
    for _ in range(num_failed):
        tally.add(None)
    return tally


def test_answers_as_in_training_get_one_line() -> None:
    assert count(80, 20, num_failed=3).describe_drift(BEFORE) == [
        "Labels per image: 0.50 here, 0.50 on the validation images."
    ]


def test_a_label_that_is_surely_twice_or_half_as_frequent_is_named_the_largest_change_first() -> None:
    lines = count(10, 70).describe_drift(BEFORE)
    assert lines[1] == (
        "Warning: these images may be of another kind than those of training. Share of the images that get a label "
        "(and of the validation images): dog 5.0% (40.0%), sun 35.0% (10.0%)."
    )
    assert len(count(42, 40).describe_drift(BEFORE)) == 1, "nearly twice and half is within chance"


def test_nothing_is_said_of_few_images_or_without_a_before() -> None:
    assert count(0, 0, 99).describe_drift(BEFORE) == []
    assert count(0, 0, 99, num_failed=50).describe_drift(BEFORE) == []
    assert count(0, 0).describe_drift({}) == []
