"""Reports: every number equals scikit-learn's or one worked by hand, and each says where it comes from."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk

from manylabel.decisions.policy import DecisionPolicy
from manylabel.errors import ConfigError, DataError
from manylabel.evaluation.evaluate import DECISION_NAMES, Report, evaluate_predictions
from manylabel.labels.predictions import Predictions
from manylabel.labels.space import LabelSpace

INTERFACE_NAMES = {
    "average_precision_macro",
    "average_precision_micro",
    "roc_auc_macro",
    "f1_of_means",
    "one_error",
    *(f"{kind}_{mean}" for kind in ("f1", "precision", "recall") for mean in ("macro", "micro", "weighted", "samples")),
    "hamming_loss",
    "subset_accuracy",
    "jaccard_samples",
    "coverage_error",
    "ranking_loss",
    "label_ranking_average_precision",
    "expected_calibration_error",
    "brier",
}

LABEL_ROW_KEYS = [
    "label",
    "num_known",
    "num_positive",
    "threshold",
    "average_precision",
    "roc_auc",
    "precision",
    "recall",
    "f1",
    "true_positives",
    "false_positives",
    "false_negatives",
    "true_negatives",
    "precision_low",
    "precision_high",
    "recall_low",
    "recall_high",
    "f1_low",
    "f1_high",
]


def build_policy(predictions: Predictions, *thresholds: float, chosen_on: str = "data-0") -> DecisionPolicy:
    return DecisionPolicy(predictions.label_space, thresholds, goal="f1", chosen_on=chosen_on)


# Three images, four labels, worked by hand. Thresholds 0.5, 0.3, 0.5, 0.5:
#            a           b           c           d (nobody has it)
# image 0    0.9 there   0.4 there   0.6         0.1
# image 1    0.2         0.3 there   0.7 there   0.2
# image 2    0.8         0.1         unknown     0.3
PROBS = [[0.9, 0.4, 0.6, 0.1], [0.2, 0.3, 0.7, 0.2], [0.8, 0.1, 0.9, 0.3]]
TRUTH = [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, None, 0]]


@pytest.fixture
def worked(make_predictions: Callable[..., Predictions]) -> Report:
    predictions = make_predictions(PROBS, TRUTH, ["a", "b", "c", "d"])
    policy = build_policy(predictions, 0.5, 0.3, 0.5, 0.5)
    return evaluate_predictions(predictions, policy, train_prevalence_L=[0.5, 0.6, 0.2, 0.0], skipped={"x.jpg": "cut"})


def test_the_rows_of_the_labels_are_those_worked_by_hand(worked: Report) -> None:
    nan = math.nan
    expected = [
        ("a", 3, 1, 0.5, 1.0, 1.0, 1 / 2, 1.0, 2 / 3, 1, 1, 0, 1),
        ("b", 3, 2, 0.3, 1.0, 1.0, 1.0, 1.0, 1.0, 2, 0, 0, 1),
        ("c", 2, 1, 0.5, 1.0, 1.0, 1 / 2, 1.0, 2 / 3, 1, 1, 0, 0),
        ("d", 3, 0, 0.5, nan, nan, nan, nan, nan, 0, 0, 0, 3),
    ]
    for row, values in zip(worked.labels, expected, strict=True):
        assert list(row) == LABEL_ROW_KEYS
        assert row["label"] == values[0]
        assert list(row.values())[1:-6] == pytest.approx(values[1:], nan_ok=True)
    # Of label a 1 of 2 is right, 1 of 1 found: Wilson's limits are 0.0945 and 0.9055, 0.2065 and 1; of c the same.
    for row in (worked.labels[0], worked.labels[2]):
        assert list(row.values())[-6:-2] == pytest.approx([0.0945, 0.9055, 0.2065, 1.0], abs=1e-4)
        assert (row["f1_low"], row["f1_high"]) == pytest.approx((2 * 0.0945 / 1.0945, 2 * 0.9055 / 1.9055), abs=1e-4)
    assert all(math.isnan(limit) for limit in list(worked.labels[3].values())[-6:])


def test_tuned_thresholds_stand_beside_those_at_one_half(worked: Report) -> None:
    # At 0.5 nothing is given b: its F1 falls from 1 to 0 and the mean of a, b and c with it.
    assert worked.metrics["f1_macro"].value == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    assert worked.at_half["f1_macro"] == pytest.approx((2 / 3 + 0 + 2 / 3) / 3)
    # Pooled: 4 right, 2 wrongly given, none missed; at 0.5 two of the right ones are missed.
    assert worked.metrics["f1_micro"].value == pytest.approx(8 / 10)
    assert worked.at_half["f1_micro"] == pytest.approx(4 / 8)


def test_one_half_is_reported_for_decisions_and_not_for_rankings(worked: Report) -> None:
    rankings = {name for name in INTERFACE_NAMES if name.startswith(("average_precision", "roc_auc"))}
    others = {
        "coverage_error",
        "ranking_loss",
        "label_ranking_average_precision",
        "one_error",
        "expected_calibration_error",
        "brier",
    }
    assert set(worked.at_half) == set(DECISION_NAMES) == INTERFACE_NAMES - rankings - others


def test_the_baselines_are_those_worked_by_hand(worked: Report) -> None:
    # 11 known cells of which 4 are present.
    nothing, prior = worked.baselines["all_negative"], worked.baselines["prior"]
    assert nothing["hamming_loss"] == pytest.approx(4 / 11)
    assert nothing["recall_micro"] == 0
    assert math.isnan(nothing["precision_micro"])
    # The prior gives a and b (0.5 is enough) to all three images: 3 of 6 are right.
    assert prior["precision_micro"] == pytest.approx(3 / 6)
    assert prior["recall_micro"] == pytest.approx(3 / 4)
    # A constant ranks nothing: each label's average precision is its prevalence, here 1/3, 2/3 and 1/2.
    assert prior["average_precision_macro"] == pytest.approx(1 / 2)
    assert prior["brier"] == pytest.approx(
        ((0.25 + 0.25 + 0.25) / 3 + (0.16 + 0.16 + 0.36) / 3 + (0.04 + 0.64) / 2 + 0) / 4
    )
    assert set(nothing) == set(prior) == INTERFACE_NAMES
    assert worked.prior_from == "training"


def test_without_a_training_part_the_prior_comes_from_these_images_and_says_so(
    make_predictions: Callable[..., Predictions],
) -> None:
    predictions = make_predictions(PROBS, TRUTH)
    report = evaluate_predictions(predictions, build_policy(predictions, 0.5, 0.3, 0.5, 0.5))
    assert report.prior_from == "these images"
    # Prevalence 1/3, 2/3, 1/2, 0: b and c are given to all; 3 of the 5 known cells are right.
    assert report.baselines["prior"]["precision_micro"] == pytest.approx(3 / 5)


def test_a_prevalence_that_nobody_knows_counts_as_zero(make_predictions: Callable[..., Predictions]) -> None:
    predictions = make_predictions([[0.9, 0.1]], [[1, 0]])
    report = evaluate_predictions(predictions, build_policy(predictions, 0.5, 0.5), train_prevalence_L=[1.0, math.nan])
    assert report.baselines["prior"]["subset_accuracy"] == 1


def test_the_labels_that_cannot_be_judged_are_listed_in_label_order(
    make_predictions: Callable[..., Predictions],
) -> None:
    # z: no positive (no average precision); m: no negative (no ROC AUC); u: unknown everywhere; a: fine.
    predictions = make_predictions([[0.5, 0.5, 0.5, 0.5]] * 2, [[0, 1, None, 1], [0, 1, None, 0]], ["z", "m", "u", "a"])
    assert evaluate_predictions(predictions, build_policy(predictions, *[0.5] * 4)).undefined == ["z", "m", "u"]


@pytest.fixture
def random_report(make_random: Callable[..., Predictions]) -> tuple[Report, np.ndarray, np.ndarray, np.ndarray]:
    predictions = make_random(num_images=80, num_labels=5, seed=3)
    thresholds = (0.4, 0.5, 0.6, 0.35, 0.5)
    report = evaluate_predictions(predictions, build_policy(predictions, *thresholds), num_resamples=50)
    assert predictions.targets is not None
    probs_NL = predictions.probs_NL
    return report, probs_NL, probs_NL >= np.array(thresholds, np.float32), predictions.targets.present_NL()


@pytest.mark.parametrize("mean", ["macro", "micro", "weighted", "samples"])
@pytest.mark.parametrize(
    ("name", "reference"), [("f1", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score)]
)
def test_decisions_score_as_in_scikit_learn(
    random_report: tuple[Report, Any, Any, Any], name: str, mean: str, reference: Callable[..., Any]
) -> None:
    report, probs_NL, decisions_NL, truth_NL = random_report
    expected = reference(truth_NL, decisions_NL, average=mean, zero_division=np.nan)
    assert report.metrics[f"{name}_{mean}"].value == pytest.approx(expected)
    at_half = reference(truth_NL, probs_NL >= 0.5, average=mean, zero_division=np.nan)
    assert report.at_half[f"{name}_{mean}"] == pytest.approx(at_half)
    assert expected != at_half, "the thresholds changed nothing, so this test could not tell them apart"


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("average_precision_macro", lambda truth, probs: sk.average_precision_score(truth, probs, average="macro")),
        ("average_precision_micro", lambda truth, probs: sk.average_precision_score(truth, probs, average="micro")),
        ("roc_auc_macro", lambda truth, probs: sk.roc_auc_score(truth, probs, average="macro")),
        ("coverage_error", sk.coverage_error),
        ("ranking_loss", sk.label_ranking_loss),
        ("label_ranking_average_precision", sk.label_ranking_average_precision_score),
    ],
)
def test_probabilities_score_as_in_scikit_learn(
    random_report: tuple[Report, Any, Any, Any], name: str, reference: Callable[..., Any]
) -> None:
    report, probs_NL, _, truth_NL = random_report
    assert report.metrics[name].value == pytest.approx(reference(truth_NL, probs_NL))


@pytest.mark.parametrize(
    ("name", "reference"), [("hamming_loss", sk.hamming_loss), ("subset_accuracy", sk.accuracy_score)]
)
def test_whole_answers_score_as_in_scikit_learn(
    random_report: tuple[Report, Any, Any, Any], name: str, reference: Callable[..., Any]
) -> None:
    report, _, decisions_NL, truth_NL = random_report
    assert report.metrics[name].value == pytest.approx(reference(truth_NL, decisions_NL))


def test_the_rows_of_random_labels_agree_with_scikit_learn(random_report: tuple[Report, Any, Any, Any]) -> None:
    report, probs_NL, decisions_NL, truth_NL = random_report
    matrices = sk.multilabel_confusion_matrix(truth_NL, decisions_NL)
    for column, row in enumerate(report.labels):
        expected = sk.average_precision_score(truth_NL[:, column], probs_NL[:, column])
        assert row["average_precision"] == pytest.approx(expected)
        assert row["roc_auc"] == pytest.approx(sk.roc_auc_score(truth_NL[:, column], probs_NL[:, column]))
        negatives, positives = matrices[column].tolist()
        assert [row["true_negatives"], row["false_positives"]] == negatives
        assert [row["false_negatives"], row["true_positives"]] == positives


def test_every_interval_holds_its_value_on_even_data_and_is_seeded(
    random_report: tuple[Report, Any, Any, Any], make_random: Callable[..., Predictions]
) -> None:
    report = random_report[0]
    for name in ("f1_micro", "average_precision_macro", "hamming_loss"):
        interval = report.metrics[name]
        assert interval.low < interval.value < interval.high
    predictions = make_random(num_images=80, num_labels=5, seed=3)
    policy = build_policy(predictions, 0.4, 0.5, 0.6, 0.35, 0.5)
    assert evaluate_predictions(predictions, policy, num_resamples=50).metrics == report.metrics
    other = evaluate_predictions(predictions, policy, num_resamples=50, seed=1)
    assert other.metrics["f1_micro"] != report.metrics["f1_micro"]


def test_permuting_the_images_changes_no_value(make_random: Callable[..., Predictions]) -> None:
    predictions = make_random(share_unknown=0.2)
    mixed = predictions.select(predictions.images[::-1])
    policy = build_policy(predictions, *[0.4] * 4)
    report, other = evaluate_predictions(predictions, policy), evaluate_predictions(mixed, policy)
    assert other.labels == report.labels
    for name in INTERFACE_NAMES:
        assert other.metrics[name].value == pytest.approx(report.metrics[name].value)


def test_what_stands_in_an_unknown_cell_changes_nothing(make_predictions: Callable[..., Predictions]) -> None:
    policy = DecisionPolicy(LabelSpace(("a", "b")), (0.5, 0.5))
    truth = [[1, 0], [None, 1], [0, 1]]
    reports = [
        evaluate_predictions(make_predictions([[0.9, 0.2], [strange, 0.7], [0.3, 0.6]], truth, ["a", "b"]), policy)
        for strange in (0.0, 1.0)
    ]
    assert reports[0].to_dict() == reports[1].to_dict()


@pytest.mark.parametrize(
    ("chosen_on", "data_digest", "expected"),
    [
        pytest.param("data-1", "data-1", True, id="the thresholds were chosen on these images"),
        pytest.param("data-0", "data-1", False, id="they were chosen elsewhere"),
        pytest.param("", "", False, id="nobody knows where, and nothing claims these"),
    ],
)
def test_a_report_says_whether_it_judges_the_data_of_the_tuning(
    make_predictions: Callable[..., Predictions], chosen_on: str, data_digest: str, expected: bool
) -> None:
    predictions = make_predictions([[0.9]], [[1]], data_digest=data_digest)
    report = evaluate_predictions(predictions, build_policy(predictions, 0.5, chosen_on=chosen_on))
    assert report.judged_on_tuning_data is expected
    assert report.to_dict()["judged_on_tuning_data"] is expected


@pytest.mark.parametrize(
    ("probs_NL", "truth_NL", "undefined"),
    [
        pytest.param([[0.5, 0.2]], [[None, None]], ["label 0", "label 1"], id="nothing is known"),
        pytest.param([[0.7]], [[1]], ["label 0"], id="one image and one label"),
        pytest.param(np.zeros((0, 2)), np.zeros((0, 2)), ["label 0", "label 1"], id="no image"),
    ],
)
def test_the_smallest_data_give_a_report_without_a_warning(
    make_predictions: Callable[..., Predictions], tmp_path: Path, probs_NL: Any, truth_NL: Any, undefined: list[str]
) -> None:
    predictions = make_predictions(probs_NL, truth_NL)
    policy = build_policy(predictions, *[0.5] * len(predictions.label_space))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = evaluate_predictions(predictions, policy)
        report.save(tmp_path / "report.html")
        report.save(tmp_path / "metrics.json")
    assert report.undefined == undefined
    assert json.loads((tmp_path / "metrics.json").read_text())["test"]["undefined"] == undefined


def test_what_belongs_to_the_report_travels_with_it(worked: Report) -> None:
    assert worked.skipped == {"x.jpg": "cut"}
    assert (worked.model_digest, worked.data_digest) == ("model-1", "data-1")
    assert worked.policy == {"goal": "f1", "rule": "probability >= threshold", "chosen_on": "data-0"}
    assert (worked.name, worked.num_images, worked.num_labels) == ("test", 3, 4)


def test_a_part_of_metrics_json_has_the_documented_names_and_null_where_undefined(worked: Report) -> None:
    part = json.loads(json.dumps(worked.to_dict(), allow_nan=False))
    assert list(part)[:6] == ["num_images", "num_labels", "metrics", "baselines", "labels", "undefined"]
    assert set(part["metrics"]) == INTERFACE_NAMES
    assert all(list(interval) == ["value", "low", "high"] for interval in part["metrics"].values())
    assert {name: set(values) for name, values in part["baselines"].items()} == {
        "all_negative": INTERFACE_NAMES,
        "prior": INTERFACE_NAMES,
    }
    assert part["baselines"]["all_negative"]["precision_micro"] is None
    assert [list(row) for row in part["labels"]] == [LABEL_ROW_KEYS] * 4
    d = part["labels"][3]
    assert [key for key in LABEL_ROW_KEYS if d[key] is None] == [
        "average_precision",
        "roc_auc",
        "precision",
        "recall",
        "f1",
        *LABEL_ROW_KEYS[-6:],
    ]
    assert part["undefined"] == ["d"]


def test_predictions_without_truth_are_refused() -> None:
    predictions = Predictions(("a.jpg",), LabelSpace(("dog",)), np.array([[0.5]]))
    with pytest.raises(DataError, match="predictions: there is no truth to compare with"):
        evaluate_predictions(predictions, build_policy(predictions, 0.5))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        pytest.param(("a", "cat"), r"\(b, cat stands on one side only\)", id="another label"),
        pytest.param(("b", "a"), "its labels stand in another order", id="another order"),
    ],
)
def test_a_policy_for_other_labels_is_refused(
    make_predictions: Callable[..., Predictions], names: tuple[str, ...], message: str
) -> None:
    predictions = make_predictions([[0.9, 0.1]], [[1, 0]], ["a", "b"])
    with pytest.raises(DataError, match=message):
        evaluate_predictions(predictions, DecisionPolicy(LabelSpace(names), (0.5, 0.5)))


def test_a_prevalence_for_other_labels_is_refused(make_predictions: Callable[..., Predictions]) -> None:
    predictions = make_predictions([[0.9, 0.1]], [[1, 0]])
    with pytest.raises(DataError, match="prevalence_L: wrong shape"):
        evaluate_predictions(predictions, build_policy(predictions, 0.5, 0.5), train_prevalence_L=[0.5])


def test_a_report_is_saved_by_the_ending_of_its_path(worked: Report, tmp_path: Path) -> None:
    worked.save(tmp_path / "report.HTML")
    worked.save(tmp_path / "report.md")
    worked.save(tmp_path / "metrics.json")
    assert (tmp_path / "report.HTML").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (tmp_path / "report.md").read_text(encoding="utf-8").startswith("# Report on test\n")
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8")) == {"test": worked.to_dict()}
    with pytest.raises(
        ConfigError, match=r"no form of a report has this ending, got '\.pdf', expected \.html, \.md or \.json"
    ):
        worked.save(tmp_path / "report.pdf")
