"""Where a threshold stands between two probabilities."""

from __future__ import annotations

import numpy as np


def halfway(lowest_in: np.float32, highest_out: np.float32) -> np.float32:
    """Return a threshold between two probabilities; it never lands on the one that is to be kept out.

    Example:
        >>> float(halfway(np.float32(0.5), np.float32(0.25)))
        0.375
    """
    midpoint = np.float32((np.float64(lowest_in) + np.float64(highest_out)) / 2)
    return midpoint if midpoint > highest_out else np.float32(lowest_in)
