"""Asymmetric loss: easy absent cells count little or nothing (Ridnik et al. 2021, "Asymmetric loss")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from manylabel.losses.cells import fill_unknown, mean_over_known
from manylabel.losses.counts import LabelCounts

_FEW_LABELS = 0.05
"""The paper's data sets have about 4 % of their cells present; its focusing of 4 is made for such."""


@dataclass(frozen=True)
class Asymmetric:
    """Eq. 7: present cells with a focus of `gamma_positive`, absent ones `gamma_negative` on p - `clip`.

    p - `clip` is at least 0: absent cells below it cost nothing.

    Shapes: as in `binary_cross_entropy`.
    """

    gamma_negative: float = 4.0
    gamma_positive: float = 0.0
    clip: float = 0.05

    def __call__(self, logits_BL: Tensor, truth_BL: Tensor, known_BL: Tensor) -> Tensor:
        """Return the mean over the known cells (the paper sums them)."""
        logits, truth = fill_unknown(logits_BL, truth_BL, known_BL)
        present_BL = -(self.gamma_positive * logsigmoid(-logits)).exp() * logsigmoid(logits)
        shifted_BL = (logits.sigmoid() - self.clip).clamp(min=0)
        # log(1 - p) from the logit where nothing is clipped away: there 1 - p would round to 0.
        log_absent_BL = torch.log1p(-shifted_BL) if self.clip > 0 else logsigmoid(-logits)
        absent_BL = -(shifted_BL**self.gamma_negative) * log_absent_BL
        return mean_over_known(truth * present_BL + (1 - truth) * absent_BL, known_BL)


def build_asymmetric(counts: LabelCounts, settings: Mapping[str, float]) -> Asymmetric:
    """Take the paper's settings where few cells are present, and half its focus where labels are more even."""
    gamma_negative = 4.0 if counts.density <= _FEW_LABELS else 2.0
    return Asymmetric(
        settings.get("gamma_negative", gamma_negative),
        settings.get("gamma_positive", 0.0),
        settings.get("clip", 0.05),
    )
