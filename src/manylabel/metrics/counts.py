"""Right and wrong decisions, counted for each label (or for each image)."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from manylabel.errors import DataError, build_message
from manylabel.metrics.inputs import BoolArray, CountArray, check_decisions
from manylabel.metrics.resampling import each_image_once, sum_over_images


@dataclass(frozen=True)
class ConfusionCounts:
    """How many known cells of each label were decided rightly and wrongly.

    Shapes: L labels. Resampled counts have one axis more, in front; counts per image have images in place of labels.

    Raises:
        DataError: four arrays that differ in shape, or a count below zero.
    """

    true_positives_L: npt.NDArray[np.int64]
    false_positives_L: npt.NDArray[np.int64]
    false_negatives_L: npt.NDArray[np.int64]
    true_negatives_L: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        for field in fields(self):
            counts_L = np.asarray(getattr(self, field.name), np.int64)
            object.__setattr__(self, field.name, counts_L)
            if counts_L.shape != self.true_positives_L.shape:
                raise DataError(
                    build_message(
                        field.name, "wrong shape", got=counts_L.shape, expected=f"{self.true_positives_L.shape}"
                    )
                )
            if (counts_L < 0).any():
                raise DataError(build_message(field.name, "a count below zero", got=int(counts_L.min())))

    @property
    def num_known_L(self) -> npt.NDArray[np.int64]:
        """How many images have a known truth for the label."""
        return self.num_positive_L + self.false_positives_L + self.true_negatives_L

    @property
    def num_positive_L(self) -> npt.NDArray[np.int64]:
        """How many images truly show the label."""
        return self.true_positives_L + self.false_negatives_L

    def pooled(self) -> ConfusionCounts:
        """Return the counts of all labels together, as if there were one label: what micro averages are made of.

        Example:
            >>> one = np.ones(3, int)
            >>> ConfusionCounts(one, one, one, one).pooled().true_positives_L
            array([3])
        """
        return ConfusionCounts(*(getattr(self, field.name).sum(axis=-1, keepdims=True) for field in fields(self)))


def confusion_counts(
    decisions_NL: BoolArray, truth_NL: BoolArray, known_NL: BoolArray | None = None
) -> ConfusionCounts:
    """Return for each label how many known cells were decided rightly and wrongly.

    Shapes: N images, L labels.

    Args:
        decisions_NL: True where the label was given to the image.
        truth_NL: True where the image shows the label.
        known_NL: False where nobody knows; such cells never count. None when all are known.

    Raises:
        DataError: shapes that differ, or values other than True and False.

    Example:
        >>> counts = confusion_counts(np.array([[True], [True], [False]]), np.array([[True], [False], [False]]))
        >>> counts.true_positives_L, counts.false_positives_L, counts.true_negatives_L
        (array([1]), array([1]), array([1]))
    """
    checked = check_decisions(decisions_NL, truth_NL, known_NL)
    resampled = resampled_confusion_counts(*checked, each_image_once(len(checked[0])))
    return ConfusionCounts(*(getattr(resampled, field.name)[0] for field in fields(resampled)))


def resampled_confusion_counts(
    decisions_NL: BoolArray, truth_NL: BoolArray, known_NL: BoolArray, copies_RN: CountArray
) -> ConfusionCounts:
    """Return the counts per label of every resample, from inputs that are checked.

    Shapes: R resamples, N images, L labels -> counts of shape R, L.
    """
    return _build_counts(
        sum_over_images(decisions_NL & truth_NL, copies_RN),
        sum_over_images(decisions_NL, copies_RN),
        sum_over_images(truth_NL, copies_RN),
        sum_over_images(known_NL, copies_RN),
    )


def confusion_counts_per_image(decisions_NL: BoolArray, truth_NL: BoolArray, known_NL: BoolArray) -> ConfusionCounts:
    """Return the counts of every image over its known labels, from inputs that are checked.

    Shapes: N images, L labels -> counts of shape N.
    """
    return _build_counts(
        np.count_nonzero(decisions_NL & truth_NL, axis=1),
        np.count_nonzero(decisions_NL, axis=1),
        np.count_nonzero(truth_NL, axis=1),
        np.count_nonzero(known_NL, axis=1),
    )


def _build_counts(
    hits: npt.ArrayLike, decided: npt.ArrayLike, positive: npt.ArrayLike, known: npt.ArrayLike
) -> ConfusionCounts:
    hits, decided, positive, known = (np.asarray(counts, np.int64) for counts in (hits, decided, positive, known))
    return ConfusionCounts(hits, decided - hits, positive - hits, known - decided - positive + hits)
