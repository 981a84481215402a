"""MLP head: a hidden layer with a norm and GELU (Ba et al. 2016, "Layer normalization"; Hendrycks and Gimpel 2016)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from manylabel.models.heads.linear import build_linear_head


def build_mlp_head(
    num_features: int, prevalence_L: Sequence[float], *, hidden: int = 512, dropout: float = 0.1
) -> nn.Sequential:
    """Build a hidden layer, a norm, GELU, dropout and a linear head.

    The norm is over the features of one image, so that neither the other images of a batch nor its size matter.

    Shapes: features [B, D] to logits [B, L].

    Args:
        hidden: the width of the hidden layer.
        dropout: the share of it that a training step leaves out.

    Source: Ba, Kiros and Hinton 2016, "Layer normalization"; Hendrycks and Gimpel 2016, "Gaussian error linear units".
    """
    return nn.Sequential(
        nn.Linear(num_features, hidden),
        nn.LayerNorm(hidden),
        nn.GELU(),
        nn.Dropout(dropout),
        build_linear_head(hidden, prevalence_L),
    )
