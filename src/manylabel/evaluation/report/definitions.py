"""What each metric is called, means and aims for, in words a reader of a page understands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from manylabel.decisions import GOALS


@dataclass(frozen=True)
class Definition:
    """A metric in words; `is_share` says that it lies in [0, 1], so that a bar can show it."""

    title: str
    meaning: str
    is_lower_better: bool = False
    is_share: bool = True


_MACRO = "the mean over labels, a rare one counting as much as a frequent one"
_MICRO = "over all decisions pooled, so that frequent labels count more"
_WEIGHTED = "the mean over labels, weighted by how many images show them"
_SAMPLES = "computed for each image over its labels, then the mean over images"
_PRECISION = "Of the labels that were given, the share that is right"
_RECALL = "Of the labels that are there, the share that was found"
_F1 = "The harmonic mean of precision and recall"

DEFINITIONS: Mapping[str, Definition] = {
    "average_precision_macro": Definition(
        "Average precision (mAP)",
        f"How well each label's images are ranked above the others, whatever the threshold; {_MACRO}.",
    ),
    "average_precision_micro": Definition("Average precision, pooled", f"The same, {_MICRO}."),
    "roc_auc_macro": Definition(
        "ROC AUC",
        "How often an image with the label gets a higher probability than one without; 0.5 is chance; " + _MACRO + ".",
    ),
    "f1_macro": Definition("F1 per label", f"{_F1}; {_MACRO}."),
    "f1_micro": Definition("F1 pooled", f"{_F1}, {_MICRO}."),
    "f1_weighted": Definition("F1 weighted", f"{_F1}; {_WEIGHTED}."),
    "f1_samples": Definition("F1 per image", f"{_F1}, {_SAMPLES}."),
    "f1_of_means": Definition(
        "F1 of the means (CF1)", "The harmonic mean of the precision per label and the recall per label above."
    ),
    "precision_macro": Definition("Precision per label", f"{_PRECISION}; {_MACRO}."),
    "precision_micro": Definition("Precision pooled", f"{_PRECISION}, {_MICRO}."),
    "precision_weighted": Definition("Precision weighted", f"{_PRECISION}; {_WEIGHTED}."),
    "precision_samples": Definition("Precision per image", f"{_PRECISION}, {_SAMPLES}."),
    "recall_macro": Definition("Recall per label", f"{_RECALL}; {_MACRO}."),
    "recall_micro": Definition("Recall pooled", f"{_RECALL}, {_MICRO}."),
    "recall_weighted": Definition("Recall weighted", f"{_RECALL}; {_WEIGHTED}."),
    "recall_samples": Definition("Recall per image", f"{_RECALL}, {_SAMPLES}."),
    "hamming_loss": Definition(
        "Hamming loss",
        "The share of wrong yes/no decisions. Where labels are rare, giving no label at all has a low one too: "
        "never read it without its baseline.",
        is_lower_better=True,
    ),
    "subset_accuracy": Definition("Subset accuracy", "The share of images whose labels are all right at once."),
    "jaccard_samples": Definition(
        "Jaccard per image", "Labels both given and true over labels given or true; the mean over images."
    ),
    "coverage_error": Definition(
        "Coverage error",
        "How many of an image's most probable labels one has to take to have all true ones.",
        is_lower_better=True,
        is_share=False,
    ),
    "ranking_loss": Definition(
        "Ranking loss", "The share of an image's label pairs that stand in the wrong order.", is_lower_better=True
    ),
    "label_ranking_average_precision": Definition(
        "Label ranking precision", "How high the true labels stand among the labels of an image."
    ),
    "one_error": Definition(
        "One-error", "The share of images whose most probable label is wrong.", is_lower_better=True
    ),
    "expected_calibration_error": Definition(
        "Calibration error",
        "By how much probabilities differ from frequencies: does 0.7 come true in seven of ten cases?",
        is_lower_better=True,
    ),
    "brier": Definition(
        "Brier score",
        "The mean squared difference between probability and truth; the mean over labels.",
        is_lower_better=True,
    ),
}
"""One entry for every name of a summary."""

HEADLINES = (
    "average_precision_macro",
    "roc_auc_macro",
    "f1_macro",
    "f1_micro",
    "precision_micro",
    "recall_micro",
    "subset_accuracy",
    "hamming_loss",
    "expected_calibration_error",
)
"""The few metrics that stand first."""

GOALS_IN_WORDS: Mapping[str, str] = {name: kind.in_words for name, kind in GOALS.items()}


def describe_goal(goal: str) -> str:
    """Return what thresholds of this goal were chosen for; a goal that is not one of ours goes by its name.

    Example:
        >>> describe_goal("half"), describe_goal("mine")
        ('No threshold was tuned: each is 0.5', "Thresholds chosen for 'mine'")
    """
    name, _, settings = goal.partition(",")
    in_words = GOALS_IN_WORDS.get(name, f"Thresholds chosen for {goal!r}")
    return f"{in_words} ({settings.replace(',', ', ')})" if settings and name in GOALS_IN_WORDS else in_words
