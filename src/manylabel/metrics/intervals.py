"""How far a metric could have moved had other images of the same kind been evaluated.

Images (or groups of images that belong together) are drawn with replacement, whole rows at a time, because the labels
of one image belong together. The interval is not the middle of the resampled values, which sits too high for average
precision: an image that a resample repeats vouches for itself. As far as the resamples lie above the data on average,
the data lie above the truth, and that is taken off; the width comes from the spread of the resamples, on the scale of
log-odds for a metric between 0 and 1.

A mean over labels needs more, since a label with one positive image moves in no resample that has it: labels of few
positives share one bias and one variance, both taken to fall as 1 / positives (see `spread_of_mean`). What was tried
and what it covers is in docs/experiments.md.

Source: Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 10 for the bias; Satterthwaite, "An
approximate distribution of estimates of variance components", 1946, for the degrees of freedom. The sharing is ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from manylabel.errors import ConfigError, DataError, build_message
from manylabel.metrics.averaging import fraction
from manylabel.metrics.counts import ConfusionCounts
from manylabel.metrics.inputs import CountArray, FloatArray

Float64Array = npt.NDArray[np.float64]

DEFAULT_NUM_RESAMPLES = 200
DEFAULT_CONFIDENCE = 0.95

FEW_POSITIVES = 10
"""Labels with at most so many positives share their bias and variance."""

_SKEW = 3
"""A variance found from skewed values is as unsure as one from a third as many; found in docs/experiments.md."""

_MANY_POSITIVES = 30
"""From so many on, resamples spread as much as samples do."""


@dataclass(frozen=True)
class Spread:
    """How a value would vary with the images: how far it lies too high, its standard deviation, and how sure that is.

    NaN where no resample has a value.
    """

    bias: float
    deviation: float
    degrees_of_freedom: float = math.inf


def draw_copies(
    num_images: int,
    num_resamples: int = DEFAULT_NUM_RESAMPLES,
    seed: int = 0,
    group_N: npt.NDArray[np.integer] | None = None,
) -> npt.NDArray[np.uint16]:
    """Return how many times each image stands in each of some resamples, drawn with replacement.

    The same seed gives the same resamples: score two models on them and their differences are paired.

    Shapes: R resamples, N images. Without groups every row sums to N.

    Args:
        group_N: a number from 0 up for the group of each image; whole groups are drawn, as many as there are.

    Raises:
        ConfigError: fewer than one resample.
        DataError: not one group per image.

    Example:
        >>> draw_copies(4, num_resamples=2, seed=0).sum(axis=1).tolist()
        [4, 4]
        >>> copies_RN = draw_copies(4, num_resamples=9, group_N=np.array([0, 0, 1, 1]))
        >>> bool((copies_RN[:, 0] == copies_RN[:, 1]).all())
        True
    """
    if num_resamples < 1:
        raise ConfigError(build_message("num_resamples", "too few", got=num_resamples, expected="1 or more"))
    if group_N is not None:
        if np.shape(group_N) != (num_images,):
            raise DataError(
                build_message(
                    "group_N", "wrong shape", got=np.shape(group_N), expected=f"({num_images},) as the images"
                )
            )
        present, group_N = np.unique(group_N, return_inverse=True)
        return draw_copies(len(present), num_resamples, seed)[:, group_N]
    generator = np.random.default_rng(seed)
    # Two bytes are enough: how often one image is drawn is about Poisson distributed with mean 1.
    copies_RN = np.zeros((num_resamples, num_images), np.uint16)
    if num_images > 0:
        for copies_N in copies_RN:
            copies_N[:] = np.bincount(generator.integers(num_images, size=num_images), minlength=num_images)
    return copies_RN


def spread_of_value(value: float, values_R: FloatArray) -> Spread:
    """Return bias and deviation of a value from its resamples; those that leave it undefined (NaN) are left out.

    Shapes: R resamples.

    Example:
        >>> spread_of_value(0.5, np.array([0.5, 1.0, 0.0, np.nan]))
        Spread(bias=0.0, deviation=0.5, degrees_of_freedom=inf)
    """
    defined = values_R[~np.isnan(values_R)]
    if math.isnan(value) or defined.size == 0:
        return Spread(math.nan, math.nan)
    deviation = float(defined.std(ddof=1)) if defined.size > 1 else 0.0
    return Spread(float(defined.mean()) - value, deviation)


def spread_of_mean(values_L: FloatArray, values_RL: FloatArray, support_L: CountArray) -> Spread:
    """Return bias and deviation of the mean over the labels that have a value.

    Of a label with few positives the resamples say little: with one positive they do not move at all. Labels with at
    most FEW_POSITIVES share what they know: bias and variance are taken to be proportional to 1 / positives, with one
    factor for all of them, found where there are at least two. A resample without the label leaves its value unmoved.

    Shapes: R resamples, L labels.

    Args:
        values_L: the metric of each label, NaN where undefined.
        values_RL: the same in each resample.
        support_L: how many independent images (or groups) the value of each label rests on: its positives.
    """
    is_defined_L = ~np.isnan(values_L) & ~np.isnan(values_RL).all(axis=0)
    if not is_defined_L.any():
        return Spread(math.nan, math.nan)
    values_L, values_RL = values_L[is_defined_L], values_RL[:, is_defined_L]
    support_L = np.maximum(support_L[is_defined_L], 1)
    means_L = np.nanmean(values_RL, axis=0)
    share_defined_L = 1 - np.isnan(values_RL).mean(axis=0)
    widen_L = np.sqrt(_find_shrinkage(support_L) / share_defined_L)
    moves_RL = np.where(np.isnan(values_RL), 0, (values_RL - means_L) * widen_L)
    bias_L = means_L - values_L
    own_variance_L = moves_RL.var(axis=0, ddof=1) if len(moves_RL) > 1 else np.zeros(len(values_L))
    variance_L = own_variance_L.copy()
    is_rare_L = support_L <= FEW_POSITIVES
    is_giver_L = is_rare_L & (support_L >= 2)
    if is_giver_L.any():
        bias_L = np.where(is_rare_L, (bias_L * support_L)[is_giver_L].mean() / support_L, bias_L)
        variance_L = np.where(is_rare_L, (variance_L * support_L)[is_giver_L].mean() / support_L, variance_L)
    # Labels move together, since they share images: what the sharing changes comes on top of that.
    together = float(moves_RL.mean(axis=1).var(ddof=1)) if len(moves_RL) > 1 else 0.0
    variance = together + float((variance_L - own_variance_L).sum()) / len(values_L) ** 2
    degrees = _find_degrees_of_freedom(variance_L, support_L, is_rare_L)
    return Spread(float(bias_L.mean()), math.sqrt(max(variance, 0.0)), degrees)


def find_interval(
    value: float, spread: Spread, confidence: float, lowest: float = 0.0, highest: float = 1.0
) -> tuple[float, float]:
    """Return the limits that hold the true value with this confidence; the value lies between them.

    Args:
        value: what the data say.
        spread: see `spread_of_value` and `spread_of_mean`.
        confidence: such as 0.95.
        lowest, highest: what the metric can be; the highest may be infinite.

    Returns:
        low and high; both NaN where the value is undefined or no resample has one.

    Raises:
        ConfigError: a confidence that is not between 0 and 1.

    Example:
        >>> low, high = find_interval(0.8, Spread(bias=0.0, deviation=0.02), confidence=0.9)
        >>> round(low, 3), round(high, 3)
        (0.765, 0.831)
    """
    check_confidence(confidence)
    if math.isnan(value) or math.isnan(spread.deviation):
        return math.nan, math.nan
    if spread.deviation == 0:
        return value, value
    reach = find_quantile(confidence, spread.degrees_of_freedom) * spread.deviation
    centre = value - spread.bias
    if math.isinf(lowest) or math.isinf(highest):
        return max(lowest, min(value, centre - reach)), min(highest, max(value, centre + reach))
    scale = highest - lowest
    # Log-odds are infinite at the ends: the centre stays a standard deviation away from them.
    margin = min(spread.deviation / scale, 0.5)
    share = min(max((centre - lowest) / scale, margin), 1 - margin)
    log_odds, log_reach = math.log(share / (1 - share)), reach / scale / (share * (1 - share))
    low, high = (lowest + scale * _expit(log_odds + sign * log_reach) for sign in (-1, 1))
    return min(low, value), max(high, value)


def find_quantile(confidence: float, degrees_of_freedom: float = math.inf) -> float:
    """Return how many standard deviations lie on either side for this confidence, by Student's distribution.

    Example:
        >>> round(find_quantile(0.95), 3), round(find_quantile(0.95, 10), 2)
        (1.96, 2.23)

    Source: Cornish and Fisher's expansion in Abramowitz and Stegun, 26.7.5, cut after the second term: below one in a
        hundred off from 4 degrees of freedom on.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    if math.isinf(degrees_of_freedom):
        return z
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / degrees_of_freedom + second / degrees_of_freedom**2


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


def wilson_interval(num_true: CountArray, num: CountArray, confidence: float) -> tuple[Float64Array, Float64Array]:
    """Return the limits between which a share lies of which `num_true` of `num` were seen; NaN where `num` is 0.

    Example:
        >>> low, high = wilson_interval(np.array([5]), np.array([10]), 0.95)
        >>> low.round(3), high.round(3)
        (array([0.237]), array([0.763]))

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = fraction(num_true, num)
    middle = fraction(num_true + z * z / 2, num + z * z)
    half = np.sqrt(share * (1 - share) * num + z * z / 4) * z / (num + z * z)
    defined = ~np.isnan(share)
    return np.where(defined, middle - half, math.nan), np.where(defined, middle + half, math.nan)


def find_label_intervals(counts: ConfusionCounts, confidence: float) -> dict[str, tuple[Float64Array, Float64Array]]:
    """Return the limits of precision, recall and F1 of each label; NaN where the value is undefined.

    Resampling says nothing of a label with one or two images, so these are Wilson's intervals: of the given ones, of
    the present ones, and of those that are either, the share J that is both; F1 is 2 J / (1 + J). Each image counts as
    independent of the others.

    Shapes: counts of L labels -> low and high [L].

    Example:
        >>> counts = ConfusionCounts(*(np.array([number]) for number in (3, 1, 0, 6)))
        >>> low, high = find_label_intervals(counts, 0.95)["recall"]
        >>> low.round(2), high.round(2)
        (array([0.44]), array([1.]))
    """
    hits_L, wrong_L, missed_L = counts.true_positives_L, counts.false_positives_L, counts.false_negatives_L
    low_L, high_L = wilson_interval(hits_L, hits_L + wrong_L + missed_L, confidence)
    return {
        "precision": wilson_interval(hits_L, hits_L + wrong_L, confidence),
        "recall": wilson_interval(hits_L, hits_L + missed_L, confidence),
        "f1": (2 * low_L / (1 + low_L), 2 * high_L / (1 + high_L)),
    }


def _find_shrinkage(support_L: CountArray) -> npt.NDArray[np.float64]:
    """Return the factor by which the variance over resamples is too small for labels of few positives.

    The mean over P images varies by 1 / (P - 1) of their variance about their own mean; in a resample, which holds a
    Poisson number of them, by the mean of 1 / that number. With one positive neither says anything: the factor is 1.
    """
    table = np.ones(_MANY_POSITIVES)
    for support in range(2, _MANY_POSITIVES):
        drawn = np.arange(1, 5 * _MANY_POSITIVES)
        log_weights = drawn * math.log(support) - np.cumsum(np.log(drawn))
        weights = np.exp(log_weights - log_weights.max())
        table[support] = max(1.0, 1 / ((support - 1) * float((weights / drawn).sum() / weights.sum())))
    return np.where(support_L < _MANY_POSITIVES, table[np.minimum(support_L, _MANY_POSITIVES - 1)], 1.0)


def _find_degrees_of_freedom(variance_L: FloatArray, support_L: CountArray, is_rare_L: npt.NDArray[np.bool_]) -> float:
    """Return how many independent moves the variance of the mean rests on; labels that share theirs count as one."""
    moves_L = np.maximum(support_L - 1, 1)
    shared_moves = max(1, int((support_L[is_rare_L] - 1).sum()))
    doubt = float((variance_L[~is_rare_L] ** 2 / moves_L[~is_rare_L]).sum())
    doubt += float(variance_L[is_rare_L].sum()) ** 2 / shared_moves
    return math.inf if doubt == 0 else max(4.0, float(variance_L.sum()) ** 2 / (_SKEW * doubt))


def _expit(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0
