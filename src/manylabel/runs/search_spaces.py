"""Spaces of settings that `search` tries, by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from manylabel.errors import ConfigError, build_message, join_names, suggest_name
from manylabel.training.config import TrainConfig


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`; `is_log` tries each power of ten as often."""

    low: float
    high: float
    is_log: bool = False

    def round(self, value: float) -> float:
        """Return the number with the digits that matter: what is tried is what the tables and best.toml say."""
        return float(f"{value:.3g}") if self.is_log else round(value, 3)

    def describe(self) -> str:
        """Return the range in a few words.

        Example:
            >>> Range(0.0001, 0.1, is_log=True).describe()
            '0.0001 to 0.1 (log)'
        """
        return f"{self.low:g} to {self.high:g}" + (" (log)" if self.is_log else "")


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[str | float, ...]

    def describe(self) -> str:
        """Return the values joined by commas."""
        return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in self.values)


Knob = Range | Choice

SPACES: Mapping[str, Mapping[str, Knob]] = {
    "head": {
        "lr": Range(1e-4, 1e-1, is_log=True),
        "weight_decay": Range(1e-4, 1.0, is_log=True),
        "dropout": Range(0.0, 0.6),
        "head": Choice(("linear", "mlp", "csra")),
        "loss": Choice(("bce", "class_balanced", "focal", "asl", "distribution_balanced", "two_way", "zlpr")),
        "label_smoothing": Range(0.0, 0.2),
        "ema": Choice((0.0, 0.9, 0.99)),
    },
    "full": {
        "lr": Range(1e-4, 1e-2, is_log=True),
        "backbone_lr_ratio": Range(0.03, 1.0, is_log=True),
        "layer_decay": Range(0.5, 1.0),
        "weight_decay": Range(1e-3, 0.3, is_log=True),
        "dropout": Range(0.0, 0.5),
        "loss": Choice(("bce", "asl", "distribution_balanced")),
        "augment": Choice(("none", "light", "medium", "strong", "trivialaugment")),
        "mix": Choice(("none", "mixup", "cutmix", "mosaic")),
        "ema": Choice((0.0, 0.99, 0.999)),
    },
}
"""`head` is for trials of seconds, on the features of a frozen backbone; `full` for whole runs."""

_ONLY_IF_THE_BACKBONE_LEARNS = ("backbone_lr_ratio", "layer_decay", "augment", "mix")


def choose_knobs(config: TrainConfig, space: str | None, fixed: Collection[str]) -> tuple[str, dict[str, Knob]]:
    """Return the name of the space and what of it is searched: not what is fixed, nor what has no part in such a run.

    Args:
        space: a name of SPACES; None takes `head` for a frozen backbone, else `full`.
        fixed: names that stay as `config` has them; so do those that differ from the defaults.

    Raises:
        ConfigError: no such space, or nothing of it is left to search.
    """
    name = space if space is not None else "head" if config.freeze == "backbone" else "full"
    if name not in SPACES:
        problem = f"unknown space {name!r}{suggest_name(name, SPACES)}"
        raise ConfigError(build_message("--space", problem, expected=join_names(list(SPACES))))
    default = TrainConfig()
    held = set(fixed) | {knob for knob in SPACES[name] if getattr(config, knob) != getattr(default, knob)}
    if config.freeze == "backbone":
        held |= set(_ONLY_IF_THE_BACKBONE_LEARNS)
    if config.weights == "none":
        held.add("backbone_lr_ratio")
    knobs = {knob: values for knob, values in SPACES[name].items() if knob not in held}
    if not knobs:
        problem = f"nothing of the space {name} is left to search: it has {join_names(list(SPACES[name]), 20)}"
        raise ConfigError(build_message("--space", problem, do="Leave some of them out of the flags and of --config"))
    if config.monitor == "loss" and "loss" in knobs:
        problem = "the values of different losses cannot be compared"
        raise ConfigError(build_message("--monitor loss", problem, do="Fix --loss, or monitor a metric"))
    return name, knobs


def collect_values(config: TrainConfig, names: Collection[str]) -> dict[str, Any]:
    """Return the values that the settings have of some names."""
    return {name: getattr(config, name) for name in names}
