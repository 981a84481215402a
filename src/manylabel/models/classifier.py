"""Classifier: images in, a logit per label out; nothing in it knows a threshold."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from manylabel.models.backbones import Backbone
from manylabel.models.heads import HEADS, HeadKind, Takes, parse_head
from manylabel.models.tokens import TokenExtractor, count_tokens, hold_unused_weights, images_to_tokens


class Classifier(nn.Module):
    """A backbone with a head.

    Shapes: images [B, 3, H, W], normalised, to logits [B, L].

    Args:
        takes: whether the head takes the vector that the backbone gives, or tokens: the features of every position.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, dropout: float = 0.0, takes: Takes = "vector") -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = head
        self.takes: Takes = takes

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits [B, L]."""
        return self.answer(self.extract(images_BCHW))

    def extract(self, images_BCHW: Tensor) -> Tensor:
        """Return what the head takes: features [B, D], or tokens [B, T, D]."""
        if self.takes == "tokens":
            return images_to_tokens(self.backbone, images_BCHW)
        features_BD: Tensor = self.backbone(images_BCHW)
        return features_BD

    @property
    def extractor(self) -> nn.Module:
        """The backbone as a module that gives what the head takes."""
        return TokenExtractor(self.backbone) if self.takes == "tokens" else self.backbone

    def answer(self, features: Tensor) -> Tensor:
        """Return logits [B, L] for what `extract` gave."""
        logits_BL: Tensor = self.head(self.dropout(features))
        return logits_BL


def build_classifier(
    backbone: Backbone, prevalence_L: Sequence[float], head: str | HeadKind = "linear", dropout: float = 0.0
) -> Classifier:
    """Put a new head on a backbone.

    Weights of the backbone that the head's answers do not depend on are not trained.

    Args:
        backbone: from `build_backbone`.
        prevalence_L: the share of training images with each label, which the head starts from.
        head: a name in `HEADS`, with settings after commas (`ml_decoder,num_groups=50`), or a head of your own.
        dropout: the share of features that a training step leaves out.

    Raises:
        ConfigError: there is no such head or setting, the message suggests the nearest; or the head does not fit the
            labels or the backbone.
    """
    settings: dict[str, float] = {}
    if isinstance(head, str):
        name, settings = parse_head(head)
        head = HEADS[name]
    built = head.build(find_feature_shape(backbone, head.takes)[-1], prevalence_L, **settings)
    if head.takes == "tokens":
        hold_unused_weights(backbone)
    return Classifier(backbone.module, built, dropout, head.takes)


def find_feature_shape(backbone: Backbone, takes: Takes) -> tuple[int, ...]:
    """Return the shape of what a head takes of one image: (D,) for a vector, (T, D) for tokens.

    Raises:
        ConfigError: the backbone gives no features per position.
    """
    return (backbone.num_features,) if takes == "vector" else count_tokens(backbone)
