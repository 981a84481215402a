"""Label smoothing for label sets: no cell is wholly certain (Szegedy et al. 2016, "Rethinking Inception", sec. 7)."""

from __future__ import annotations

from torch import Tensor


def smooth_labels(truth_BL: Tensor, amount: float) -> Tensor:
    """Return the truth moved by `amount` of the way towards one half: 0.1 makes 1 to 0.95 and 0 to 0.05.

    Every cell is a choice of two, so it moves towards one half and not towards one over the number of labels.

    Example:
        >>> import torch
        >>> smooth_labels(torch.tensor([1.0, 0.0, 0.5]), 0.5).tolist()
        [0.75, 0.25, 0.5]
    """
    return truth_BL * (1 - amount) + amount / 2
