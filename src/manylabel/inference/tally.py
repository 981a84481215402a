"""What many answers came to: how often each label was given, and whether that is as it was before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from manylabel.errors import join_names

MIN_IMAGES = 100
"""Images below which nothing is said of their kind."""

_TIMES = 2.0
_CONFIDENCE = 0.999
_SLACK = 0.01
"""A share that was measured on some hundred images is not better known than this."""


@dataclass
class Tally:
    """Counts over answers; an image that could not be used counts as failed and nowhere else."""

    num_images: int = 0
    num_failed: int = 0
    num_given: Counter[str] = field(default_factory=Counter)

    def add(self, labels: Iterable[str] | None) -> None:
        """Count the labels of one answer; None is an image that could not be used."""
        self.num_images += 1
        if labels is None:
            self.num_failed += 1
        else:
            self.num_given.update(labels)

    def describe_drift(self, given_before: Mapping[str, float]) -> list[str]:
        """Return how these answers differ from those for the validation images; nothing where nobody can say.

        A label is named where its share of the images is surely more than twice, or less than half, of what it was: the
        whole interval of the share lies beyond. What is compared is what the model gives, here and there: a goal that
        gives a label more often than it is true does so on both.

        Args:
            given_before: the share of the validation images that were given each label.

        Source: of the interval, Wilson 1927, at 99.9 %.
        """
        from manylabel.metrics.intervals import wilson_interval

        num_usable = self.num_images - self.num_failed
        if num_usable < MIN_IMAGES or not given_before:
            return []
        names = list(given_before)
        given, before = np.array([self.num_given[name] for name in names]), np.array(list(given_before.values()))
        low, high = wilson_interval(given, np.full(len(given), num_usable), _CONFIDENCE)
        beyond = np.flatnonzero((low > _TIMES * before + _SLACK) | (high < before / _TIMES - _SLACK))
        lines = [f"Labels per image: {given.sum() / num_usable:.2f} here, {before.sum():.2f} on the validation images."]
        if len(beyond):
            ordered = sorted(beyond, key=lambda place: -abs(given[place] / num_usable - before[place]))
            told = [f"{names[place]} {given[place] / num_usable:.1%} ({before[place]:.1%})" for place in ordered]
            lines.append(
                "Warning: these images may be of another kind than those of training. Share of the images that get a "
                f"label (and of the validation images): {join_names(told)}."
            )
        return lines
