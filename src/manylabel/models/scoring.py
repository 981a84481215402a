"""The one place outside the losses where logits become probabilities."""

from __future__ import annotations

import torch
from torch import Tensor


def logits_to_probs(logits_BL: Tensor) -> Tensor:
    """Return the probability of each label on its own; those of an image do not sum to 1.

    Computed in 32 bits, whatever the logits come in.

    Example:
        >>> logits_to_probs(torch.tensor([[0.0, 100.0]])).tolist()
        [[0.5, 1.0]]
    """
    return torch.sigmoid(logits_BL.float())
