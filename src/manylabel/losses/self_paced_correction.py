"""SPLC: absent cells that the model is sure of count as present (Zhang et al. 2021, "Simple and robust loss")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import softplus

from manylabel.losses.cells import fill_unknown, mean_over_known
from manylabel.losses.counts import LabelCounts
from manylabel.losses.hill import focal_margin


@dataclass(frozen=True)
class SelfPacedCorrection:
    """Focal margin for present cells, cross-entropy for absent ones; from `start` of the run on, an absent cell whose
    probability exceeds `threshold` is taken for a label that somebody forgot.

    For tables that are known to miss labels; where they do not, it teaches the model its own mistakes.

    Shapes: as in `binary_cross_entropy`. Source: section 3.3.
    """

    threshold: float = 0.6
    start: float = 0.1
    gamma: float = 2.0
    margin: float = 1.0
    progress: float = 0.0

    def __call__(self, logits_BL: Tensor, truth_BL: Tensor, known_BL: Tensor) -> Tensor:
        """Return the mean over the known cells."""
        logits, truth = fill_unknown(logits_BL, truth_BL, known_BL)
        if self.progress >= self.start:
            truth = torch.where(logits.detach().sigmoid() > self.threshold, 1.0, truth)
        cells_BL = truth * focal_margin(logits, self.gamma, self.margin) + (1 - truth) * softplus(logits)
        return mean_over_known(cells_BL, known_BL)

    def at(self, progress: float) -> SelfPacedCorrection:
        """Return the loss at this share of a run."""
        return replace(self, progress=progress)


def build_self_paced_correction(counts: LabelCounts, settings: Mapping[str, float]) -> SelfPacedCorrection:  # noqa: ARG001
    """Take the paper's settings; its first epoch without correction is a tenth of the run here."""
    return SelfPacedCorrection(
        settings.get("threshold", 0.6),
        settings.get("start", 0.1),
        settings.get("gamma", 2.0),
        settings.get("margin", 1.0),
    )
