"""Prediction: the answer for one image, the same in Python, on the command line and over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Prediction:
    """The labels of one image, in order of their margin above the threshold, or the reason why there are none.

    The empty tuple is an answer: none of the labels. `labels` is None exactly where `error` is set. `probabilities` are
    those that were compared with the thresholds: calibrated, if the model is. `needs_person` says whether a person
    should look at the image; None where the model does not abstain.
    """

    image: str
    labels: tuple[str, ...] | None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    model: str = ""
    error: Mapping[str, str] | None = None
    needs_person: bool | None = None

    @property
    def margins(self) -> dict[str, float]:
        """How far each label's probability is above (or below) its threshold."""
        return {label: self.probabilities[label] - self.thresholds[label] for label in self.probabilities}

    def to_dict(self, all_probabilities: bool = False) -> dict[str, Any]:
        """Return INTERFACE's JSON: the probabilities of the chosen labels, or of all.

        `needs_person` stands in it where the model abstains.
        """
        if self.labels is None:
            shown: tuple[str, ...] = ()
        else:
            shown = tuple(self.probabilities) if all_probabilities else self.labels
        values: dict[str, Any] = {
            "image": self.image,
            "labels": None if self.labels is None else list(self.labels),
            "probabilities": {label: self.probabilities[label] for label in shown},
            "thresholds": {label: self.thresholds[label] for label in shown},
            "model": self.model,
            "error": None if self.error is None else dict(self.error),
        }
        return values if self.needs_person is None else {**values, "needs_person": self.needs_person}
