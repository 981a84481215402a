"""Predictions and a decision policy in, a Report out: every number a page shows, and where each comes from."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from manylabel.decisions.policy import DecisionPolicy
from manylabel.decisions.thresholds import HALF
from manylabel.errors import ConfigError, DataError, build_message, join_names
from manylabel.evaluation.details import Details, collect_details
from manylabel.evaluation.mistakes import Mistake, find_mistakes
from manylabel.labels.groups import NO_GROUPS, number_groups
from manylabel.labels.predictions import Predictions
from manylabel.labels.statistics import prevalence
from manylabel.labels.targets import BoolArray, Targets
from manylabel.metrics.averaging import fraction
from manylabel.metrics.baselines import Baseline, all_negative_baseline, prior_baseline
from manylabel.metrics.counts import confusion_counts
from manylabel.metrics.decisions import f1, precision, recall
from manylabel.metrics.intervals import DEFAULT_CONFIDENCE, DEFAULT_NUM_RESAMPLES, find_label_intervals
from manylabel.metrics.ranking import average_precision, roc_auc
from manylabel.metrics.summary import SUMMARY_NAMES, summarise, summarise_with_intervals

DECISION_NAMES = tuple(
    name
    for name in SUMMARY_NAMES
    if name.startswith(("f1_", "precision_", "recall_"))
    or name in ("hamming_loss", "subset_accuracy", "jaccard_samples")
)
"""The metrics that thresholds change; all others judge the probabilities alone."""

PRIOR_FROM_TRAINING = "training"
PRIOR_FROM_THESE_IMAGES = "these images"

_NOTHING_SKIPPED: Mapping[str, str] = MappingProxyType({})


MAX_SUSPECTS = 12
"""How many cells of the truth that look wrong a report names; `find-errors` lists them all."""


@dataclass(frozen=True)
class Interval:
    """A metric and the limits between which resampling the images moves it; NaN where undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Slice:
    """The images with one value in a column of the table, and how the model does on them."""

    column: str
    value: str
    num_images: int
    metrics: Mapping[str, Interval]


class LabelRow(TypedDict):
    """How one label was judged, with the limits of what could be; NaN where undefined. Unknown cells count nowhere."""

    label: str
    num_known: int
    num_positive: int
    threshold: float
    average_precision: float
    roc_auc: float
    precision: float
    recall: float
    f1: float
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    precision_low: float
    precision_high: float
    recall_low: float
    recall_high: float
    f1_low: float
    f1_high: float


@dataclass(frozen=True)
class Report:
    """What is known about a model's answers on one part of the data: numbers only, showing them is separate.

    `baselines` holds the same metrics for two answers that never look at the image: `all_negative` gives no label, and
    `prior` gives every image the prevalence of each label, decided with `>= 0.5`. Each is to be read beside `metrics`.
    """

    name: str
    num_images: int
    num_labels: int
    metrics: Mapping[str, Interval]
    baselines: Mapping[str, Mapping[str, float]]
    at_half: Mapping[str, float]
    """The metrics of DECISION_NAMES for the same probabilities with every threshold at 0.5."""
    labels: list[LabelRow]
    suspects: list[Mistake]
    """The cells of the truth that look wrong by these answers, the most suspicious first; the first MAX_SUSPECTS."""
    undefined: list[str]
    """Labels, in label order, without an average precision or ROC AUC: no positive or no negative is known."""
    policy: Mapping[str, Any]
    """`goal`, `rule` and `chosen_on`, the digest of the data the thresholds were chosen on; where there are such, the
    `calibration`, the `rules`, the `abstention`, and the `gain` that was measured when they were chosen."""
    prior_from: str
    """Whether the prior is the prevalence of the `training` part or, where that is not known, of `these images`."""
    confidence: float
    num_resamples: int
    model_digest: str
    data_digest: str
    skipped: Mapping[str, str]
    """Images that could not be used, and why; they count in no metric."""
    judged_on_tuning_data: bool
    """Whether the thresholds were chosen on these very images, which makes the decisions look better than they are."""
    details: Details
    """What a page shows beside the numbers; not in metrics.json."""
    slices: tuple[Slice, ...] = ()
    """The same model on parts of these images; see `slices.py`."""

    def to_dict(self) -> dict[str, Any]:
        """Return this part of metrics.json: plain values, None where a number is undefined."""
        sliced = [
            {**asdict(part), "metrics": {name: nan_to_none(asdict(row)) for name, row in part.metrics.items()}}
            for part in self.slices
        ]
        return {
            "num_images": self.num_images,
            "num_labels": self.num_labels,
            "metrics": {name: nan_to_none(asdict(interval)) for name, interval in self.metrics.items()},
            "baselines": {name: nan_to_none(values) for name, values in self.baselines.items()},
            "labels": [nan_to_none(row) for row in self.labels],
            "undefined": list(self.undefined),
            "at_half": nan_to_none(self.at_half),
            "policy": dict(self.policy),
            "judged_on_tuning_data": self.judged_on_tuning_data,
            "prior_from": self.prior_from,
            "confidence": self.confidence,
            "num_resamples": self.num_resamples,
            "model_digest": self.model_digest,
            "data_digest": self.data_digest,
            "skipped": dict(self.skipped),
            **({"slices": sliced} if sliced else {}),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report: a page for .html, a short text for .md, metrics.json's form for .json.

        Raises:
            ConfigError: the path ends in something else.
            RunError: the file cannot be written.
        """
        suffix = Path(path).suffix.lower()
        if suffix == ".html":
            from manylabel.evaluation.report.html import save_html

            save_html([self], path, title=f"Report on {self.name}")
        elif suffix == ".md":
            from manylabel.evaluation.report.markdown import save_markdown

            save_markdown([self], path, title=f"Report on {self.name}")
        elif suffix == ".json":
            from manylabel.evaluation.report.metrics import save_metrics

            save_metrics([self], path)
        else:
            raise ConfigError(
                build_message(path, "no form of a report has this ending", got=suffix, expected=".html, .md or .json")
            )


def evaluate_predictions(
    predictions: Predictions,
    policy: DecisionPolicy,
    *,
    name: str = "test",
    train_prevalence_L: npt.ArrayLike | None = None,
    num_resamples: int = DEFAULT_NUM_RESAMPLES,
    confidence: float = DEFAULT_CONFIDENCE,
    seed: int = 0,
    skipped: Mapping[str, str] = _NOTHING_SKIPPED,
    group_of: Mapping[str, str] = NO_GROUPS,
) -> Report:
    """Return the report of a model's probabilities, decided with the policy and compared with the truth beside them.

    A label without a known positive (or negative) has no place in a mean that it leaves undefined; it is listed in
    `undefined`, and the report works even when that is every label.

    Shapes: L labels.

    Args:
        predictions: probabilities with their truth.
        policy: the thresholds, and on which data they were chosen.
        name: the part of the data, such as "val" or "test".
        train_prevalence_L: share of the training images that show each label, for the prior baseline; NaN counts as 0.
            None takes the share in these very images, which is the best a constant can know, and the report says so.
        num_resamples: how many times the images are drawn anew for the intervals.
        confidence: share of the resampled values inside an interval.
        seed: the same seed gives the same intervals.
        skipped: image to reason, for images that could not be used.
        group_of: image to group; images that belong together are drawn together for the intervals.

    Raises:
        DataError: predictions without truth, a policy for other labels, not one prevalence per label.
        ConfigError: fewer than one resample, a confidence that is not between 0 and 1.

    Example:
        >>> from manylabel.labels.space import LabelSpace
        >>> space = LabelSpace(("beach", "dog"))
        >>> truth = Targets.from_dense([[1, 0], [0, 1], [0, 0]])
        >>> probs_NL = np.array([[0.9, 0.2], [0.3, 0.4], [0.1, 0.1]])
        >>> predictions = Predictions(("a.jpg", "b.jpg", "c.jpg"), space, probs_NL, truth)
        >>> report = evaluate_predictions(predictions, DecisionPolicy(space, (0.5, 0.3)))
        >>> report.metrics["f1_macro"].value, report.at_half["f1_macro"], report.baselines["all_negative"]["f1_macro"]
        (1.0, 0.5, 0.0)
    """
    targets = _check_inputs(predictions, policy)
    decisions_NL = policy.decide(predictions.probs_NL)
    # From here on what the model shows: calibrated, if it is.
    predictions = replace(predictions, probs_NL=policy.adjust(predictions.probs_NL))
    probs_NL, truth_NL, known_NL = predictions.probs_NL, targets.present_NL(), targets.known_NL()
    summary = summarise_with_intervals(
        probs_NL,
        decisions_NL,
        truth_NL,
        known_NL,
        num_resamples=num_resamples,
        confidence=confidence,
        seed=seed,
        group_N=number_groups(predictions.images, group_of),
    )
    at_half = summarise(probs_NL, probs_NL >= HALF, truth_NL, known_NL)
    labels = _judge_labels(predictions, policy, decisions_NL, truth_NL, known_NL, confidence)
    return Report(
        name=name,
        num_images=len(predictions),
        num_labels=len(predictions.label_space),
        metrics={metric: Interval(**values) for metric, values in summary.items()},
        baselines=_score_baselines(targets, truth_NL, known_NL, train_prevalence_L),
        at_half={metric: at_half[metric] for metric in DECISION_NAMES},
        labels=labels,
        suspects=find_mistakes(predictions, MAX_SUSPECTS),
        undefined=[
            row["label"] for row in labels if math.isnan(row["average_precision"]) or math.isnan(row["roc_auc"])
        ],
        policy=_describe_policy(policy),
        prior_from=PRIOR_FROM_THESE_IMAGES if train_prevalence_L is None else PRIOR_FROM_TRAINING,
        confidence=confidence,
        num_resamples=num_resamples,
        model_digest=predictions.model_digest,
        data_digest=predictions.data_digest,
        skipped=dict(skipped),
        judged_on_tuning_data=policy.chosen_on != "" and policy.chosen_on == predictions.data_digest,
        details=collect_details(predictions.images, probs_NL, decisions_NL, policy.thresholds_L, truth_NL, known_NL),
    )


def _describe_policy(policy: DecisionPolicy) -> dict[str, Any]:
    described = policy.to_dict()
    keys = ("goal", "rule", "chosen_on", "abstention", "gain")
    shown: dict[str, Any] = {key: described[key] for key in keys if key in described}
    if "calibration" in described:
        shown["calibration"] = policy.calibration.method
    if policy.rules:
        shown["rules"] = [str(rule) for rule in policy.rules]
    return shown


def _check_inputs(predictions: Predictions, policy: DecisionPolicy) -> Targets:
    if predictions.targets is None:
        raise DataError(
            build_message(
                "predictions", "there is no truth to compare with", do="Predict images of a table that has their labels"
            )
        )
    theirs, ours = predictions.label_space.names, policy.label_space.names
    if theirs != ours:
        differing = [name for name in (*theirs, *ours) if (name in theirs) != (name in ours)]
        problem = (
            f"its labels are not those of the predictions ({join_names(differing)} stands on one side only)"
            if differing
            else "its labels stand in another order than those of the predictions"
        )
        raise DataError(build_message("decision policy", problem, do="Take the policy and predictions of one model"))
    return predictions.targets


def _judge_labels(
    predictions: Predictions,
    policy: DecisionPolicy,
    decisions_NL: BoolArray,
    truth_NL: BoolArray,
    known_NL: BoolArray,
    confidence: float,
) -> list[LabelRow]:
    counts = confusion_counts(decisions_NL, truth_NL, known_NL)
    average_precision_L = average_precision(predictions.probs_NL, truth_NL, known_NL)
    roc_auc_L = roc_auc(predictions.probs_NL, truth_NL, known_NL)
    precision_L, recall_L, f1_L = precision(counts), recall(counts), f1(counts)
    intervals = find_label_intervals(counts, confidence)
    return [
        LabelRow(
            label=label,
            num_known=int(counts.num_known_L[column]),
            num_positive=int(counts.num_positive_L[column]),
            threshold=policy.thresholds[column],
            average_precision=float(average_precision_L[column]),
            roc_auc=float(roc_auc_L[column]),
            precision=float(precision_L[column]),
            recall=float(recall_L[column]),
            f1=float(f1_L[column]),
            true_positives=int(counts.true_positives_L[column]),
            false_positives=int(counts.false_positives_L[column]),
            false_negatives=int(counts.false_negatives_L[column]),
            true_negatives=int(counts.true_negatives_L[column]),
            precision_low=float(intervals["precision"][0][column]),
            precision_high=float(intervals["precision"][1][column]),
            recall_low=float(intervals["recall"][0][column]),
            recall_high=float(intervals["recall"][1][column]),
            f1_low=float(intervals["f1"][0][column]),
            f1_high=float(intervals["f1"][1][column]),
        )
        for column, label in enumerate(predictions.label_space)
    ]


def _score_baselines(
    targets: Targets, truth_NL: BoolArray, known_NL: BoolArray, train_prevalence_L: npt.ArrayLike | None
) -> dict[str, dict[str, float]]:
    prevalence_L = prevalence(targets) if train_prevalence_L is None else np.asarray(train_prevalence_L, np.float64)
    # NaN is a label that is known nowhere: whoever has never seen it says 0.
    prevalence_L = np.where(np.isnan(prevalence_L), 0.0, prevalence_L)
    baselines: dict[str, Baseline] = {
        "all_negative": all_negative_baseline(truth_NL),
        "prior": prior_baseline(truth_NL, prevalence_L, np.full(targets.num_labels, HALF)),
    }
    return {
        name: summarise(baseline.probs_NL, baseline.decisions_NL, truth_NL, known_NL)
        for name, baseline in baselines.items()
    }


def share_known(report: Report) -> float:
    """Return the share of cells (an image and a label) whose truth is known; NaN without a cell."""
    num_known = sum(row["num_known"] for row in report.labels)
    return float(fraction(num_known, report.num_images * report.num_labels))


def nan_to_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same values with None for NaN, which JSON does not have."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}
