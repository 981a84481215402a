"""From predictions with truth to a policy, with what it brings on images that it was not chosen on.

The gain is estimated by cross-fitting: the images are divided into folds by their names (or those of their groups),
everything is chosen anew on all folds but one, and that one is decided. The policy itself is then chosen on all images.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.decisions import CALIBRATIONS, GOALS, choose_thresholds, parse_goal
from manylabel.decisions.calibrate import FITS, NO_CALIBRATION, SMALLEST, Calibration
from manylabel.decisions.conformal import choose_abstention
from manylabel.decisions.gain import Figure, compare_decisions, describe_promise
from manylabel.decisions.policy import DecisionPolicy
from manylabel.decisions.rules import Rule
from manylabel.decisions.thresholds import HALF
from manylabel.errors import ConfigError, DataError, build_message, join_names, suggest_name
from manylabel.labels.groups import NO_GROUPS, number_groups
from manylabel.labels.predictions import Predictions
from manylabel.labels.space import LabelSpace

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]

NUM_FOLDS = 5
MIN_IMAGES = 20
"""Images, or groups of them, with a known cell below which no gain is estimated."""

_AUTO_CELLS = 2**21
_AUTO_METHODS = ("none", *FITS)
TAKES_AWAY = ("at_most", "exclusive", "forbids")
"""The rules that take labels away again, and with them a guaranteed miss rate."""


@dataclass(frozen=True)
class Choice:
    """What is to be chosen: a goal with its settings, a method of calibration, rules, and how to abstain."""

    goal: str = "f1"
    calibrate: str = "none"
    rules: tuple[Rule, ...] = ()
    abstain: tuple[str, float] | None = None


@dataclass(frozen=True)
class Tuning:
    """A policy, what it brings by cross-fitting, and what was tried on the way.

    `figures` compare thresholds of 0.5 with the policy, `rule_figures` the policy without its rules with the whole;
    both are empty where there are too few images. `losses` is the cross-fitted log loss of each method of calibration
    that was tried: its mean, and how much lower than without it is, with an interval.
    """

    policy: DecisionPolicy
    figures: Mapping[str, Figure]
    rule_figures: Mapping[str, Figure]
    losses: Mapping[str, Figure]


def choose_policy(predictions: Predictions, goal: str = "f1", calibrate: str = "none") -> DecisionPolicy:
    """Return the decisions for a goal, chosen on predictions with their truth; see `tune_policy`."""
    return tune_policy(predictions, Choice(goal, calibrate)).policy


def tune_policy(predictions: Predictions, choice: Choice, group_of: Mapping[str, str] = NO_GROUPS) -> Tuning:
    """Return the policy that is best for a goal on these predictions, and what it gains on others like them.

    Args:
        predictions: what the network says, before any calibration, with the truth beside it.
        choice: what is to be chosen.
        group_of: image to group; images that belong together stay in one fold, and are resampled together.

    Raises:
        DataError: there is no truth.
        ConfigError: a goal, method or rule that does not exist or does not go with the others.
    """
    if predictions.targets is None:
        raise DataError(
            build_message("predictions", "there is no truth to choose on", do="Predict a table with labels")
        )
    check_choice(choice)
    cells = _Cells(
        predictions.label_space,
        predictions.probs_NL,
        predictions.targets.present_NL(),
        predictions.targets.known_NL(),
        number_groups(predictions.images, group_of),
    )
    fold_N = divide_into_folds(predictions.images, group_of)
    has_enough = cells.count_units() >= MIN_IMAGES
    losses: dict[str, Figure] = {}
    if choice.calibrate == "auto":
        method, losses = choose_calibration(cells, fold_N, choice.goal) if has_enough else ("none", {})
        choice = replace(choice, calibrate=method)
    policy = replace(_fit(cells, choice), chosen_on=predictions.data_digest)
    if choice.abstain is not None and len(predictions):
        adjusted_NL = policy.adjust(cells.probs_NL)
        margins_NL = adjusted_NL - policy.thresholds_L
        abstention = choose_abstention(*choice.abstain, margins_NL, policy.decide_adjusted(adjusted_NL))
        policy = replace(policy, abstention=abstention)
    if len(predictions):
        shares_L = policy.decide(cells.probs_NL).mean(axis=0)
        policy = replace(policy, given=dict(zip(cells.label_space, shares_L.tolist(), strict=True)))
    if not has_enough:
        return Tuning(policy, {}, {}, losses)
    return _with_gain(policy, cells, choice, fold_N, losses)


def check_choice(choice: Choice) -> None:
    """Stop where a name does not exist, or parts do not go together.

    Raises:
        ConfigError: which, and why.
    """
    name, _ = parse_goal(choice.goal)
    if choice.calibrate not in CALIBRATIONS:
        problem = f"unknown method {choice.calibrate!r}{suggest_name(choice.calibrate, CALIBRATIONS)}"
        raise ConfigError(build_message("calibrate", problem, expected=join_names(CALIBRATIONS)))
    if name != "miss_rate":
        return
    if choice.calibrate in FITS:
        problem = "images that also calibrate cannot guarantee a miss rate"
        raise ConfigError(build_message("goal miss_rate", problem, do="Use --calibrate none, or another goal"))
    taking = [str(rule) for rule in choice.rules if rule.kind in TAKES_AWAY]
    if taking:
        problem = f"rules that take labels away break the guarantee: {join_names(taking)}"
        raise ConfigError(build_message("goal miss_rate", problem, do="Remove them, or choose another goal"))


def divide_into_folds(images: Sequence[str], group_of: Mapping[str, str] = NO_GROUPS) -> npt.NDArray[np.int64]:
    """Return a fold for each image by its group's name or its own, so that the order of the images changes nothing.

    Example:
        >>> divide_into_folds(["a", "b", "c", "d", "e", "f"]).tolist(), divide_into_folds(["b", "a"]).tolist()
        ([4, 1, 0, 3, 0, 2], [0, 1])
    """
    number_N = number_groups(images, group_of)
    if number_N is None:
        number_N = np.arange(len(images))
    _, first_U = np.unique(number_N, return_index=True)
    names = [group_of.get(images[row]) or images[row] for row in first_U]
    checksums_U = np.array([zlib.crc32(name.encode("utf-8", "surrogatepass")) for name in names], np.int64)
    fold_U = np.empty(len(names), np.int64)
    fold_U[np.argsort(checksums_U, kind="stable")] = np.arange(len(names)) % NUM_FOLDS
    return fold_U[number_N]


@dataclass(frozen=True)
class _Cells:
    """Probabilities, truth and what is known of it; kept label by label in memory, as they are read."""

    label_space: LabelSpace
    probs_NL: npt.NDArray[np.float32]
    truth_NL: BoolArray
    known_NL: BoolArray
    group_N: npt.NDArray[np.int64] | None = None
    """Which images belong together; None where each stands alone."""

    def __post_init__(self) -> None:
        for name in ("probs_NL", "truth_NL", "known_NL"):
            object.__setattr__(self, name, np.asfortranarray(getattr(self, name)))

    def select(self, rows: npt.NDArray[np.int64]) -> _Cells:
        return _Cells(
            self.label_space,
            np.take(self.probs_NL.T, rows, axis=1).T,
            np.take(self.truth_NL.T, rows, axis=1).T,
            np.take(self.known_NL.T, rows, axis=1).T,
            None if self.group_N is None else np.unique(self.group_N[rows], return_inverse=True)[1],
        )

    def count_units(self) -> int:
        """Return how many images, or groups of them, have a known cell."""
        is_known_N = self.known_NL.any(axis=1)
        return int(is_known_N.sum()) if self.group_N is None else len(np.unique(self.group_N[is_known_N]))


def _calibrate(cells: _Cells, method: str) -> Calibration:
    if method == "none" or not cells.known_NL.any():
        return NO_CALIBRATION
    return FITS[method](cells.probs_NL, cells.truth_NL, cells.known_NL)


def _fit(cells: _Cells, choice: Choice) -> DecisionPolicy:
    """Return the policy chosen on these cells."""
    space = cells.label_space
    bare = DecisionPolicy(
        space, (HALF,) * len(space), choice.goal, calibration=_calibrate(cells, choice.calibrate), rules=choice.rules
    )
    chosen = choose_thresholds(choice.goal, bare.adjust(cells.probs_NL), cells.truth_NL, cells.known_NL)
    rules = (*choice.rules, *list_goal_rules(choice.goal, len(space)))
    return replace(bare, thresholds=tuple(chosen.thresholds_L.tolist()), sources=chosen.sources, rules=rules)


def list_goal_rules(goal: str, num_labels: int) -> tuple[Rule, ...]:
    """Return the rules that a goal brings itself."""
    nothing = np.zeros((0, num_labels), np.float32), np.zeros((0, num_labels), bool), np.zeros((0, num_labels), bool)
    chosen = choose_thresholds(goal, *nothing)
    rules = [Rule("at_most", count=chosen.at_most)] if chosen.at_most is not None else []
    return (*rules, *([Rule("at_least", count=chosen.at_least)] if chosen.at_least else []))


def _decide_cross_fitted(cells: _Cells, choice: Choice, fold_N: npt.NDArray[np.int64]) -> tuple[BoolArray, BoolArray]:
    """Return decisions of policies that were chosen without the image, with and without the rules asked for."""
    decided_NL = np.zeros(cells.truth_NL.shape, bool)
    without_NL = np.zeros_like(decided_NL) if choice.rules else decided_NL
    for fold in range(NUM_FOLDS):
        rest, held_out = cells.select(np.flatnonzero(fold_N != fold)), np.flatnonzero(fold_N == fold)
        probs_ML = cells.select(held_out).probs_NL
        decided_NL[held_out] = _fit(rest, choice).decide(probs_ML)
        if choice.rules:
            without_NL[held_out] = _fit(rest, replace(choice, rules=())).decide(probs_ML)
    return decided_NL, without_NL


def _with_gain(
    policy: DecisionPolicy,
    cells: _Cells,
    choice: Choice,
    fold_N: npt.NDArray[np.int64],
    losses: Mapping[str, Figure],
) -> Tuning:
    decided_NL, without_NL = _decide_cross_fitted(cells, choice, fold_N)
    half_NL = cells.probs_NL >= np.float32(HALF)
    name, settings = parse_goal(choice.goal)
    beside = cells.truth_NL, cells.known_NL, settings, cells.group_N
    figures = compare_decisions(half_NL, decided_NL, *beside)
    rule_figures = compare_decisions(without_NL, decided_NL, *beside) if choice.rules else {}
    gain = _summarise_gain(name, settings, figures, int(cells.known_NL.any(axis=1).sum()))
    return Tuning(replace(policy, gain=gain), figures, rule_figures, losses)


def _summarise_gain(
    name: str, settings: Mapping[str, float | str], figures: Mapping[str, Figure], num_images: int
) -> dict[str, Any]:
    """Return what the policy says of its own gain: the figure that its goal is about, before and after."""
    kind = GOALS[name]
    if not kind.gain_in:
        return {}
    asked = describe_promise(name, kind.promise, settings) if kind.promise else None
    metric = kind.gain_in
    if asked is not None and figures[asked[0]].before < asked[1]:
        metric = asked[0]
    figure = figures[metric]
    gain: dict[str, Any] = {
        "metric": metric,
        "at_half": figure.before,
        "tuned": figure.after,
        "gain": figure.gain,
        "low": figure.low,
        "high": figure.high,
        "is_worth_it": figure.is_better,
        "num_images": num_images,
        "num_folds": NUM_FOLDS,
    }
    if asked is not None:
        gain |= {"asked": {"metric": asked[0], "at_least": asked[1]}, "reached": figures[asked[0]].after}
    return {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in gain.items()}


# ---------------------------------------------------------------------------------------------------------------------
# Calibration.
# ---------------------------------------------------------------------------------------------------------------------


def choose_calibration(cells: _Cells, fold_N: npt.NDArray[np.int64], goal: str = "f1") -> tuple[str, dict[str, Figure]]:
    """Return the method with the lowest cross-fitted log loss, `none` unless it surely helps, and what all came to.

    Of very many images a part decides.
    """
    if parse_goal(goal)[0] == "miss_rate":
        return "none", {}
    most = max(MIN_IMAGES, _AUTO_CELLS // cells.truth_NL.shape[1])
    if len(fold_N) > most:
        rows = np.linspace(0, len(fold_N) - 1, most).astype(np.int64)
        cells, fold_N = cells.select(rows), fold_N[rows]
    losses_MN = np.zeros((len(_AUTO_METHODS), len(fold_N)))
    for fold in range(NUM_FOLDS):
        rest, held_out = (cells.select(np.flatnonzero(mask_N)) for mask_N in (fold_N != fold, fold_N == fold))
        for place, method in enumerate(_AUTO_METHODS):
            probs_NL = _calibrate(rest, method).apply(held_out.probs_NL)
            losses_MN[place, fold_N == fold] = _sum_log_losses(probs_NL, held_out)
    if cells.group_N is not None:  # what belongs together is one draw
        losses_MN = np.stack([np.bincount(cells.group_N, losses_N) for losses_N in losses_MN])
    num_known = cells.known_NL.sum()
    figures = {method: _compare_losses(losses_MN, place, num_known) for place, method in enumerate(_AUTO_METHODS)}
    best = min(figures, key=lambda method: figures[method].after)
    return (best if figures[best].is_better else "none"), figures


def _sum_log_losses(probs_NL: npt.NDArray[np.float32], cells: _Cells) -> npt.NDArray[np.float64]:
    right_NL = np.where(cells.truth_NL, probs_NL, 1 - probs_NL).astype(np.float64)
    return np.asarray(-np.where(cells.known_NL, np.log(np.maximum(right_NL, SMALLEST)), 0).sum(axis=1), np.float64)


def _compare_losses(losses_MN: npt.NDArray[np.float64], place: int, num_known: int) -> Figure:
    """Return the loss per cell without and with a method, and by how much it falls, two standard errors either way."""
    gains_N = losses_MN[0] - losses_MN[place]
    gain = float(gains_N.sum() / num_known)
    error = float(gains_N.std() * np.sqrt(len(gains_N)) / num_known)
    before, after = (float(losses_MN[which].sum() / num_known) for which in (0, place))
    return Figure(before, after, gain, gain - 1.96 * error, gain + 1.96 * error)
