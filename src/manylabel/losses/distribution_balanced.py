"""Distribution-balanced loss: labels that come together weighed anew (Wu et al. 2020, "Distribution-balanced loss")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from manylabel.losses.cells import fill_unknown, mean_over_known
from manylabel.losses.counts import LabelCounts

_ALPHA, _BETA, _MU = 0.1, 10.0, 0.2
"""Eq. 4: how the raw weight is smoothed; the values of the paper's COCO experiments."""


@dataclass(frozen=True)
class DistributionBalanced:
    """Eq. 8 without the focal part: weights by how often an image would be drawn for a label, absent cells tolerated.

    Logits are shifted by `kappa` times the log odds of the label's frequency, and those of absent cells sharpened by
    `scale`, whose loss counts as much less.

    Shapes: `frequency_L` [L], the shares of the labels; else as in `binary_cross_entropy`.
    """

    frequency_L: tuple[float, ...]
    kappa: float = 0.05
    scale: float = 2.0

    def __call__(self, logits_BL: Tensor, truth_BL: Tensor, known_BL: Tensor) -> Tensor:
        """Return the mean over the known cells."""
        logits, truth = fill_unknown(logits_BL, truth_BL, known_BL)
        frequency_L = logits.new_tensor(self.frequency_L)
        shifted = logits + self.kappa * torch.logit(frequency_L)
        cells_BL = truth * softplus(-shifted) + (1 - truth) * softplus(self.scale * shifted) / self.scale
        return mean_over_known(self._weigh(truth, frequency_L) * cells_BL, known_BL)

    def describe(self) -> str:
        """Return its settings and the span of the frequencies it works with."""
        low, high = min(self.frequency_L), max(self.frequency_L)
        return f"kappa {self.kappa:g}, scale {self.scale:g}, frequencies {low:.2%} to {high:.2%}"

    @staticmethod
    def _weigh(truth_BL: Tensor, frequency_L: Tensor) -> Tensor:
        """Return eq. 3 and 4; an image without a label has nothing to be drawn for and gets the largest weight."""
        expected_B1 = (truth_BL / frequency_L).sum(1, keepdim=True).clamp(min=1e-6)
        raw_BL = 1 / frequency_L / expected_B1
        return _ALPHA + torch.sigmoid(_BETA * (raw_BL - _MU))


def build_distribution_balanced(counts: LabelCounts, settings: Mapping[str, float]) -> DistributionBalanced:
    """Take the paper's settings with the frequencies of the training table."""
    frequency = tuple(np.clip(counts.prevalence_L, 1e-6, 1 - 1e-6).tolist())
    return DistributionBalanced(frequency, settings.get("kappa", 0.05), settings.get("scale", 2.0))
