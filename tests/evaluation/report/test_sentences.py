"""Sentences: a reader who knows no metric learns how good the model is, and what to be wary of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from manylabel.decisions.calibrate import Calibration
from manylabel.decisions.conformal import Abstention
from manylabel.decisions.policy import DecisionPolicy
from manylabel.decisions.rules import Rule
from manylabel.evaluation.evaluate import Report, evaluate_predictions
from manylabel.evaluation.report.sentences import (
    describe_baselines,
    describe_calibration,
    describe_policy,
    describe_sizes,
    describe_strengths,
    describe_tuning,
    order_by_prevalence,
    summarise_in_words,
    warn,
)
from manylabel.labels.predictions import Predictions

PROBS = [[0.9, 0.4], [0.2, 0.3], [0.8, 0.1], [0.1, 0.2]]
TRUTH = [[1, 1], [0, 1], [0, 0], [0, 0]]


@pytest.fixture
def worked(make_predictions: Callable[..., Predictions]) -> Report:
    # With 0.5 and 0.3: all 3 labels found, 1 wrongly given; images 0, 1 and 3 are right. No label: 2 images are right.
    predictions = make_predictions(PROBS, TRUTH, ["a", "b"])
    policy = DecisionPolicy(predictions.label_space, (0.5, 0.3), goal="f1", chosen_on="data-0")
    return evaluate_predictions(predictions, policy, train_prevalence_L=[0.2, 0.4])


def test_the_summary_says_what_was_found_and_what_guessing_reaches(worked: Report) -> None:
    text = " ".join(summarise_in_words(worked))
    assert "judged on 4 images of the part 'test' with 2 labels" in text
    assert "found 100% of the labels that are there, and 75% of those it gave are right" in text
    assert "right in 75% of the images; giving no label to any would be right in 50%" in text
    # Guessing ranks nothing: the mean of the prevalences 1/4 and 2/4.
    assert (
        "average precision is 1.00 (95% interval 1.00 to 1.00); guessing by how frequent a label is reaches 0.38"
        in text
    )


def test_a_sound_report_has_nothing_to_warn_of(worked: Report) -> None:
    assert warn(worked) == []


def test_tuning_is_told_with_what_it_brought(worked: Report) -> None:
    # F1 of a is 2/3 and of b 1; at 0.5 b is never given.
    assert describe_tuning(worked) == (
        "Thresholds chosen for the best F1 of each label on other images (data data-0). "
        "F1 per label: 0.833 with these thresholds, 0.333 at 0.5."
    )


def test_numbers_on_the_data_of_the_tuning_are_called_flattering(worked: Report) -> None:
    flattered = dataclasses.replace(worked, judged_on_tuning_data=True)
    assert warn(flattered)[0].startswith("These numbers flatter: the thresholds were chosen on these very images.")
    assert "for the best F1 of each label on these very images." in describe_tuning(flattered)


def test_all_that_decides_is_told(make_predictions: Callable[..., Predictions]) -> None:
    predictions = make_predictions(PROBS, TRUTH, ["a", "b"])
    bare = DecisionPolicy(predictions.label_space, (0.5, 0.3))
    assert describe_policy(evaluate_predictions(predictions, bare)) == []
    gain = {"metric": "f1_macro", "at_half": 0.5, "tuned": 0.6, "gain": 0.1, "low": 0.02, "high": 0.2}
    policy = dataclasses.replace(
        bare,
        goal="f1",
        gain={**gain, "is_worth_it": True, "num_images": 40, "num_folds": 5},
        calibration=Calibration("temperature", weights=((0.5, 0.5, 0.0),) * 2),
        rules=(Rule("exclusive", ("a", "b")), Rule("at_most", count=1)),
        abstention=Abstention("margin", 0.1, 0.25),
    )
    assert describe_policy(evaluate_predictions(predictions, policy)) == [
        "When the thresholds were chosen: Worth it: f1_macro rises from 0.500 at 0.5 to 0.600.\n"
        "Cross-fitted on 40 images; the gain is +0.020 to +0.200.",
        "Probabilities are calibrated before they are shown and compared (method: temperature).",
        f"Every answer keeps 2 rules: “{policy.rules[0]}”, “{policy.rules[1]}”.",
        "Images in doubt (by margin) go to a person: 25% of those that the thresholds were chosen on. Their answers "
        "count here like all others.",
    ]


def test_the_source_of_the_prior_is_told(worked: Report) -> None:
    assert "in the training part" in describe_baselines(worked)
    assert "in these very images" in describe_baselines(dataclasses.replace(worked, prior_from="these images"))


@pytest.mark.parametrize(
    ("probs_NL", "truth_NL", "expected"),
    [
        pytest.param(
            [[0.1], [0.9]], [[1], [0]], "The model is not clearly better than guessing by frequency", id="ranks badly"
        ),
        pytest.param([[0.2], [0.1]], [[1], [0]], "The model gave no label to any image", id="gives nothing"),
        pytest.param(
            [[0.9, 0.1]] * 2,
            [[1, 0], [0, 0]],
            "1 of 2 labels cannot be judged in full, for want of a known positive or a known negative: label 1.",
            id="a label without a positive",
        ),
        pytest.param(
            [[0.9, 0.1]] * 2, [[1, 0], [0, None]], "The truth is known for 75% of the cells", id="unknown cells"
        ),
    ],
)
def test_what_takes_from_the_numbers_is_told(
    make_predictions: Callable[..., Predictions], probs_NL: Any, truth_NL: Any, expected: str
) -> None:
    predictions = make_predictions(probs_NL, truth_NL)
    policy = DecisionPolicy(predictions.label_space, (0.5,) * len(predictions.label_space))
    assert any(sentence.startswith(expected) for sentence in warn(evaluate_predictions(predictions, policy)))


def test_skipped_images_are_counted(worked: Report) -> None:
    skipped = dataclasses.replace(worked, skipped={"a.jpg": "cut", "b.jpg": "cut"})
    assert warn(skipped) == ["2 images could not be used and count nowhere."]


def test_unknown_truth_gives_a_sentence_and_no_number(make_predictions: Callable[..., Predictions]) -> None:
    predictions = make_predictions([[0.5]], [[None]])
    report = evaluate_predictions(predictions, DecisionPolicy(predictions.label_space, (0.5,)))
    assert summarise_in_words(report) == ["On 1 image of the part 'test' nobody knows the truth of any of 1 label."]


def test_labels_stand_by_their_share_of_the_known_and_unknown_ones_last(
    make_predictions: Callable[..., Predictions],
) -> None:
    # Shares: 1/4, nothing known, 1/2 (of two known), 2/4.
    truth = [[1, None, 1, 1], [0, None, 0, 1], [0, None, None, 0], [0, None, None, 0]]
    predictions = make_predictions([[0.5] * 4] * 4, truth)
    report = evaluate_predictions(predictions, DecisionPolicy(predictions.label_space, (0.5,) * 4))
    assert order_by_prevalence(report) == [2, 3, 0, 1]


def test_the_labels_it_knows_best_and_worst_are_named(make_report: Callable[..., Report]) -> None:
    report = make_report(num_labels=4, num_images=200)
    ordered = sorted(report.labels, key=lambda row: -row["average_precision"])
    best, worst = ordered[0], ordered[-1]
    text = describe_strengths(report)
    assert text.startswith(f"By average precision it knows {best['label']} ({best['average_precision']:.2f}), ")
    assert f"best and {worst['label']} ({worst['average_precision']:.2f}), " in text
    assert text.endswith("worst, among the 4 labels with at least 5 images.")


def test_labels_with_a_handful_of_images_are_neither_praised_nor_blamed(worked: Report) -> None:
    assert describe_strengths(worked) == ""


def test_label_sets_are_compared_in_size(worked: Report) -> None:
    # In truth 2, 1, 0 and 0 labels; given 2, 1, 1 and 0.
    assert describe_sizes(worked) == (
        "An image truly has 0.75 labels and is given 1.00; 50% of the images truly have none, 25% are given none."
    )


def test_probabilities_are_compared_with_what_comes_true(worked: Report) -> None:
    # The eight probabilities sum to 3.0, three of the eight are true.
    assert describe_calibration(worked).startswith(
        "On the whole the probabilities promise as much as comes true: on average 0.375 for a label on an image, and "
        "0.375 of them are there. The calibration error is "
    )


def test_probabilities_that_promise_too_much_are_told(make_predictions: Callable[..., Predictions]) -> None:
    predictions = make_predictions([[0.9], [0.9]], [[1], [0]])
    report = evaluate_predictions(predictions, DecisionPolicy(predictions.label_space, (0.5,)))
    assert "promise more than comes true: on average 0.900" in describe_calibration(report)
