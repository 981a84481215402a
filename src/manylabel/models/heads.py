"""Heads: from the features of a backbone to a logit per label; `HEADS` lists them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

_LEAST_PRIOR = 1e-3
"""A label seen never (or always) still starts with a finite logit."""

BuildHead = Callable[[int, Sequence[float]], nn.Module]
"""A function of (number of features, prevalence of each label) to a module from [B, D] to [B, L]."""


def build_linear_head(num_features: int, prevalence_L: Sequence[float]) -> nn.Module:
    """Build one linear layer whose first answer for every image is how frequent each label is.

    Starting at the prior spares the first epoch, in which the biases would only sink to it.

    Shapes: features [B, D] to logits [B, L].

    Source: Lin et al. 2017, "Focal loss for dense object detection", section 4.1 (there one prior for all).
    """
    head = nn.Linear(num_features, len(prevalence_L))
    nn.init.normal_(head.weight, std=0.01)
    with torch.no_grad():
        head.bias.copy_(torch.tensor([_logit(prevalence) for prevalence in prevalence_L]))
    return head


HEADS: Mapping[str, BuildHead] = {
    "linear": build_linear_head,
}


def _logit(prevalence: float) -> float:
    known = 0.5 if math.isnan(prevalence) else prevalence
    inside = min(max(known, _LEAST_PRIOR), 1 - _LEAST_PRIOR)
    return math.log(inside / (1 - inside))
