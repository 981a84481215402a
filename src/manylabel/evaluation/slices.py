"""The same model on parts of the images: by camera, by place, by any column of the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from manylabel.decisions.policy import DecisionPolicy
from manylabel.errors import DataError, build_message
from manylabel.evaluation.evaluate import Interval, Slice
from manylabel.labels.groups import NO_GROUPS, number_groups
from manylabel.labels.predictions import Predictions
from manylabel.metrics.intervals import DEFAULT_CONFIDENCE, DEFAULT_NUM_RESAMPLES
from manylabel.metrics.summary import summarise_with_intervals

SLICED_METRICS = (
    "average_precision_macro", "f1_macro", "f1_micro", "precision_micro", "recall_micro", "subset_accuracy",
)  # fmt: skip
"""The few metrics of each part; means over labels are over those that the part shows."""

MAX_SLICES = 100
"""A column with more values names images rather than parts of them."""


def slice_predictions(
    predictions: Predictions,
    policy: DecisionPolicy,
    column: str,
    value_of: Mapping[str, str],
    *,
    group_of: Mapping[str, str] = NO_GROUPS,
    num_resamples: int = DEFAULT_NUM_RESAMPLES,
    confidence: float = DEFAULT_CONFIDENCE,
    seed: int = 0,
) -> tuple[Slice, ...]:
    """Return the metrics of the images of each value, the most frequent value first.

    Args:
        predictions: with their truth.
        policy: how they become decisions.
        column: what the values are called.
        value_of: image to value; an image without one, or with "", is a value of its own.
        group_of, num_resamples, confidence, seed: as in `evaluate_predictions`.

    Raises:
        DataError: no truth, or more values than MAX_SLICES.
    """
    if predictions.targets is None:
        raise DataError(
            build_message("predictions", "there is no truth to compare with", do="Predict images with labels")
        )
    values = [value_of.get(image, "") for image in predictions.images]
    counted = Counter(values).most_common()
    if len(counted) > MAX_SLICES:
        raise DataError(
            build_message(
                f"--slice {column}",
                f"the column has {len(counted):,} values",
                expected=f"at most {MAX_SLICES}",
                do="Name a column that says what kind an image is",
            )
        )
    slices = []
    for value, num_images in counted:
        part = predictions.select(
            [image for image, its in zip(predictions.images, values, strict=True) if its == value]
        )
        assert part.targets is not None
        summary = summarise_with_intervals(
            part.probs_NL,
            policy.decide(part.probs_NL),
            part.targets.present_NL(),
            part.targets.known_NL(),
            num_resamples=num_resamples,
            confidence=confidence,
            seed=seed,
            group_N=number_groups(part.images, group_of),
        )
        metrics = {name: Interval(**summary[name]) for name in SLICED_METRICS}
        slices.append(Slice(column, value, num_images, metrics))
    return tuple(slices)
