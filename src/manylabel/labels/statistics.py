"""What a table of labels looks like in numbers: how often, how many together, how uneven."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.labels.targets import Targets

FloatArray = npt.NDArray[np.float64]

_CHUNK_ROWS = 16_384


def prevalence(targets: Targets) -> FloatArray:
    """Return the share of images that have each label among those where it is known.

    Returns: [L], 0 to 1; NaN for a label that is known nowhere.
    """
    num_known_L = targets.num_known_L
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(num_known_L > 0, targets.num_present_L / num_known_L, np.nan)


def co_occurrence(targets: Targets) -> npt.NDArray[np.int64]:
    """Return how many images have both labels of each pair.

    Returns: [L, L], symmetric; the diagonal counts the images of each label.
    """
    total_LL = np.zeros((targets.num_labels, targets.num_labels))
    for start in range(0, len(targets), _CHUNK_ROWS):
        present_BL = targets.present_NL(slice(start, start + _CHUNK_ROWS)).astype(np.float32)
        total_LL += present_BL.T @ present_BL  # exact: a chunk's counts stay below 2**24
    return total_LL.astype(np.int64)


@dataclass(frozen=True)
class LabelStatistics:
    """The figures of one table that `inspect` and a report show.

    `cardinality` is the mean number of present labels per image, `density` the same over the number of labels, and
    `imbalance_ratio` the most frequent label's count over the rarest one's that occurs at all; NaN without any.
    `num_without_labels` counts the images that are known to have none: an image with an unknown cell may have one.

    Source: Tsoumakas and Katakis 2007 (cardinality, density); Charte et al. 2015 (imbalance ratio per label, of which
        this is the largest over labels that occur).
    """

    num_images: int
    num_labels: int
    num_present: int
    num_unknown: int
    num_without_labels: int
    cardinality: float
    density: float
    imbalance_ratio: float
    cardinality_counts: tuple[int, ...]
    """How many images have 0, 1, 2, ... present labels, whatever is unknown of them."""


def describe_targets(targets: Targets) -> LabelStatistics:
    """Return the statistics of a table."""
    num_images, num_labels = targets.shape
    num_present_L = targets.num_present_L
    sizes_N = targets.num_present_N
    is_bare_N = (sizes_N == 0) & (targets.num_known_N == num_labels)
    num_present = int(num_present_L.sum())
    occurring = num_present_L[num_present_L > 0]
    cardinality = num_present / num_images if num_images else float("nan")
    return LabelStatistics(
        num_images=num_images,
        num_labels=num_labels,
        num_present=num_present,
        num_unknown=int(targets.num_unknown_L.sum()),
        num_without_labels=int(np.count_nonzero(is_bare_N)),
        cardinality=cardinality,
        density=cardinality / num_labels,
        imbalance_ratio=float(occurring.max() / occurring.min()) if occurring.size else float("nan"),
        cardinality_counts=tuple(int(count) for count in np.bincount(sizes_N)),
    )
