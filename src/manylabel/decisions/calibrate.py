"""Calibration: from what a network says to probabilities that come true as often as they say.

All methods but `isotonic` are one curve with three numbers per label, `sigmoid(a ln p - b ln(1 - p) + c)`:
`temperature` has one a = b for all labels, `platt` an own a = b and c, `beta` own a, b and c. `isotonic` is a rising
curve of straight pieces. An own curve is drawn towards the common one, the more, the fewer images show what it should
be.

Source: Guo et al., "On calibration of modern neural networks", 2017 (temperature); Platt, "Probabilistic outputs for
    support vector machines", 1999; Kull, Silva Filho and Flach, "Beta calibration", 2017; Zadrozny and Elkan,
    "Transforming classifier scores into accurate multiclass probability estimates", 2002 (isotonic). Ours: the prior
    that draws a label's curve to the common one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.errors import BundleError, build_message, join_names
from manylabel.labels.space import LabelSpace

FloatArray = npt.NDArray[np.floating]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Weights = tuple[float, float, float]
Knots = tuple[tuple[float, ...], tuple[float, ...]]

SMALLEST = 1e-7
"""Probabilities nearer to 0 or 1 count as this near: their logarithm has to be a number."""

MIN_ISOTONIC_POSITIVES = 30
"""Known positives (and negatives) a label needs for an isotonic curve of its own; others share one."""

_EXACT_CELLS = 4096
_LOGIT_RANGE = 16.0
_PRIOR_SLOPE, _PRIOR_SHIFT = 8.0, 2.0
"""How strongly a label's curve is held to the common one: the inverse variance of its slopes and its shift."""
_ROWS_AT_ONCE = 16_384
_NEWTON_STEPS, _NEWTON_TOLERANCE = 50, 1e-10


@dataclass(frozen=True)
class Calibration:
    """How probabilities are changed before anything is decided; rising in every label, so ranks stay (up to ties).

    `weights` holds (a, b, c) for each label, or `knots` the two lists of numbers that `numpy.interp` takes; both are
    empty for `none`.

    Example:
        >>> halved = Calibration("temperature", weights=((0.5, 0.5, 0.0),))
        >>> [round(float(prob), 3) for prob in halved.apply(np.array([[0.9], [0.5]]))[:, 0]]
        [0.75, 0.5]
    """

    method: str = "none"
    weights: tuple[Weights, ...] = ()
    knots: tuple[Knots, ...] = ()

    def apply(self, probs_NL: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return the calibrated probabilities; they are worked out in 64 bits and kept in 32.

        Shapes: N images, L labels; a single image's [L] is fine too.
        """
        probs = np.asarray(probs_NL, np.float32)
        if not self.weights and not self.knots:
            return probs
        rows_NL = probs.reshape(-1, probs.shape[-1])
        changed_NL = np.empty_like(rows_NL)
        for start in range(0, len(rows_NL), _ROWS_AT_ONCE):
            block = slice(start, start + _ROWS_AT_ONCE)
            changed_NL[block] = self._apply_curve(rows_NL[block]) if self.weights else self._interpolate(rows_NL[block])
        return changed_NL.reshape(probs.shape)

    def _apply_curve(self, probs_NL: npt.NDArray[np.float32]) -> Float64Array:
        a_L, b_L, c_L = np.asarray(self.weights, np.float64).T
        clipped_NL = np.clip(probs_NL.astype(np.float64), SMALLEST, 1 - SMALLEST)
        return _sigmoid(a_L * np.log(clipped_NL) - b_L * np.log1p(-clipped_NL) + c_L)

    def _interpolate(self, probs_NL: npt.NDArray[np.float32]) -> Float64Array:
        columns = [np.interp(probs_NL[:, column], *knots) for column, knots in enumerate(self.knots)]
        return np.stack(columns, axis=1)

    def to_dict(self, label_space: LabelSpace) -> dict[str, Any]:
        """Return what the manifest carries: a, b and c, or two lists `from` and `to`, by label."""
        if self.weights:
            by_label = dict(zip(label_space.names, self.weights, strict=True))
            return {"method": self.method, "curves": {name: list(values) for name, values in by_label.items()}}
        pairs = zip(label_space.names, self.knots, strict=True)
        return {"method": self.method, "knots": {name: {"from": list(x), "to": list(y)} for name, (x, y) in pairs}}

    @classmethod
    def from_dict(cls, values: Any, label_space: LabelSpace) -> Calibration:
        """Read what `to_dict` wrote.

        Raises:
            BundleError: it is not for these labels, or holds something else than numbers that rise.
        """
        if not isinstance(values, Mapping) or not {"curves", "knots"} & values.keys():
            raise BundleError(build_message("calibration", "not a table with curves or knots", got=values))
        table = values["curves"] if "curves" in values else values["knots"]
        if not isinstance(table, Mapping) or set(table) != set(label_space.names):
            differing = sorted(set(table) ^ set(label_space.names)) if isinstance(table, Mapping) else [str(table)]
            raise BundleError(
                build_message("calibration", "its curves are not for the model's labels", got=join_names(differing))
            )
        method = str(values.get("method", ""))
        if "curves" in values:
            return cls(method, weights=tuple(_read_weights(name, table[name]) for name in label_space))
        return cls(method, knots=tuple(_read_knots(name, table[name]) for name in label_space))


NO_CALIBRATION = Calibration()


def _read_weights(name: str, values: Any) -> Weights:
    numbers = _read_numbers(name, values)
    if len(numbers) != 3 or numbers[0] < 0 or numbers[1] < 0:
        raise BundleError(
            build_message(f"calibration of {name!r}", "not a rising curve", got=values, expected="a, b (from 0) and c")
        )
    return numbers[0], numbers[1], numbers[2]


def _read_knots(name: str, values: Any) -> Knots:
    if not isinstance(values, Mapping) or not {"from", "to"} <= values.keys():
        raise BundleError(build_message(f"calibration of {name!r}", "not a table with from and to", got=values))
    x, y = _read_numbers(name, values["from"]), _read_numbers(name, values["to"])
    is_rising = len(x) > 0 and len(x) == len(y) and bool(np.all(np.diff(x) > 0) and np.all(np.diff(y) >= 0))
    if not is_rising or not all(0 <= number <= 1 for number in (*x, *y)):
        raise BundleError(
            build_message(f"calibration of {name!r}", "not a curve that rises inside 0 to 1", got=f"{x} to {y}")
        )
    return x, y


def _read_numbers(name: str, values: Any) -> tuple[float, ...]:
    is_list = isinstance(values, list | tuple)
    if not is_list or any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        raise BundleError(build_message(f"calibration of {name!r}", "not a list of numbers", got=values))
    numbers = tuple(float(value) for value in values)
    if not all(np.isfinite(numbers)):
        raise BundleError(build_message(f"calibration of {name!r}", "not finite", got=values))
    return numbers


# ---------------------------------------------------------------------------------------------------------------------
# Fitting.
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cells:
    """The known cells of a label, or of all: probabilities, how many cells have each, and how many of them are true."""

    probs_K: Float64Array
    num_K: Float64Array
    num_true_K: Float64Array

    @property
    def num_positive(self) -> float:
        return float(self.num_true_K.sum())

    @property
    def num_negative(self) -> float:
        return float(self.num_K.sum() - self.num_true_K.sum())


def _collect_cells(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray) -> list[_Cells]:
    """Return the known cells of each label; more than some thousands are gathered where their logits are neighbours."""
    cells = []
    for column in range(truth_NL.shape[1]):
        known_N = known_NL[:, column]
        probs_N = np.clip(probs_NL[known_N, column].astype(np.float64), SMALLEST, 1 - SMALLEST)
        truth_N = truth_NL[known_N, column].astype(np.float64)
        cells.append(
            _Cells(probs_N, np.ones_like(probs_N), truth_N)
            if len(probs_N) <= _EXACT_CELLS
            else _gather(probs_N, truth_N)
        )
    return cells


def _gather(probs_N: Float64Array, truth_N: Float64Array) -> _Cells:
    """Return a few thousand groups of neighbours, each at its mean logit: 0.008 wide, they cost no visible accuracy."""
    logits_N = _logit(probs_N)
    places_N = (np.clip(logits_N / _LOGIT_RANGE, -1, 0.999999) + 1) * (_EXACT_CELLS / 2)
    group_N = places_N.astype(np.int64)
    num_K = np.bincount(group_N, minlength=_EXACT_CELLS).astype(np.float64)
    is_used_K = num_K > 0
    mean_logit_K = np.bincount(group_N, logits_N, minlength=_EXACT_CELLS)[is_used_K] / num_K[is_used_K]
    num_true_K = np.bincount(group_N, truth_N, minlength=_EXACT_CELLS)[is_used_K].astype(np.float64)
    return _Cells(_sigmoid(mean_logit_K), num_K[is_used_K], num_true_K)


def _pool(cells: list[_Cells]) -> _Cells:
    return _Cells(
        np.concatenate([cell.probs_K for cell in cells]),
        np.concatenate([cell.num_K for cell in cells]),
        np.concatenate([cell.num_true_K for cell in cells]),
    )


def fit_temperature(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray) -> Calibration:
    """Return one factor for the logits of all labels: it makes a model less (or more) sure of itself."""
    pooled = _pool(_collect_cells(probs_NL, truth_NL, known_NL))
    (factor,) = fit_logistic(_logit(pooled.probs_K)[:, None], pooled, np.ones(1), np.full(1, 1e-3))
    factor = max(factor, 1e-3)
    return Calibration("temperature", weights=((factor, factor, 0.0),) * truth_NL.shape[1])


def fit_platt(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray) -> Calibration:
    """Return a line in the logit for each label, drawn to the line that is best for all of them."""
    cells = _collect_cells(probs_NL, truth_NL, known_NL)
    weights = _fit_drawn_together(cells, lambda cell: _with_ones(_logit(cell.probs_K)[:, None]))
    return Calibration("platt", weights=tuple((slope, slope, shift) for slope, shift in weights))


def fit_beta(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray) -> Calibration:
    """Return beta calibration for each label: separate slopes near 0 and near 1, drawn to the common ones."""
    cells = _collect_cells(probs_NL, truth_NL, known_NL)
    weights = _fit_drawn_together(
        cells, lambda cell: _with_ones(np.stack([np.log(cell.probs_K), -np.log1p(-cell.probs_K)], axis=1))
    )
    return Calibration("beta", weights=tuple((a, b, c) for a, b, c in weights))


def fit_isotonic(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray) -> Calibration:
    """Return the best rising curve for each label; labels with few positives or negatives share one of all cells."""
    cells = _collect_cells(probs_NL, truth_NL, known_NL)
    common = fit_rising_curve(_pool(cells))
    enough = MIN_ISOTONIC_POSITIVES
    return Calibration(
        "isotonic",
        knots=tuple(
            fit_rising_curve(cell) if cell.num_positive >= enough and cell.num_negative >= enough else common
            for cell in cells
        ),
    )


Fit = Callable[[FloatArray, BoolArray, BoolArray], Calibration]
"""A function of (probs_NL, truth_NL, known_NL)."""

FITS: Mapping[str, Fit] = {
    "temperature": fit_temperature,
    "platt": fit_platt,
    "beta": fit_beta,
    "isotonic": fit_isotonic,
}
"""The methods of calibration that fit something."""


def _fit_drawn_together(cells: list[_Cells], build_features: Callable[[_Cells], Float64Array]) -> list[list[float]]:
    """Return the weights of each label, with the weights of all cells pooled as the centre of their prior."""
    pooled = _pool(cells)
    features_KD = build_features(pooled)
    identity_D = np.ones(features_KD.shape[1])
    identity_D[-1] = 0
    common_D = _fit_rising(features_KD, pooled, identity_D, np.full(len(identity_D), 1e-3))
    precision_D = np.full(len(identity_D), _PRIOR_SLOPE)
    precision_D[-1] = _PRIOR_SHIFT
    return [_fit_rising(build_features(cell), cell, common_D, precision_D).tolist() for cell in cells]


def _fit_rising(
    features_KD: Float64Array, cells: _Cells, centre_D: Float64Array, precision_D: Float64Array
) -> Float64Array:
    """Return the weights with slopes of at least 0: one that would fall is fixed at 0, and the others fitted anew."""
    is_free_D = np.ones(len(centre_D), bool)
    weights_D = np.zeros(len(centre_D))
    while True:
        weights_D[is_free_D] = fit_logistic(
            features_KD[:, is_free_D], cells, centre_D[is_free_D], precision_D[is_free_D]
        )
        falling_D = is_free_D & (weights_D < 0)
        falling_D[-1] = False
        if not falling_D.any():
            return weights_D
        is_free_D &= ~falling_D
        weights_D[falling_D] = 0


def fit_logistic(
    features_KD: Float64Array, cells: _Cells, centre_D: Float64Array, precision_D: Float64Array
) -> Float64Array:
    """Return the weights of a logistic regression with a normal prior, by Newton's method with halved steps.

    Shapes: K groups of cells, D features.
    """
    weights_D = np.array(centre_D, np.float64)
    loss = _penalised_loss(weights_D, features_KD, cells, centre_D, precision_D)
    for _ in range(_NEWTON_STEPS):
        probs_K = _sigmoid(features_KD @ weights_D)
        gradient_D = features_KD.T @ (cells.num_K * probs_K - cells.num_true_K) + precision_D * (weights_D - centre_D)
        curvature_K = cells.num_K * probs_K * (1 - probs_K)
        hessian_DD = (features_KD * curvature_K[:, None]).T @ features_KD + np.diag(precision_D)
        step_D = np.linalg.solve(hessian_DD, gradient_D)
        size = 1.0
        while size > 1e-6:
            tried_D = weights_D - size * step_D
            tried_loss = _penalised_loss(tried_D, features_KD, cells, centre_D, precision_D)
            if tried_loss <= loss:
                break
            size /= 2
        else:
            return weights_D
        weights_D, gained, loss = tried_D, loss - tried_loss, tried_loss
        if gained <= _NEWTON_TOLERANCE * (1 + abs(loss)) and np.abs(size * step_D).max() < 1e-7:
            break
    return weights_D


def _penalised_loss(
    weights_D: Float64Array, features_KD: Float64Array, cells: _Cells, centre_D: Float64Array, precision_D: Float64Array
) -> float:
    scores_K = features_KD @ weights_D
    loss = float(np.sum(cells.num_K * np.logaddexp(0, scores_K) - cells.num_true_K * scores_K))
    return loss + float(np.sum(precision_D * (weights_D - centre_D) ** 2)) / 2


def fit_rising_curve(cells: _Cells) -> Knots:
    """Return the knots of the rising curve with the least squared error; its ends stay away from 0 and 1.

    Blocks of neighbours that would fall are merged at their mean until none falls ("pool adjacent violators"). No image
    shows that something never happens: an end of 0 of n cells stands at 1 / (n + 2), Laplace's rule.
    """
    if not len(cells.probs_K):
        return (0.0, 1.0), (0.0, 1.0)
    # In 32 bits, as probabilities come: two knots may not fall together there.
    x_K, group_K = np.unique(cells.probs_K.astype(np.float32), return_inverse=True)
    num_K = np.bincount(group_K, cells.num_K)
    means, sizes, first = [], [], []
    for place, (num_true, num) in enumerate(
        zip(np.bincount(group_K, cells.num_true_K).tolist(), num_K.tolist(), strict=True)
    ):
        means.append(num_true / num)
        sizes.append(num)
        first.append(place)
        while len(means) > 1 and means[-2] >= means[-1]:
            total = sizes[-2] + sizes[-1]
            means[-2] = (means[-2] * sizes[-2] + means[-1] * sizes[-1]) / total
            sizes[-2] = total
            del means[-1], sizes[-1], first[-1]
    last = [*(place - 1 for place in first[1:]), len(x_K) - 1]
    if means[0] == 0:
        means[0] = min(1 / (sizes[0] + 2), *means[1:2], 1)
    if means[-1] == 1:
        means[-1] = max(1 - 1 / (sizes[-1] + 2), *means[-2:-1], 0)
    knots: dict[float, float] = {}
    for begin, end, value in zip(first, last, means, strict=True):
        knots[float(x_K[begin])] = value
        knots[float(x_K[end])] = value
    return tuple(knots), tuple(knots.values())


def _with_ones(features_KD: Float64Array) -> Float64Array:
    return np.concatenate([features_KD, np.ones((len(features_KD), 1))], axis=1)


def _logit(probs_N: Float64Array) -> Float64Array:
    return np.asarray(np.log(probs_N) - np.log1p(-probs_N), np.float64)


def _sigmoid(scores: Float64Array) -> Float64Array:
    # exp of a large number is infinite, and 1 / infinity the 0 that is meant.
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-scores)), np.float64)
