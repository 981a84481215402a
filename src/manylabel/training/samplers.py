"""Samplers for label sets: which images an epoch shows, and how often, so that rare labels are seen more.

All show as many images an epoch as the table has, and draw by seed and epoch only. An unknown cell is no reason to
show an image, nor against it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.errors import ConfigError, build_message, join_names, suggest_name
from manylabel.labels.space import LabelSpace
from manylabel.labels.statistics import prevalence
from manylabel.labels.targets import Targets
from manylabel.training.config import SAMPLERS

FloatArray = npt.NDArray[np.float64]

_THRESHOLD = 0.1
_MOST_ROWS, _NAME_WIDTH = 10, 40
_CHUNK_ROWS = 16_384
_WEIGHTING_LOSSES = ("weighted_bce", "class_balanced", "distribution_balanced")
"""The losses that weigh rare labels more themselves."""


@dataclass(frozen=True)
class SamplerSettings:
    """A sampler by name; `threshold` is the share of images below which `repeat` shows a label's images more often."""

    name: str = "shuffle"
    threshold: float = _THRESHOLD


def parse_sampler(text: str) -> SamplerSettings:
    """Read `balanced`, or `repeat,threshold=0.05`.

    Raises:
        ConfigError: no such sampler or setting, or a threshold outside 0 to 1.

    Example:
        >>> parse_sampler("repeat,threshold=0.05")
        SamplerSettings(name='repeat', threshold=0.05)
    """
    name, *changes = [piece.strip() for piece in text.split(",")]
    if name not in SAMPLERS:
        problem = f"unknown sampler {name!r}{suggest_name(name, SAMPLERS)}"
        raise ConfigError(build_message("sampler", problem, expected=join_names(SAMPLERS)))
    names = ["threshold"] if name == "repeat" else []
    threshold = _THRESHOLD
    for change in changes:
        key, _, value = (piece.strip() for piece in change.partition("="))
        if key not in names:
            problem = f"{name} has no setting {key!r}{suggest_name(key, names)}"
            raise ConfigError(build_message("sampler", problem, expected=join_names(names) if names else "none"))
        try:
            threshold = float(value)
        except ValueError as error:
            raise ConfigError(build_message("sampler threshold", "not a number", got=value)) from error
        if not 0 < threshold <= 1:
            raise ConfigError(
                build_message("sampler threshold", "out of range", got=threshold, expected="above 0 to 1")
            )
    return SamplerSettings(name, threshold)


def weigh_images(settings: SamplerSettings, targets: Targets) -> FloatArray | None:
    """Return how often an epoch shows each image on average; None where each is shown once.

    Shapes: [N], above 0 for all but nothing, with the sum N.
    """
    weigh = _WEIGHINGS[settings.name]
    if weigh is None:
        return None
    weights_N = weigh(targets, settings)
    weights_N *= len(targets) / weights_N.sum()
    return weights_N


def weigh_by_repeat_factor(targets: Targets, settings: SamplerSettings) -> FloatArray:
    """Return sqrt(threshold / share) of the rarest present label of each image, at least 1.

    Shapes: [N].

    Source: Gupta, Dollar and Girshick 2019, "LVIS", section 5. There an epoch grows; here the factors are scaled to
        the number of images, so that every epoch has as many steps.
    """
    shares_L = prevalence(targets)
    factors_L = np.sqrt(settings.threshold / np.where(shares_L > 0, shares_L, settings.threshold))
    weights_N = np.ones(len(targets))
    for column in range(targets.num_labels):
        rows = targets.present_rows(column)
        weights_N[rows] = np.maximum(weights_N[rows], factors_L[column])
    return weights_N


def weigh_by_balance(targets: Targets, _: SamplerSettings) -> FloatArray:
    """Return weights by which each label is drawn equally often, and then one of its images.

    An image is also seen for the other labels that it has, so that the shares come out more even, not equal. Images
    without a present label keep the share that they have.

    Shapes: [N].
    """
    weights_N = np.zeros(len(targets))
    for column in range(targets.num_labels):
        rows = targets.present_rows(column)
        weights_N[rows] += 1 / max(len(rows), 1)
    is_bare_N = weights_N == 0
    weights_N *= (~is_bare_N).sum() / max(weights_N.sum(), 1e-12)
    weights_N[is_bare_N] = 1
    return weights_N


_WEIGHINGS: Mapping[str, Callable[[Targets, SamplerSettings], FloatArray] | None] = {
    "shuffle": None,
    "repeat": weigh_by_repeat_factor,
    "balanced": weigh_by_balance,
}


def draw_rows(weights_N: FloatArray, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return as many rows as there are weights, each row its weight times: rounded up or down by chance.

    Systematic sampling: one random start, then equal steps along the weights in a random order, which is also the
    order of the epoch after another shuffle. A weight of 2.3 is drawn twice or three times, never more or less.

    Source: Madow 1949, "On the theory of systematic sampling, II".
    """
    num_images = len(weights_N)
    order_N = rng.permutation(num_images)
    ends_N = np.cumsum(weights_N[order_N]) * (num_images / weights_N.sum())
    places = np.arange(num_images) + rng.random()
    drawn = np.minimum(np.searchsorted(ends_N, places, side="right"), num_images - 1)
    return rng.permutation(order_N[drawn])


def describe_sampling(weights_N: FloatArray, targets: Targets, space: LabelSpace) -> str:
    """Return a table of labels with their share of the images shown, before and after; the largest changes first."""
    before_L = prevalence(targets)
    present_L, known_L = np.zeros(targets.num_labels), np.zeros(targets.num_labels)
    for start in range(0, len(targets), _CHUNK_ROWS):
        chunk = slice(start, start + _CHUNK_ROWS)
        present_L += weights_N[chunk] @ targets.present_NL(chunk)
        known_L += weights_N[chunk] @ targets.known_NL(chunk)
    after_L = present_L / np.maximum(known_L, 1e-12)
    change_L = np.nan_to_num(np.abs(np.log(np.maximum(after_L, 1e-12) / np.maximum(before_L, 1e-12))))
    rows = np.argsort(-change_L, kind="stable")[:_MOST_ROWS]
    lines = [f"{'label':<{_NAME_WIDTH}} {'share before':>14} {'share shown':>14}"]
    for row in rows:
        name = space.names[row]
        short = name if len(name) <= _NAME_WIDTH else name[: _NAME_WIDTH - 3] + "..."
        lines.append(f"{short:<{_NAME_WIDTH}} {before_L[row]:>14.2%} {after_L[row]:>14.2%}")
    if targets.num_labels > len(rows):
        lines.append(f"and {targets.num_labels - len(rows)} labels that change less")
    return "\n".join(lines)


def describe_double_weighting(settings: SamplerSettings, loss: str) -> str:
    """Return a warning where sampler and loss both favour rare labels, else nothing."""
    name = loss.split(",")[0]
    if settings.name == "shuffle" or name not in _WEIGHTING_LOSSES:
        return ""
    return (
        f"Warning: the sampler {settings.name} shows rare labels more and the loss {name} weighs them more, so they "
        "count twice. Use --sampler shuffle, or --loss bce."
    )
