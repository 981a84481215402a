"""Priors: the logit of how frequent each label is, from which every head starts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_LEAST_PRIOR = 1e-3
"""A label seen never (or always) still starts with a finite logit."""

NEW_WEIGHT_STD = 0.01
"""How far the last weights of a new head spread: little enough that its first answers are the priors."""


def prevalence_to_logits(prevalence_L: Sequence[float]) -> Tensor:
    """Return the logit of each share; a share of 0 or 1 gives a finite one, one that is not known 0.

    Starting there spares the first epoch, in which the biases would only sink to it.

    Source: Lin et al. 2017, "Focal loss for dense object detection", section 4.1 (there one prior for all).

    Example:
        >>> [round(value, 2) for value in prevalence_to_logits([0.01, 0.5, float("nan"), 1.0]).tolist()]
        [-4.6, 0.0, 0.0, 6.91]
    """
    return torch.tensor([_logit(prevalence) for prevalence in prevalence_L])


def _logit(prevalence: float) -> float:
    known = 0.5 if math.isnan(prevalence) else prevalence
    inside = min(max(known, _LEAST_PRIOR), 1 - _LEAST_PRIOR)
    return math.log(inside / (1 - inside))
