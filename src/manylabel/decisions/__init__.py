"""How many labels an image gets: thresholds for a goal, calibration and rules, saved with the model.

`GOALS`, `CALIBRATIONS` and `rules.RULES` list what can be chosen by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from manylabel.decisions import thresholds
from manylabel.decisions.calibrate import FITS
from manylabel.decisions.thresholds import BoolArray, FloatArray, Thresholds
from manylabel.errors import ConfigError, build_message, join_names, join_problems, suggest_name

Settings = Mapping[str, float | str]
Limits = Mapping[str, tuple[float, float] | tuple[str, ...]]

_SHRINK: Limits = {"shrink": (0.0, 1e6)}
_SHARE: tuple[float, float] = (0.001, 0.999)
_COST: tuple[float, float] = (0.0, 1e6)


@dataclass(frozen=True)
class GoalKind:
    """A goal: how it chooses, and how what it brings is measured.

    `choose` is a function of (probs_NL, truth_NL, known_NL) and its settings to `Thresholds`. `limits` holds for each
    setting its smallest and largest number, or the words that it may be; those in `required` have no default.

    `gain_in` names the figure that tells whether it is worth it. A goal that promises something (`promise` names the
    figure, and the setting that says how much is the first of `required`) is first measured by that.
    """

    choose: Callable[..., Thresholds]
    in_words: str
    gain_in: str = ""
    limits: Limits = field(default_factory=dict)
    required: tuple[str, ...] = ()
    promise: str = ""


GOALS: Mapping[str, GoalKind] = {
    "f1": GoalKind(
        thresholds.choose_f1_thresholds, "Thresholds chosen for the best F1 of each label", "f1_macro", _SHRINK
    ),
    "f_beta": GoalKind(
        thresholds.choose_f_beta,
        "Thresholds chosen for the best F-beta of each label",
        "f_beta_macro",
        {"beta": (0.05, 20.0), **_SHRINK},
    ),
    "precision": GoalKind(
        thresholds.choose_precision,
        "Thresholds chosen so that enough of what is given is right",
        "recall_macro",
        {"at_least": _SHARE, **_SHRINK},
        ("at_least",),
        "precision_macro",
    ),
    "recall": GoalKind(
        thresholds.choose_recall,
        "Thresholds chosen so that enough of what is true is found",
        "precision_macro",
        {"at_least": _SHARE, **_SHRINK},
        ("at_least",),
        "recall_macro",
    ),
    "cost": GoalKind(
        thresholds.choose_cost,
        "Thresholds chosen for the lowest cost of missed and false labels",
        "cost_per_image",
        {"missed": _COST, "false_alarm": _COST, **_SHRINK},
    ),
    "cardinality": GoalKind(
        thresholds.choose_cardinality,
        "Thresholds chosen so that each label is given as often as it is true",
        "count_error",
        _SHRINK,
    ),
    "top_k": GoalKind(
        thresholds.choose_top_k, "The most probable labels of each image", "f1_samples", {"k": (1, 1e6)}, ("k",)
    ),
    "at_least_one": GoalKind(
        thresholds.choose_at_least_one,
        "Thresholds chosen for the best F1 of each label, and no image without a label",
        "f1_samples",
        _SHRINK,
    ),
    "miss_rate": GoalKind(
        thresholds.choose_miss_rate,
        "Thresholds with a guaranteed rate of missed labels",
        "precision_micro",
        {"at_most": _SHARE, "per": ("image", "label")},
        ("at_most",),
        "recall_samples",
    ),
    "half": GoalKind(thresholds.choose_half, "No threshold was tuned: each is 0.5"),
}
"""What thresholds can be chosen for."""

CALIBRATIONS: tuple[str, ...] = ("none", "auto", *FITS)
"""How probabilities can be calibrated: not at all, by one method, or (`auto`) by whichever is seen to help, if any."""


def parse_goal(text: str) -> tuple[str, dict[str, float | str]]:
    """Read `f1`, or `f_beta,beta=2`: a goal and its settings.

    Raises:
        ConfigError: no such goal or setting, a value out of range, or a setting that is missing; all are listed.

    Example:
        >>> parse_goal("precision,at_least=0.9")
        ('precision', {'at_least': 0.9})
    """
    name, *changes = [piece.strip() for piece in text.split(",")]
    if name not in GOALS:
        problem = f"unknown goal {name!r}{suggest_name(name, GOALS)}"
        raise ConfigError(build_message("goal", problem, expected=join_names(list(GOALS), len(GOALS))))
    kind = GOALS[name]
    values: dict[str, float | str] = {}
    problems = []
    for change in changes:
        key, _, value = (piece.strip() for piece in change.partition("="))
        if key in kind.limits:
            found = _read_setting(key, value, kind.limits[key])
            if isinstance(found, ConfigError):
                problems.append(str(found))
            else:
                values[key] = found
        else:
            expected = join_names(list(kind.limits)) if kind.limits else "none"
            problem = f"unknown setting {key!r}{suggest_name(key, kind.limits)} of {name}"
            problems.append(build_message("goal", problem, expected=expected))
    given = {change.partition("=")[0].strip() for change in changes}
    problems += [
        build_message("goal", f"{name} lacks {key!r}", do=f"Write {name},{key}=...")
        for key in kind.required
        if key not in given
    ]
    if problems:
        raise ConfigError(join_problems(problems))
    return name, values


def _read_setting(key: str, text: str, limits: tuple[float, float] | tuple[str, ...]) -> float | str | ConfigError:
    """Return the value of a setting, or what is wrong with it."""
    if isinstance(limits[0], str):
        words = [str(word) for word in limits]
        problem = f"unknown choice {text!r}{suggest_name(text, words)}"
        return text if text in words else ConfigError(build_message(f"goal {key}", problem, expected=join_names(words)))
    low, high = float(limits[0]), float(limits[1])
    try:
        number = float(text)
    except ValueError:
        return ConfigError(build_message(f"goal {key}", "not a number", got=text))
    if not low <= number <= high:
        return ConfigError(build_message(f"goal {key}", "out of range", got=text, expected=f"{low:g} to {high:g}"))
    return number


def choose_thresholds(goal: str, probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray) -> Thresholds:
    """Return the thresholds for a goal as `--goal` names it.

    Raises:
        ConfigError: as in `parse_goal`.
        DataError: shapes that differ, or a known probability that is not in [0, 1].
    """
    name, settings = parse_goal(goal)
    return GOALS[name].choose(probs_NL, truth_NL, known_NL, **settings)
