"""What a report says in sentences: the summary anyone understands, and what a reader has to be warned of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from manylabel.errors import join_names, make_printable
from manylabel.evaluation.evaluate import PRIOR_FROM_TRAINING, Interval, Report, share_known
from manylabel.evaluation.report.definitions import describe_goal

UNDEFINED = "n/a"

_LEAST_POSITIVES = 5
"""How many positives a label needs before it is praised or blamed by name."""

_NUM_NAMED = 3


def format_value(value: float, digits: int = 3) -> str:
    """Return a number with a fixed count of digits, `n/a` where it is undefined.

    Example:
        >>> format_value(0.81256), format_value(float("nan"))
        ('0.813', 'n/a')
    """
    return UNDEFINED if math.isnan(value) else f"{value:.{digits}f}"


def format_range(interval: Interval) -> str:
    """Return the limits of an interval, `n/a` where they are undefined.

    Example:
        >>> format_range(Interval(0.8, 0.75, 0.84))
        '0.750 to 0.840'
    """
    low, high = format_value(interval.low), format_value(interval.high)
    return UNDEFINED if UNDEFINED in (low, high) else f"{low} to {high}"


def format_share(value: float) -> str:
    """Return a share as percent: whole ones, but one digit more where rounding would say 0% or 100% of a part.

    Example:
        >>> format_share(0.837), format_share(0.004), format_share(1.0), format_share(float("nan"))
        ('84%', '0.4%', '100%', 'n/a')
    """
    if math.isnan(value):
        return UNDEFINED
    digits = 1 if 0 < value < 0.01 or 0.99 < value < 1 else 0
    return f"{value:.{digits}%}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun, an s where there is not exactly one.

    Example:
        >>> count(1, "image"), count(1200, "label")
        ('1 image', '1,200 labels')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def summarise_in_words(report: Report) -> list[str]:
    """Return two to four sentences that say how good the model is, for a reader who knows no metric."""
    value = {name: interval.value for name, interval in report.metrics.items()}
    images, labels = count(report.num_images, "image"), count(report.num_labels, "label")
    if math.isnan(value["hamming_loss"]):
        return [f"On {images} of the part {report.name!r} nobody knows the truth of any of {labels}."]
    sentences = [f"The model was judged on {images} of the part {report.name!r} with {labels}."]
    if not math.isnan(value["recall_micro"]):
        found = f"It found {format_share(value['recall_micro'])} of the labels that are there"
        precision = value["precision_micro"]
        right = (
            "and gave none" if math.isnan(precision) else f"and {format_share(precision)} of those it gave are right"
        )
        sentences.append(f"{found}, {right}.")
    sentences.append(
        f"All labels of an image are right in {format_share(value['subset_accuracy'])} of the images; giving no label "
        f"to any would be right in {format_share(report.baselines['all_negative']['subset_accuracy'])}."
    )
    ranking = report.metrics["average_precision_macro"]
    if not math.isnan(ranking.value):
        sentences.append(
            f"Its mean average precision is {format_value(ranking.value, 2)} ({format_share(report.confidence)} "
            f"interval {format_value(ranking.low, 2)} to {format_value(ranking.high, 2)}); guessing by how frequent a "
            f"label is reaches {format_value(report.baselines['prior']['average_precision_macro'], 2)}."
        )
    return sentences


def describe_tuning(report: Report) -> str:
    """Return for what and on which data the thresholds were chosen, and what that brought on these images."""
    chosen_on, count = report.policy["chosen_on"], report.policy.get("gain", {}).get("num_images")
    where = f" on {f'{count:,} ' if count else ''}other images (data {chosen_on})" if chosen_on else ""
    if report.judged_on_tuning_data:
        where = " on these very images"
    tuned, half = report.metrics["f1_macro"].value, report.at_half["f1_macro"]
    return (
        f"{describe_goal(report.policy['goal'])}{where}. "
        f"F1 per label: {format_value(tuned)} with these thresholds, {format_value(half)} at 0.5."
    )


def describe_gain(goal: str, gain: Mapping[str, Any]) -> str:
    """Return whether tuning was worth it, and how that is known, from what a policy holds of itself."""
    if not gain:
        return "Nothing was tuned." if goal == "half" else "Too few images to say what that brings."
    figures = [gain[key] for key in ("at_half", "tuned", "gain", "low", "high")]
    if None in figures:
        return f"What that brings cannot be said: {gain['metric']} is undefined on these images."
    at_half, tuned, _, low, high = figures
    if f"{at_half:.3f}" == f"{tuned:.3f}":
        moved = f"{gain['metric']} stays at {tuned:.3f}"
    else:
        moved = f"{gain['metric']} {'falls' if tuned < at_half else 'rises'} from {at_half:.3f} at 0.5 to {tuned:.3f}"
    verdict = "Worth it" if gain["is_worth_it"] else "Not worth it, as far as these images tell"
    how = f"Cross-fitted on {gain['num_images']:,} images; the gain is {low:+.3f} to {high:+.3f}."
    text = f"{verdict}: {moved}.\n{how}"
    if "asked" not in gain:
        return text
    asked, reached = gain["asked"], gain["reached"]
    shown = "nothing to measure" if reached is None or math.isnan(reached) else f"{reached:.3f}"
    return f"{text} Asked: {asked['metric']} of at least {asked['at_least']:.3g}; reached: {shown}."


def describe_policy(report: Report) -> list[str]:
    """Return what else decides: what the choice of thresholds brought, calibration, rules and who is asked."""
    policy = report.policy
    sentences = []
    if policy.get("gain"):
        sentences.append(f"When the thresholds were chosen: {describe_gain(policy['goal'], policy['gain'])}")
    if "calibration" in policy:
        sentences.append(
            f"Probabilities are calibrated before they are shown and compared (method: {policy['calibration']})."
        )
    if "rules" in policy:
        rules = policy["rules"]
        shown = join_names([f"“{make_printable(shorten(rule, 120))}”" for rule in rules])
        sentences.append(f"Every answer keeps {count(len(rules), 'rule')}: {shown}.")
    if "abstention" in policy:
        asked = policy["abstention"]
        sentences.append(
            f"Images in doubt (by {asked['by']}) go to a person: {format_share(asked['share'])} of those that the "
            "thresholds were chosen on. Their answers count here like all others."
        )
    return sentences


def describe_baselines(report: Report) -> str:
    """Return what the two baselines are, and where the prior comes from."""
    where = "in the training part" if report.prior_from == PRIOR_FROM_TRAINING else "in these very images"
    return (
        "No label: gives no image any label. By frequency: gives every image the share of images that show each label "
        f"{where}, and the label where that is at least 0.5. Neither looks at the image."
    )


def warn(report: Report) -> list[str]:
    """Return what makes the numbers worth less than they look, the gravest first; nothing when there is nothing."""
    warnings = []
    if report.judged_on_tuning_data:
        warnings.append(
            "These numbers flatter: the thresholds were chosen on these very images. Judge the model on images that "
            "neither training nor tuning has seen."
        )
    ranking = report.metrics["average_precision_macro"]
    prior = report.baselines["prior"]["average_precision_macro"]
    if ranking.low <= prior:
        warnings.append(
            f"The model is not clearly better than guessing by frequency: its mean average precision may be as low as "
            f"{format_value(ranking.low)}, and guessing reaches {format_value(prior)}."
        )
    given = sum(row["true_positives"] + row["false_positives"] for row in report.labels)
    wanted = sum(row["num_positive"] for row in report.labels)
    if given == 0 and wanted > 0:
        warnings.append("The model gave no label to any image: the thresholds are too high, or it learnt nothing.")
    if report.undefined:
        names = join_names([make_printable(shorten(name, 40)) for name in report.undefined])
        warnings.append(
            f"{len(report.undefined):,} of {count(report.num_labels, 'label')} cannot be judged in full, for want of a "
            f"known positive or a known negative: {names}. A mean leaves out the labels that have no value."
        )
    known = share_known(report)
    if known < 1:
        warnings.append(f"The truth is known for {format_share(known)} of the cells; the others count nowhere.")
    if report.skipped:
        warnings.append(f"{count(len(report.skipped), 'image')} could not be used and count nowhere.")
    return warnings


def shorten(text: str, length: int) -> str:
    """Return the text, or its beginning and an ellipsis where it is longer than `length` characters.

    Example:
        >>> shorten("golden retriever", 8), shorten("dog", 8)
        ('golden …', 'dog')
    """
    return text if len(text) <= length else text[: length - 1] + "…"


def order_by_prevalence(report: Report) -> list[int]:
    """Return the places of the label rows from the most prevalent label to the rarest; labels known nowhere last."""

    def rank(place: int) -> tuple[bool, float]:
        row = report.labels[place]
        is_unknown = row["num_known"] == 0
        return is_unknown, 0.0 if is_unknown else -row["num_positive"] / row["num_known"]

    return sorted(range(len(report.labels)), key=rank)


def describe_strengths(report: Report) -> str:
    """Return which labels the model knows best and worst, by average precision; "" where too few can be told apart."""
    judged = [
        row
        for row in report.labels
        if row["num_positive"] >= _LEAST_POSITIVES and not math.isnan(row["average_precision"])
    ]
    if len(judged) < 2:
        return ""
    ordered = sorted(judged, key=lambda row: -row["average_precision"])
    num_named = min(_NUM_NAMED, len(ordered) // 2)
    best, worst = (
        ", ".join(
            f"{make_printable(shorten(row['label'], 40))} ({format_value(row['average_precision'], 2)})" for row in rows
        )
        for rows in (ordered[:num_named], ordered[: -num_named - 1 : -1])
    )
    return (
        f"By average precision it knows {best} best and {worst} worst, among the "
        f"{count(len(judged), 'label')} with at least {_LEAST_POSITIVES} images."
    )


def describe_sizes(report: Report) -> str:
    """Return how many labels an image has, in truth and by the answers."""
    details = report.details
    true, given = (_mean_size(counts) for counts in (details.num_true_labels, details.num_given_labels))
    none_true, none_given = (
        format_share(_share_of(counts, 0)) for counts in (details.num_true_labels, details.num_given_labels)
    )
    return (
        f"An image truly has {format_value(true, 2)} labels and is given {format_value(given, 2)}; {none_true} of the "
        f"images truly have none, {none_given} are given none."
    )


def _mean_size(counts: Sequence[int]) -> float:
    num_images = sum(counts)
    return sum(size * number for size, number in enumerate(counts)) / num_images if num_images else math.nan


def _share_of(counts: Sequence[int], place: int) -> float:
    total = sum(counts)
    return counts[place] / total if total else math.nan


def describe_calibration(report: Report) -> str:
    """Return whether the probabilities say too much or too little, as far as one sentence can."""
    pooled = report.details.reliability.pooled()
    num = int(pooled.num_LB.sum())
    error = format_value(report.metrics["expected_calibration_error"].value)
    if num == 0:
        return "No truth is known, so nothing can be said of the probabilities."
    promised = float((pooled.num_LB * np.nan_to_num(pooled.mean_LB)).sum() / num)
    seen = float(pooled.num_true_LB.sum() / num)
    if abs(promised - seen) <= 0.1 * seen:
        verdict = "On the whole the probabilities promise as much as comes true"
    else:
        verdict = f"On the whole the probabilities promise {'more' if promised > seen else 'less'} than comes true"
    return (
        f"{verdict}: on average {promised:.3f} for a label on an image, and {seen:.3f} of them are there. The "
        f"calibration error is {error}, over {pooled.num_LB.shape[1]} equally wide bins of all labels together."
    )
