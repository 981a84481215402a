"""Query2Label head: a query per label that attends to the image (Liu et al. 2021, "Query2Label", arXiv 2107.10834)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from manylabel.errors import ConfigError, build_message
from manylabel.models.heads.decoder import CrossAttentionLayer, DecoderHead, GroupLinear, choose_num_heads

_MOST_COMPARED = 1000
"""Labels that a second layer compares with each other: the comparisons of a step grow with their square."""


def build_query2label_head(
    num_features: int, prevalence_L: Sequence[float], *, num_layers: int = 2, hidden: int = 256, dropout: float = 0.1
) -> DecoderHead:
    """Build a transformer decoder with one learnt query per label.

    The first layer lets each query look at the image; there it has nothing yet to tell the others. The second one
    lets the labels look at each other as well.

    Shapes: tokens [B, T, D] to logits [B, L].

    Args:
        num_layers: 1 or 2.
        hidden: the width of the decoder.
        dropout: the share of its values that a training step leaves out.

    Raises:
        ConfigError: more labels than two layers can compare.

    Source: Liu et al. 2021, "Query2Label: a simple transformer way to multi-label classification", section 3, and
        the authors' code, whose decoder layers have no self-attention unless asked. We differ: no encoder layer and no
        positional encoding, a width of 256 (there 2048), tokens normalised first, a bias that starts at the prior.
    """
    num_labels = len(prevalence_L)
    if num_layers > 1 and num_labels > _MOST_COMPARED:
        problem = f"{num_labels} labels are too many to be compared with each other"
        raise ConfigError(
            build_message(
                "head num_layers",
                problem,
                expected=f"at most {_MOST_COMPARED}",
                do="Take --head ml_decoder, or --head query2label,num_layers=1",
            )
        )
    layers: list[nn.Module] = [CrossAttentionLayer(hidden, dropout)]
    if num_layers > 1:
        layers.append(
            nn.TransformerDecoderLayer(hidden, choose_num_heads(hidden), 4 * hidden, dropout, batch_first=True)
        )
    queries_LE = nn.Parameter(torch.randn(num_labels, hidden))
    return DecoderHead(num_features, queries_LE, layers, nn.Identity(), GroupLinear(hidden, num_labels, prevalence_L))
