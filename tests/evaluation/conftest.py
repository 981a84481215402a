"""Predictions with their truth, small enough to work by hand or drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from manylabel.decisions.policy import DecisionPolicy
from manylabel.evaluation.evaluate import Report, evaluate_predictions
from manylabel.labels.predictions import Predictions
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets

HOSTILE_NAMES = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><style>*{display:none}",
    "{{ 7 * 7 }}",
    "[red]markup[/red]",
    r"$\frac{x}$",
    "\x1b[2Jcleared",
    "大きな犬",
    "x" * 10_000,
)

MakePredictions = Callable[..., Predictions]
MakeReport = Callable[..., Report]


def name_labels(num_labels: int) -> tuple[str, ...]:
    """Return label 0, label 1 and so on."""
    return tuple(f"label {column}" for column in range(num_labels))


@pytest.fixture
def make_predictions() -> MakePredictions:
    """Return a builder of predictions from a probability, a truth (None = unknown) per cell, and names."""

    def make(
        probs_NL: Sequence[Sequence[float]] | npt.NDArray[np.float64],
        truth_NL: Sequence[Sequence[float | None]] | npt.NDArray[np.float64],
        names: Sequence[str] | None = None,
        data_digest: str = "data-1",
    ) -> Predictions:
        targets = Targets.from_dense(np.array(truth_NL, np.float64))  # None becomes NaN: unknown
        space = LabelSpace(name_labels(targets.num_labels) if names is None else tuple(names))
        images = tuple(f"{row}.jpg" for row in range(len(targets)))
        return Predictions(images, space, np.array(probs_NL), targets, "model-1", data_digest)

    return make


@pytest.fixture
def make_random(make_predictions: MakePredictions) -> MakePredictions:
    """Return a builder of random predictions that are right more often than not; rarer labels stand later."""

    def make(
        num_images: int = 60,
        num_labels: int = 4,
        names: Sequence[str] | None = None,
        share_unknown: float = 0.0,
        seed: int = 0,
    ) -> Predictions:
        generator = np.random.default_rng(seed)
        shape = (num_images, num_labels)
        truth_NL = (generator.random(shape) < np.linspace(0.5, 0.1, num_labels)).astype(np.float64)
        # Two decimals, so that ties and probabilities on a threshold occur.
        probs_NL = np.round(np.clip(0.25 + 0.4 * truth_NL + generator.normal(0, 0.25, shape), 0, 1), 2)
        truth_NL[generator.random(shape) < share_unknown] = np.nan
        return make_predictions(probs_NL, truth_NL, names)

    return make


@pytest.fixture
def make_report(make_random: MakePredictions) -> MakeReport:
    """Return a builder of reports on random predictions, every threshold at 0.4."""

    def make(
        name: str = "test", chosen_on: str = "data-0", skipped: Mapping[str, str] = MappingProxyType({}), **wanted: Any
    ) -> Report:
        predictions = make_random(**wanted)
        space = predictions.label_space
        policy = DecisionPolicy(space, (0.4,) * len(space), goal="f1", chosen_on=chosen_on)
        return evaluate_predictions(predictions, policy, name=name, num_resamples=20, skipped=skipped)

    return make


@pytest.fixture
def hostile_names() -> tuple[str, ...]:
    """Return label names that try to be markup, script, template, formula or terminal command."""
    return HOSTILE_NAMES


@pytest.fixture
def history() -> list[dict[str, Any]]:
    """Return five epochs of which the fourth is the best by mean average precision."""
    values = (0.3, 0.5, 0.6, 0.7, 0.65)
    return [
        {
            "epoch": epoch,
            "train_loss": 1 / epoch,
            "val_loss": 1.2 / epoch,
            "monitor": "average_precision_macro",
            "val_average_precision_macro": value,
        }
        for epoch, value in enumerate(values, start=1)
    ]
