"""How far a metric could have moved had other images of the same kind been evaluated: the percentile bootstrap.

Images are drawn with replacement, whole rows at a time, because the labels of one image belong together.

Source: Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from manylabel.errors import ConfigError, build_message

DEFAULT_NUM_RESAMPLES = 200
DEFAULT_CONFIDENCE = 0.95


def draw_copies(num_images: int, num_resamples: int = DEFAULT_NUM_RESAMPLES, seed: int = 0) -> npt.NDArray[np.uint16]:
    """Return how many times each image stands in each of some resamples, drawn with replacement.

    The same seed gives the same resamples: score two models on them and their differences are paired.

    Shapes: R resamples, N images. Every row sums to N.

    Raises:
        ConfigError: fewer than one resample.

    Example:
        >>> draw_copies(4, num_resamples=2, seed=0).sum(axis=1).tolist()
        [4, 4]
    """
    if num_resamples < 1:
        raise ConfigError(build_message("num_resamples", "too few", got=num_resamples, expected="1 or more"))
    generator = np.random.default_rng(seed)
    # Two bytes are enough: how often one image is drawn is about Poisson distributed with mean 1.
    copies_RN = np.zeros((num_resamples, num_images), np.uint16)
    if num_images > 0:
        for copies_N in copies_RN:
            copies_N[:] = np.bincount(generator.integers(num_images, size=num_images), minlength=num_images)
    return copies_RN


def percentile_interval(values_R: npt.NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Return the limits between which the middle `confidence` part of the resampled values lies.

    Resamples in which the metric is undefined (NaN) are left out.

    Shapes: R resamples.

    Returns:
        low and high; both NaN when no resample has a value.

    Raises:
        ConfigError: a confidence that is not between 0 and 1.

    Example:
        >>> percentile_interval(np.array([1, 2, 3, np.nan]), confidence=0.5)
        (1.5, 2.5)
    """
    check_confidence(confidence)
    defined = values_R[~np.isnan(values_R)]
    if defined.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def check_confidence(confidence: float) -> None:
    """Raise unless the confidence lies strictly between 0 and 1.

    Raises:
        ConfigError: it does not.
    """
    if not 0 < confidence < 1:
        raise ConfigError(
            build_message(
                "confidence", "not a share", got=confidence, expected="a number between 0 and 1, such as 0.95"
            )
        )
