"""Heads: from the features of a backbone to a logit per label; `HEADS` lists them.

The Python API accepts any `HeadKind`; `manylabel.testing.heads.check_head` says whether one keeps the contract.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from manylabel.errors import ConfigError, build_message, join_names, join_problems, suggest_name
from manylabel.models.heads.csra import build_csra_head
from manylabel.models.heads.linear import build_linear_head
from manylabel.models.heads.ml_decoder import build_ml_decoder_head
from manylabel.models.heads.mlp import build_mlp_head
from manylabel.models.heads.query2label import build_query2label_head

Takes = Literal["vector", "tokens"]
"""The pooled features of an image, [B, D], or those of every position of its feature map, [B, T, D]."""

BuildHead = Callable[..., nn.Module]
"""A function of (number of features, prevalence of each label, settings by keyword) to a module that gives [B, L]."""


@dataclass(frozen=True)
class HeadKind:
    """How a head is built, what it takes, and its settings with the smallest and the largest value of each.

    Limits that are whole numbers make a setting that has to be one.
    """

    build: BuildHead
    takes: Takes
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)


_DROPOUT = (0.0, 0.95)
_WIDTH = (8, 4096)

HEADS: Mapping[str, HeadKind] = {
    "linear": HeadKind(build_linear_head, "vector"),
    "mlp": HeadKind(build_mlp_head, "vector", {"hidden": _WIDTH, "dropout": _DROPOUT}),
    "csra": HeadKind(
        build_csra_head, "tokens", {"num_heads": (1, 8), "temperature": (0.0, 100.0), "residual": (0.0, 10.0)}
    ),
    "ml_decoder": HeadKind(
        build_ml_decoder_head, "tokens", {"num_groups": (1, 100_000), "hidden": _WIDTH, "dropout": _DROPOUT}
    ),
    "query2label": HeadKind(
        build_query2label_head, "tokens", {"num_layers": (1, 2), "hidden": _WIDTH, "dropout": _DROPOUT}
    ),
}


def parse_head(text: str) -> tuple[str, dict[str, float]]:
    """Read `mlp`, or `ml_decoder,num_groups=50,hidden=128`: a head and what to change in it.

    Raises:
        ConfigError: no such head or setting, or a value that makes no sense; all are listed, names with the nearest.

    Example:
        >>> parse_head("ml_decoder,num_groups=50,dropout=0")
        ('ml_decoder', {'num_groups': 50, 'dropout': 0.0})
    """
    name, *changes = [piece.strip() for piece in text.split(",")]
    if name not in HEADS:
        problem = f"unknown head {name!r}{suggest_name(name, HEADS)}"
        raise ConfigError(build_message("head", problem, expected=join_names(list(HEADS))))
    limits = HEADS[name].limits
    settings: dict[str, float] = {}
    problems = []
    for change in changes:
        key, _, value = (piece.strip() for piece in change.partition("="))
        if key not in limits:
            problem = f"unknown setting {key!r}{suggest_name(key, limits)} of {name}"
            problems.append(build_message("head", problem, expected=join_names(list(limits)) if limits else "none"))
        elif key in settings:
            problems.append(build_message(f"head {key}", "given twice", got=value))
        else:
            try:
                settings[key] = _parse_value(key, value, limits[key])
            except ConfigError as error:
                problems.append(str(error))
    if problems:
        raise ConfigError(join_problems(problems))
    return name, settings


def _parse_value(key: str, text: str, limits: tuple[float, float]) -> float:
    """Return a number between the limits, whole where they are."""
    low, high = limits
    is_whole = isinstance(low, int)
    try:
        value = int(text) if is_whole else float(text)
    except ValueError as error:
        problem = "not a whole number" if is_whole else "not a number"
        raise ConfigError(build_message(f"head {key}", problem, got=text)) from error
    if not low <= value <= high:
        raise ConfigError(build_message(f"head {key}", "out of range", got=text, expected=f"{low:g} to {high:g}"))
    return value
