"""CSRA head: attention per label beside the mean (Zhu and Wu 2021, "Residual attention", ICCV)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from manylabel.models.heads.prior import NEW_WEIGHT_STD, prevalence_to_logits


class ResidualAttentionHead(nn.Module):
    """A score per position and label; a logit is their mean, and a share of their mean where the label scores high.

    Shapes: tokens [B, T, D] to logits [B, L]; P parallel heads, each with weights of its own.
    """

    temperatures_P1: Tensor

    def __init__(
        self, num_features: int, prevalence_L: Sequence[float], num_heads: int, temperature: float, residual: float
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.residual = residual
        self.score = nn.Linear(num_features, num_heads * len(prevalence_L), bias=False)
        nn.init.normal_(self.score.weight, std=NEW_WEIGHT_STD)
        self.bias = nn.Parameter(prevalence_to_logits(prevalence_L))
        # The last of several heads takes the highest score, the limit of an infinite temperature.
        num_soft = max(num_heads - 1, 1)
        temperatures_P1 = temperature * torch.arange(1, num_soft + 1, dtype=torch.float32)[:, None]
        self.register_buffer("temperatures_P1", temperatures_P1, persistent=False)

    def forward(self, tokens_BTD: Tensor) -> Tensor:
        """Return logits [B, L]."""
        scores_BTPL = self.score(tokens_BTD).unflatten(-1, (self.num_heads, -1))
        soft_BTPL = scores_BTPL[:, :, : len(self.temperatures_P1)]
        weights_BTPL = torch.softmax(self.temperatures_P1 * soft_BTPL, dim=1)
        attended_BL = (weights_BTPL * soft_BTPL).sum((1, 2))
        if self.num_heads > 1:
            attended_BL = attended_BL + scores_BTPL[:, :, -1].amax(1)
        logits_BL: Tensor = scores_BTPL.mean(1).sum(1) + self.residual * attended_BL + self.bias
        return logits_BL


def build_csra_head(
    num_features: int,
    prevalence_L: Sequence[float],
    *,
    num_heads: int = 1,
    temperature: float = 1.0,
    residual: float = 0.1,
) -> ResidualAttentionHead:
    """Build class-specific residual attention: small objects count although most positions do not show them.

    Shapes: tokens [B, T, D] to logits [B, L].

    Args:
        num_heads: heads that are summed: with temperatures of 1, 2, ... times `temperature`, the last with the maximum.
        temperature: how sharply the first head attends; 0 is the mean.
        residual: the share of the attended score that is added to the mean (lambda of the paper).

    Source: Zhu and Wu 2021, "Residual attention: a simple but effective method for multi-label recognition", section 3,
        and the authors' code. We differ: a bias per label, which starts at the prior; weights are not divided by their
        norm; four heads have the temperatures 1, 2, 3 and the maximum (there 1, 2, 4).
    """
    return ResidualAttentionHead(num_features, prevalence_L, num_heads, temperature, residual)
