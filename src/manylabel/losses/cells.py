"""Cells of a batch: what all losses do before and after their own formula."""

from __future__ import annotations

import torch
from torch import Tensor


def fill_unknown(logits_BL: Tensor, truth_BL: Tensor, known_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and truth in 32 bits, unknown cells replaced by 0.

    Before anything is computed: 0 times infinity would be NaN, in the gradient too.
    """
    return torch.where(known_BL, logits_BL.float(), 0.0), torch.where(known_BL, truth_BL.float(), 0.0)


def mean_over_known(cells_BL: Tensor, known_BL: Tensor) -> Tensor:
    """Return the mean over known cells; without any it is 0 with a gradient of 0, not NaN."""
    return torch.where(known_BL, cells_BL, 0.0).sum() / known_BL.sum().clamp(min=1)
