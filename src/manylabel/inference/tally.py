"""What many answers came to: how often each label was given, and whether that is as it was in training."""

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

    def describe_drift(self, prevalence: Mapping[str, float]) -> list[str]:
        """Return how these answers differ from the images of training; nothing where there are too few to say.

        A label is named where its share of the images is surely more than twice, or less than half, of what it was in
        training: the whole interval of the share lies beyond.

        Args:
            prevalence: the share of the training images that show each label; NaN where nobody knows.

        Source: of the interval, Wilson 1927, at 99.9 %.
        """
        from manylabel.metrics.intervals import wilson_interval

        num_usable = self.num_images - self.num_failed
        known = {name: share for name, share in prevalence.items() if share == share}
        if num_usable < MIN_IMAGES or not known:
            return []
        given = np.array([self.num_given[name] for name in known])
        low, high = wilson_interval(given, np.full(len(given), num_usable), _CONFIDENCE)
        before = np.array(list(known.values()))
        beyond = np.flatnonzero((low > _TIMES * before) | (high < before / _TIMES))
        lines = [f"Labels per image: {given.sum() / num_usable:.2f} given here, {before.sum():.2f} in training."]
        if len(beyond):
            names = list(known)
            ordered = sorted(beyond, key=lambda place: -abs(given[place] / num_usable - before[place]))
            told = [f"{names[place]} {given[place] / num_usable:.1%} ({before[place]:.1%})" for place in ordered]
            lines.append(
                f"Warning: these images may be of another kind than those of training. Given here (and true there): "
                f"{join_names(told)}."
            )
        return lines
