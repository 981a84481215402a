"""Classifier: images in, a logit per label out; nothing in it knows a threshold."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from manylabel.errors import ConfigError, build_message, join_names, suggest_name
from manylabel.models.backbones import Backbone
from manylabel.models.heads import HEADS


class Classifier(nn.Module):
    """A backbone with a head.

    Shapes: images [B, 3, H, W], normalised, to logits [B, L].
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = head

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits [B, L]."""
        logits_BL: Tensor = self.head(self.dropout(self.backbone(images_BCHW)))
        return logits_BL


def build_classifier(
    backbone: Backbone, prevalence_L: Sequence[float], head: str = "linear", dropout: float = 0.0
) -> Classifier:
    """Put a new head on a backbone.

    Args:
        backbone: from `build_backbone`.
        prevalence_L: the share of training images with each label, which the head starts from.
        head: a name in `HEADS`.
        dropout: the share of features that a training step leaves out.

    Raises:
        ConfigError: there is no such head; the message suggests the nearest.
    """
    if head not in HEADS:
        raise ConfigError(
            build_message("head", f"unknown head {head!r}{suggest_name(head, HEADS)}", expected=join_names(list(HEADS)))
        )
    return Classifier(backbone.module, HEADS[head](backbone.num_features, prevalence_L), dropout)
