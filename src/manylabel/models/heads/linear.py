"""Linear head: one layer, started at the prior of each label (Lin et al. 2017, "Focal loss", section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from manylabel.models.heads.prior import NEW_WEIGHT_STD, prevalence_to_logits


def build_linear_head(num_features: int, prevalence_L: Sequence[float]) -> nn.Linear:
    """Build one linear layer whose first answer for every image is how frequent each label is.

    Shapes: features [B, D] to logits [B, L].

    Source: Lin et al. 2017, "Focal loss for dense object detection", section 4.1 (there one prior for all).
    """
    head = nn.Linear(num_features, len(prevalence_L))
    nn.init.normal_(head.weight, std=NEW_WEIGHT_STD)
    with torch.no_grad():
        head.bias.copy_(prevalence_to_logits(prevalence_L))
    return head
