"""ZLPR: present labels above 0, absent ones below, all pairs at once (Su et al. 2022, "ZLPR: a novel loss")."""

from __future__ import annotations

import torch
from torch import Tensor

from manylabel.losses.cells import fill_unknown

_LEAST = 1e-30
_OUT = -1e9
"""Takes a cell out of a sum of exponentials without the NaN that an infinite one gives in the gradient."""


def zero_bounded_log_sum_exp(logits_BL: Tensor, truth_BL: Tensor, known_BL: Tensor) -> Tensor:
    """Return the mean over images of log(1 + sum exp(-present)) + log(1 + sum exp(absent)).

    It grows with the logarithm of the number of labels, and the gradient of an image stays below 2 in sum. Images
    without a known cell are left out. A truth between 0 and 1 shares a cell between both sums.

    Shapes: as in `binary_cross_entropy`.

    Source: eq. 9 of the paper, eq. 12 for soft labels.

    Example:
        >>> one = torch.ones(1, 2)
        >>> float(zero_bounded_log_sum_exp(0 * one, torch.tensor([[1.0, 0.0]]), one.bool()))  # twice log 2
        1.386294...
    """
    logits, truth = fill_unknown(logits_BL, truth_BL, known_BL)
    present_BL = torch.where(known_BL & (truth > 0), truth.clamp(min=_LEAST).log() - logits, _OUT)
    absent_BL = torch.where(known_BL & (truth < 1), (1 - truth).clamp(min=_LEAST).log() + logits, _OUT)
    zero_B1 = logits.new_zeros(len(logits), 1)
    images_B = torch.cat([zero_B1, present_BL], 1).logsumexp(1) + torch.cat([zero_B1, absent_BL], 1).logsumexp(1)
    has_known_B = known_BL.any(1)
    return torch.where(has_known_B, images_B, 0.0).sum() / has_known_B.sum().clamp(min=1)
