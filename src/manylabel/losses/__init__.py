"""Losses for label sets: functions of (logits_BL, truth_BL, known_BL) to one number; `LOSSES` lists them.

A loss is a mean over known cells or over images, so neither batch size nor the number of labels changes the step. The
Python API accepts any callable with this signature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from manylabel.errors import ConfigError, build_message, join_names, join_problems, suggest_name
from manylabel.losses.asymmetric import build_asymmetric
from manylabel.losses.binary_cross_entropy import binary_cross_entropy
from manylabel.losses.counts import LabelCounts
from manylabel.losses.distribution_balanced import build_distribution_balanced
from manylabel.losses.focal import build_focal
from manylabel.losses.hill import build_hill
from manylabel.losses.large_loss import build_large_loss
from manylabel.losses.self_paced_correction import build_self_paced_correction
from manylabel.losses.two_way import build_two_way
from manylabel.losses.weighted_binary_cross_entropy import build_class_balanced, build_ratio_weighted
from manylabel.losses.zero_bounded import zero_bounded_log_sum_exp

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
BuildLoss = Callable[[LabelCounts, Mapping[str, float]], Loss]
"""From the counts of the training table and the settings that were given to a loss; the others are suggested."""


@runtime_checkable
class ScheduledLoss(Protocol):
    """A loss that is another one later in a run; it keeps no state, the loop asks for what it is now."""

    def __call__(self, logits_BL: Tensor, truth_BL: Tensor, known_BL: Tensor) -> Tensor:
        """Return the loss as at the start of a run."""

    def at(self, progress: float) -> Loss:
        """Return the loss at this share of a run, 0 to 1."""


@dataclass(frozen=True)
class LossKind:
    """How a loss is built, and its settings with the smallest and the largest value of each."""

    build: BuildLoss
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)


LOSSES: Mapping[str, LossKind] = {
    "bce": LossKind(lambda *_: binary_cross_entropy),
    "weighted_bce": LossKind(build_ratio_weighted, {"power": (0, 2), "cap": (1, 1e4)}),
    "class_balanced": LossKind(build_class_balanced, {"beta": (0, 0.999999), "cap": (1, 1e4)}),
    "focal": LossKind(build_focal, {"gamma": (0, 10), "balance": (0.01, 0.99)}),
    "asl": LossKind(build_asymmetric, {"gamma_negative": (0, 10), "gamma_positive": (0, 10), "clip": (0, 0.5)}),
    "distribution_balanced": LossKind(build_distribution_balanced, {"kappa": (0, 1), "scale": (1, 20)}),
    "two_way": LossKind(build_two_way, {"temperature": (0.1, 100)}),
    "zlpr": LossKind(lambda *_: zero_bounded_log_sum_exp),
    "hill": LossKind(build_hill, {"gamma": (0, 10), "margin": (0, 5), "turn": (1, 3)}),
    "splc": LossKind(
        build_self_paced_correction, {"threshold": (0.5, 1), "start": (0, 1), "gamma": (0, 10), "margin": (0, 5)}
    ),
    "large_loss": LossKind(build_large_loss, {"share": (0, 0.5)}),
}


def parse_loss(text: str) -> tuple[str, dict[str, float]]:
    """Read `asl`, or `asl,gamma_negative=3,clip=0`: a loss and what to change in it.

    Raises:
        ConfigError: no such loss or setting, or a value out of range; all are listed.

    Example:
        >>> parse_loss("asl,clip=0")
        ('asl', {'clip': 0.0})
    """
    name, *changes = [piece.strip() for piece in text.split(",")]
    if name not in LOSSES:
        problem = f"unknown loss {name!r}{suggest_name(name, LOSSES)}"
        raise ConfigError(build_message("loss", problem, expected=join_names(list(LOSSES), len(LOSSES))))
    limits = LOSSES[name].limits
    values: dict[str, float] = {}
    problems = []
    for change in changes:
        key, _, value = (piece.strip() for piece in change.partition("="))
        if key not in limits:
            expected = join_names(list(limits)) if limits else "none"
            problem = f"unknown setting {key!r}{suggest_name(key, limits)} of {name}"
            problems.append(build_message("loss", problem, expected=expected))
            continue
        low, high = limits[key]
        try:
            values[key] = float(value)
        except ValueError:
            problems.append(build_message(f"loss {key}", "not a number", got=value))
            continue
        if not low <= values[key] <= high:
            problems.append(build_message(f"loss {key}", "out of range", got=value, expected=f"{low:g} to {high:g}"))
    if problems:
        raise ConfigError(join_problems(problems))
    return name, values


def build_loss(text: str, counts: LabelCounts) -> Loss:
    """Return the loss that a text names, for a training table.

    Raises:
        ConfigError: as in `parse_loss`.
    """
    name, settings = parse_loss(text)
    return LOSSES[name].build(counts, settings)


def find_loss(text: str) -> Loss:
    """Return the loss that a text names, for a table of which nothing is known: one label, present in half its images.

    Raises:
        ConfigError: as in `parse_loss`.
    """
    return build_loss(text, LabelCounts(np.array([1.0]), np.array([2.0])))


def loss_at(loss: Loss, progress: float) -> Loss:
    """Return what a loss is at this share of a run."""
    return loss.at(progress) if isinstance(loss, ScheduledLoss) else loss


def describe_loss(text: str, loss: Loss) -> str:
    """Return a sentence with the settings that a loss has, also those that were suggested from the data."""
    name, _ = parse_loss(text)
    describe = getattr(loss, "describe", None)
    if describe is not None:
        return f"Loss: {name} ({describe()})."
    if not is_dataclass(loss):
        return f"Loss: {name}."
    settings = [f"{knob.name} {getattr(loss, knob.name):.3g}" for knob in fields(loss) if knob.name != "progress"]
    return f"Loss: {name} ({', '.join(settings)})."
