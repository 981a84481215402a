"""Two models on the same images: by how much one is better, on which labels, and whether that is more than chance.

Both are scored on the same resamples of the images, so that what is easy or hard about an image cancels out. Of many
labels some look different by chance alone; Benjamini and Hochberg's procedure keeps the expected share of false ones
among all that are called better or worse below 1 - confidence.

Source: Benjamini and Hochberg, "Controlling the false discovery rate", 1995; the paired bootstrap as in
`metrics/intervals.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from manylabel.decisions.policy import DecisionPolicy
from manylabel.errors import ConfigError, DataError, build_message, join_names, suggest_name
from manylabel.evaluation.evaluate import nan_to_none
from manylabel.labels.groups import NO_GROUPS, number_groups
from manylabel.labels.predictions import Predictions
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import BoolArray, Targets
from manylabel.metrics.intervals import (
    DEFAULT_CONFIDENCE,
    Spread,
    check_confidence,
    draw_copies,
    find_interval,
    spread_of_mean,
    spread_of_value,
)
from manylabel.metrics.resampling import each_image_once
from manylabel.metrics.summary import LOWER_IS_BETTER, SUMMARY_NAMES, UNBOUNDED, Resampled, resample

COMPARED_BY_LABEL = ("average_precision", "roc_auc", "f1", "precision", "recall")
"""What labels can be compared by; each is also compared as its mean over labels."""

NUM_RESAMPLES = 1000
CORRECTION = "Benjamini-Hochberg"
_FEWEST_POSITIVES = 2


@dataclass(frozen=True)
class Contender:
    """A model's answers and how they become decisions; `trained_on` are images that it learned or was chosen from."""

    name: str
    predictions: Predictions
    policy: DecisionPolicy
    trained_on: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Difference:
    """A metric of both, and second minus first with its interval; NaN where undefined."""

    first: float
    second: float
    difference: float
    low: float
    high: float


class LabelDifference(TypedDict):
    """One label of both: `verdict` is about the second, `better`, `worse` or `undecided`."""

    label: str
    num_known: int
    num_positive: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """What is known about the difference of two models: numbers only."""

    first: str
    second: str
    num_images: int
    num_labels: int
    by: str
    """The metric that labels are compared by, one of COMPARED_BY_LABEL."""
    metrics: Mapping[str, Difference]
    labels: list[LabelDifference]
    confidence: float
    num_resamples: int
    correction: str
    left_out: Mapping[str, list[str]]
    """Images and labels that only one side has: `images_of_first`, `labels_of_second` and so on."""
    warnings: list[str]

    @property
    def headline(self) -> Difference:
        """The difference of the mean over labels."""
        return self.metrics[f"{self.by}_macro"]

    def count(self, verdict: str) -> int:
        """Return on how many labels the second is `better`, `worse` or `undecided`."""
        return sum(row["verdict"] == verdict for row in self.labels)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, None where a number is undefined."""
        return {
            "first": self.first,
            "second": self.second,
            "num_images": self.num_images,
            "num_labels": self.num_labels,
            "by": self.by,
            "better": self.count("better"),
            "worse": self.count("worse"),
            "undecided": self.count("undecided"),
            "metrics": {name: nan_to_none(asdict(row)) for name, row in self.metrics.items()},
            "labels": [nan_to_none(row) for row in self.labels],
            "confidence": self.confidence,
            "num_resamples": self.num_resamples,
            "correction": self.correction,
            "left_out": {key: list(names) for key, names in self.left_out.items()},
            "warnings": list(self.warnings),
        }


def compare_predictions(
    first: Contender,
    second: Contender,
    *,
    by: str = "average_precision",
    common: bool = False,
    group_of: Mapping[str, str] = NO_GROUPS,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = DEFAULT_CONFIDENCE,
    seed: int = 0,
) -> Comparison:
    """Return how the second model differs from the first, on the images and labels that both know.

    Images and labels are matched by name, whatever their order.

    Args:
        first, second: one of them at least has the truth; where both have it, they have to agree.
        by: the metric that labels are compared by, one of COMPARED_BY_LABEL.
        common: whether to go on with the common part where one side has images or labels that the other lacks.
        group_of: image to group; groups are drawn whole. An image that is not named stands alone.
        num_resamples: how many times the images are drawn anew.
        confidence: of the intervals; 1 - confidence is the share of false ones among the labels called different.
        seed: the same seed gives the same answer.

    Raises:
        DataError: different images or labels without `common`, none in common, no truth, or two truths.
        ConfigError: an unknown metric, a confidence that is not between 0 and 1.
    """
    if by not in COMPARED_BY_LABEL:
        problem = f"unknown metric {by!r}{suggest_name(by, COMPARED_BY_LABEL)}"
        raise ConfigError(build_message("--by", problem, expected=join_names(COMPARED_BY_LABEL)))
    check_confidence(confidence)
    left_out = _find_differences(first, second, common)
    ours, theirs, targets = _align(first, second)
    group_N = number_groups(ours[0].images, group_of)
    copies_RN = np.concatenate([each_image_once(len(targets)), draw_copies(len(targets), num_resamples, seed, group_N)])
    truth_NL, known_NL = targets.present_NL(), targets.known_NL()
    scored = [
        resample(predictions.probs_NL, decisions_NL, truth_NL, known_NL, copies_RN, group_N)
        for predictions, decisions_NL in (ours, theirs)
    ]
    return Comparison(
        first=first.name,
        second=second.name,
        num_images=len(targets),
        num_labels=targets.num_labels,
        by=by,
        metrics={name: _compare_metric(scored[0], scored[1], name, confidence) for name in SUMMARY_NAMES},
        labels=_compare_labels(scored, by, ours[0].label_space, targets, confidence),
        confidence=confidence,
        num_resamples=num_resamples,
        correction=CORRECTION,
        left_out=left_out,
        warnings=[warning for side in (first, second) for warning in _warn(side, ours[0].images)],
    )


# ---------------------------------------------------------------------------------------------------------------------
# Bringing both to the same images and labels.
# ---------------------------------------------------------------------------------------------------------------------


def _find_differences(first: Contender, second: Contender, common: bool) -> dict[str, list[str]]:
    left_out: dict[str, list[str]] = {}
    for what, names in (
        ("labels", [side.predictions.label_space.names for side in (first, second)]),
        ("images", [side.predictions.images for side in (first, second)]),
    ):
        ours, theirs = set(names[0]), set(names[1])
        left_out[f"{what}_of_first"] = [name for name in names[0] if name not in theirs]
        left_out[f"{what}_of_second"] = [name for name in names[1] if name not in ours]
        if not ours & theirs:
            raise DataError(
                build_message(
                    f"{first.name} and {second.name}",
                    f"they have no {what} in common ({names[0][0]!r} here, {names[1][0]!r} there)"
                    if ours and theirs
                    else f"one of them has no {what}",
                    do="Give two predictions of the same images, named alike",
                )
            )
    if any(left_out.values()) and not common:
        parts = [
            f"only {side.name} has {what[:-1] if len(own) == 1 else what} {join_names(own)}"
            for what in ("labels", "images")
            for side, place in ((first, "first"), (second, "second"))
            if (own := left_out[f"{what}_of_{place}"])
        ]
        raise DataError(
            build_message(
                f"{first.name} and {second.name}", "; ".join(parts), do="Pass --common to compare what both have"
            )
        )
    return left_out


def _align(
    first: Contender, second: Contender
) -> tuple[tuple[Predictions, BoolArray], tuple[Predictions, BoolArray], Targets]:
    """Return both over the common images and labels in the order of the first, with their decisions, and the truth."""
    images = [image for image in first.predictions.images if image in set(second.predictions.images)]
    space = LabelSpace(tuple(name for name in first.predictions.label_space if name in second.predictions.label_space))
    sides, truths = [], []
    for side in (first, second):
        chosen = side.predictions.select(images)
        columns = [chosen.label_space.index(name) for name in space]
        decisions_NL = side.policy.decide(chosen.probs_NL)[:, columns]
        targets = None if chosen.targets is None else chosen.targets.select_labels(columns)
        truths.append(targets)
        sides.append((Predictions(chosen.images, space, chosen.probs_NL[:, columns], targets), decisions_NL))
    return sides[0], sides[1], _agree(first, second, truths)


def _agree(first: Contender, second: Contender, truths: Sequence[Targets | None]) -> Targets:
    """Return the truth that both are judged by: a cell that one of them does not know counts for neither."""
    there = [targets for targets in truths if targets is not None]
    if not there:
        raise DataError(
            build_message(
                f"{first.name} and {second.name}",
                "neither has the truth",
                do="Give at least one run, or predictions with truth:NAME columns",
            )
        )
    if len(there) == 1:
        return there[0]
    known_NL = there[0].known_NL() & there[1].known_NL()
    num_different = int(np.count_nonzero((there[0].present_NL() != there[1].present_NL()) & known_NL))
    if num_different:
        raise DataError(
            build_message(
                f"{first.name} and {second.name}",
                f"their truth differs in {num_different:,} cells",
                do="Evaluate both models on the same table, then compare",
            )
        )
    return Targets.from_dense(there[0].present_NL(), known_NL)


def _warn(side: Contender, images: Sequence[str]) -> list[str]:
    warnings = []
    num_seen = sum(image in side.trained_on for image in images)
    if num_seen:
        warnings.append(
            f"{side.name} was trained or tuned on {num_seen:,} of these {len(images):,} images: it looks better here "
            "than it is."
        )
    elif side.policy.chosen_on and side.policy.chosen_on == side.predictions.data_digest:
        warnings.append(f"The thresholds of {side.name} were chosen on these very images: its decisions look better.")
    return warnings


# ---------------------------------------------------------------------------------------------------------------------
# Differences.
# ---------------------------------------------------------------------------------------------------------------------


def _compare_metric(first: Resampled, second: Resampled, name: str, confidence: float) -> Difference:
    ours_R, theirs_R = first.overall_R[name], second.overall_R[name]
    value = float(theirs_R[0] - ours_R[0])
    spread = spread_of_value(value, (theirs_R - ours_R)[1:])
    if name in first.by_label_RL:
        both_RL = second.by_label_RL[name] - first.by_label_RL[name]
        is_same = np.array_equal(np.isnan(first.by_label_RL[name][0]), np.isnan(second.by_label_RL[name][0]))
        if is_same:
            # Means over the same labels differ by the mean of the differences.
            support_L = np.minimum(first.support_of[name], second.support_of[name])
            spread = spread_of_mean(both_RL[0], both_RL[1:], support_L)
    ends = (-math.inf, math.inf) if name in UNBOUNDED else (-1.0, 1.0)
    low, high = find_interval(value, spread, confidence, *ends)
    return Difference(float(ours_R[0]), float(theirs_R[0]), value, low, high)


def _compare_labels(
    scored: Sequence[Resampled], by: str, space: LabelSpace, targets: Targets, confidence: float
) -> list[LabelDifference]:
    first_RL, second_RL = (side.by_label_RL[f"{by}_macro"] for side in scored)
    both_RL = second_RL - first_RL
    support_L = np.minimum(*(side.support_of[f"{by}_macro"] for side in scored))
    rows = []
    for column, label in enumerate(space):
        value = float(both_RL[0, column])
        spread = _spread_of_label(both_RL[:, column], int(support_L[column]))
        low, high = find_interval(value, spread, confidence, -1.0, 1.0)
        rows.append(
            LabelDifference(
                label=label,
                num_known=int(targets.num_known_L[column]),
                num_positive=int(targets.num_present_L[column]),
                first=float(first_RL[0, column]),
                second=float(second_RL[0, column]),
                difference=value,
                low=low,
                high=high,
                p_value=_find_p_value(value, spread),
                verdict="undecided",
            )
        )
    is_found_L = find_discoveries(np.array([row["p_value"] for row in rows]), 1 - confidence)
    for row, is_found in zip(rows, is_found_L, strict=True):
        if is_found:
            row["verdict"] = "better" if row["difference"] > 0 else "worse"
    return rows


def _spread_of_label(values_R: npt.NDArray[np.float64], support: int) -> Spread:
    """Return the spread of one label; with a single positive nothing can be said of it."""
    if support < _FEWEST_POSITIVES:
        return Spread(math.nan, math.nan)
    spread = spread_of_mean(values_R[:1], values_R[1:, np.newaxis], np.array([support]))
    return Spread(spread.bias, spread.deviation, float(support - 1))


def _find_p_value(value: float, spread: Spread) -> float:
    """Return how likely a difference at least as large is where there is none; 1 where nothing can be said."""
    if math.isnan(value) or math.isnan(spread.deviation) or spread.deviation == 0:
        return 1.0
    ratio = abs(value - spread.bias) / spread.deviation
    # Student's distribution brought to the normal one, Abramowitz and Stegun 26.7.8.
    degrees = spread.degrees_of_freedom
    z = ratio * (1 - 1 / (4 * degrees)) / math.sqrt(1 + ratio**2 / (2 * degrees))
    return 2 * (1 - NormalDist().cdf(z))


def find_discoveries(p_values_L: npt.NDArray[np.float64], share_false: float) -> BoolArray:
    """Return which of many findings hold, so that at most this share of them is expected to be false.

    Example:
        >>> find_discoveries(np.array([0.01, 0.04, 0.9]), 0.05)
        array([ True, False, False])

    Source: Benjamini and Hochberg, 1995, equation 1.
    """
    num_all = len(p_values_L)
    order_L = np.argsort(p_values_L, kind="stable")
    is_below_L = p_values_L[order_L] <= share_false * np.arange(1, num_all + 1) / max(1, num_all)
    num_found = int(np.flatnonzero(is_below_L)[-1]) + 1 if is_below_L.any() else 0
    is_found_L = np.zeros(num_all, np.bool_)
    is_found_L[order_L[:num_found]] = True
    return is_found_L


def is_better(comparison: Comparison, name: str) -> bool | None:
    """Return whether the second is better (True) or worse (False) by a metric; None where its interval holds 0."""
    row = comparison.metrics[name]
    if math.isnan(row.low) or row.low <= 0 <= row.high:
        return None
    return (row.difference > 0) != (name in LOWER_IS_BETTER)
