"""LabelCounts: what a loss may know of the training table when its settings are suggested."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LabelCounts:
    """How many training images have each label, and in how many it is known.

    Shapes: `present_L` and `known_L` [L].
    """

    present_L: FloatArray
    known_L: FloatArray

    @property
    def absent_L(self) -> FloatArray:
        """In how many images each label is known to be absent."""
        return self.known_L - self.present_L

    @property
    def prevalence_L(self) -> FloatArray:
        """The share of each label, kept off 0 and 1: a label that was never seen counts as seen half a time."""
        return (self.present_L + 0.5) / (self.known_L + 1.0)

    @property
    def density(self) -> float:
        """The share of known cells that are present; one half where nothing is known."""
        return float(self.present_L.sum() / self.known_L.sum()) if self.known_L.sum() > 0 else 0.5
