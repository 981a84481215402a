"""ML-Decoder head: group queries that attend to the image (Ridnik et al. 2023, "ML-Decoder", WACV)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from manylabel.errors import ConfigError, build_message
from manylabel.models.heads.decoder import CrossAttentionLayer, DecoderHead, GroupLinear

_DEFAULT_GROUPS = 100


def build_ml_decoder_head(
    num_features: int,
    prevalence_L: Sequence[float],
    *,
    num_groups: int | None = None,
    hidden: int = 256,
    dropout: float = 0.1,
) -> DecoderHead:
    """Build a decoder in which a query stands for a group of labels, so that thousands of labels cost little more.

    Shapes: tokens [B, T, D] to logits [B, L].

    Args:
        num_groups: the number of queries; None takes one per label, at most 100.
        hidden: the width of the decoder.
        dropout: the share of its values that a training step leaves out.

    Raises:
        ConfigError: more groups than labels.

    Source: Ridnik et al. 2023, "ML-Decoder: scalable and versatile classification head", section 3, and the authors'
        code: no self-attention, queries that are not learnt, a group fully connected layer. We differ: a width of 256
        and four times that between (there 768 and 2048), tokens normalised first, no dropout on the constant queries,
        labels dealt out to the groups in turn so that none is empty, a bias that starts at the prior.
    """
    num_labels = len(prevalence_L)
    if num_groups is None:
        num_groups = min(num_labels, _DEFAULT_GROUPS)
    if num_groups > num_labels:
        problem = f"{num_groups} groups for {num_labels} labels"
        raise ConfigError(
            build_message(
                "head num_groups",
                problem,
                expected=f"1 to {num_labels}",
                do="Leave num_groups out of --head, or lower it",
            )
        )
    answer = GroupLinear(hidden, num_groups, prevalence_L)
    layer = CrossAttentionLayer(hidden, dropout)
    # Not learnt, and the same values have to come back with the weights.
    queries_QE = nn.Buffer(torch.randn(num_groups, hidden))
    return DecoderHead(num_features, queries_QE, [layer], nn.ReLU(), answer)
