"""Binary cross-entropy on logits, one two-way choice per label (Bishop 2006, Pattern Recognition, section 4.3.2)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from manylabel.losses.cells import fill_unknown, mean_over_known


def binary_cross_entropy(logits_BL: Tensor, truth_BL: Tensor, known_BL: Tensor) -> Tensor:
    """Return the mean binary cross-entropy over the known cells.

    Takes logits, never probabilities: the sigmoid is inside, where it cannot overflow. A batch without a known cell
    gives 0 with a gradient of 0, not NaN.

    Shapes: B images of a batch, L labels.

    Args:
        logits_BL: any real numbers, any floating type; computed in 32 bits.
        truth_BL: 1 present, 0 absent, or a number between; unknown cells may hold anything.
        known_BL: true where the truth is known.

    Example:
        >>> import torch
        >>> logits = torch.zeros(1, 2)
        >>> float(binary_cross_entropy(logits, torch.tensor([[1.0, 0.0]]), torch.tensor([[True, True]])))
        0.693147...
    """
    logits, truth = fill_unknown(logits_BL, truth_BL, known_BL)
    cells_BL = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return mean_over_known(cells_BL, known_BL)
