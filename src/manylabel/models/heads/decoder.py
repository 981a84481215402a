"""Decoder: queries that look at the tokens of an image, and what turns their answers into logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from manylabel.models.heads.prior import NEW_WEIGHT_STD, prevalence_to_logits


class DecoderHead(nn.Module):
    """Queries that pass through decoder layers, each of which attends to the tokens; then a linear layer per query.

    Tokens are normalised first, since some backbones do so only after pooling.

    Shapes: tokens [B, T, D] to logits [B, L]; Q queries of width E.
    """

    def __init__(
        self,
        num_features: int,
        queries_QE: Tensor,
        layers: Sequence[nn.Module],
        activation: nn.Module,
        answer: nn.Module,
    ) -> None:
        super().__init__()
        self.queries_QE = queries_QE
        self.project = nn.Sequential(
            nn.LayerNorm(num_features), nn.Linear(num_features, queries_QE.shape[1]), activation
        )
        self.layers = nn.ModuleList(layers)
        self.answer = answer

    def forward(self, tokens_BTD: Tensor) -> Tensor:
        """Return logits [B, L]."""
        tokens_BTE = self.project(tokens_BTD)
        answers_BQE = self.queries_QE.expand(tokens_BTE.shape[0], -1, -1)
        for layer in self.layers:
            answers_BQE = layer(answers_BQE, tokens_BTE)
        logits_BL: Tensor = self.answer(answers_BQE)
        return logits_BL


class CrossAttentionLayer(nn.Module):
    """A decoder layer whose queries look at the tokens and not at each other, so that its cost grows with them once.

    Shapes: queries [B, Q, E] and tokens [B, T, E] to queries [B, Q, E].
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(width, choose_num_heads(width), dropout=dropout, batch_first=True)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries_BQE: Tensor, tokens_BTE: Tensor) -> Tensor:
        """Return what the queries found."""
        queries_BQE = self.norms[0](queries_BQE)
        found_BQE, _ = self.attend(queries_BQE, tokens_BTE, tokens_BTE, need_weights=False)
        queries_BQE = self.norms[1](queries_BQE + self.dropout(found_BQE))
        answers_BQE: Tensor = self.norms[2](queries_BQE + self.dropout(self.feed(queries_BQE)))
        return answers_BQE


class GroupLinear(nn.Module):
    """A linear layer per query, for the labels of its group; label number l belongs to query l modulo Q.

    Shapes: answers [B, Q, E] to logits [B, L], weights [L, E].
    """

    def __init__(self, width: int, num_queries: int, prevalence_L: Sequence[float]) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.weight_LE = nn.Parameter(NEW_WEIGHT_STD * torch.randn(len(prevalence_L), width))
        self.bias_L = nn.Parameter(prevalence_to_logits(prevalence_L))

    def forward(self, answers_BQE: Tensor) -> Tensor:
        """Return logits [B, L]."""
        num_labels = len(self.bias_L)
        num_missing = -num_labels % self.num_queries
        filled = functional.pad(self.weight_LE, (0, 0, 0, num_missing))
        weight_GQE = filled.reshape(-1, self.num_queries, filled.shape[1])
        logits_BGQ = torch.einsum("bqe,gqe->bgq", answers_BQE, weight_GQE)
        return logits_BGQ.flatten(1)[:, :num_labels] + self.bias_L


def choose_num_heads(width: int) -> int:
    """Return how many attention heads share a width: eight, or the most below that divide it.

    Example:
        >>> choose_num_heads(256), choose_num_heads(12)
        (8, 6)
    """
    return max(number for number in range(1, 9) if width % number == 0)
