"""Binary cross-entropy with weights for the present and absent cells of a label (Cui et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from manylabel.losses.cells import fill_unknown, mean_over_known
from manylabel.losses.counts import FloatArray, LabelCounts


@dataclass(frozen=True)
class WeightedBinaryCrossEntropy:
    """Binary cross-entropy in which each label has a weight for its present and one for its absent cells.

    Over the training table the weights have a mean of 1, so the learning rate keeps its meaning.

    Shapes: `present_weights_L`, `absent_weights_L` [L]; takes and gives what `binary_cross_entropy` does.
    """

    present_weights_L: tuple[float, ...]
    absent_weights_L: tuple[float, ...]

    def __call__(self, logits_BL: Tensor, truth_BL: Tensor, known_BL: Tensor) -> Tensor:
        """Return the weighted mean over the known cells."""
        logits, truth = fill_unknown(logits_BL, truth_BL, known_BL)
        present_L, absent_L = logits.new_tensor(self.present_weights_L), logits.new_tensor(self.absent_weights_L)
        cells_BL = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return mean_over_known(
            cells_BL * torch.lerp(absent_L.expand_as(truth), present_L.expand_as(truth), truth), known_BL
        )

    def describe(self) -> str:
        """Return the span of its weights."""
        present, absent = self.present_weights_L, self.absent_weights_L
        return (
            f"weights of present cells {min(present):.2g} to {max(present):.2g}, "
            f"of absent cells {min(absent):.2g} to {max(absent):.2g}"
        )


def build_ratio_weighted(counts: LabelCounts, settings: Mapping[str, float]) -> WeightedBinaryCrossEntropy:
    """Weigh present cells by (absent / present) ** power, at most `cap`; absent cells by 1; then all to a mean of 1."""
    ratio_L = (1 - counts.prevalence_L) / counts.prevalence_L
    present_L = np.minimum(ratio_L ** settings.get("power", 1.0), settings.get("cap", 20.0))
    return _bring_to_mean_of_one(present_L, np.ones_like(present_L), counts)


def build_class_balanced(counts: LabelCounts, settings: Mapping[str, float]) -> WeightedBinaryCrossEntropy:
    """Weigh by 1 over the effective number of images, (1 - beta ** n) / (1 - beta), present and absent on their own.

    Of a label, a present cell counts at most `cap` times as much as an absent one.
    """
    beta, cap = settings.get("beta", 0.999), settings.get("cap", 20.0)
    present_L, absent_L = (
        (1 - beta) / (1 - beta ** np.maximum(number, 1.0)) for number in (counts.present_L, counts.absent_L)
    )
    return _bring_to_mean_of_one(np.minimum(present_L, cap * absent_L), absent_L, counts)


def _bring_to_mean_of_one(
    present_L: FloatArray, absent_L: FloatArray, counts: LabelCounts
) -> WeightedBinaryCrossEntropy:
    total = float((present_L * counts.present_L + absent_L * counts.absent_L).sum())
    scale = float(counts.known_L.sum()) / total if total > 0 else 1.0
    return WeightedBinaryCrossEntropy(tuple((present_L * scale).tolist()), tuple((absent_L * scale).tolist()))
