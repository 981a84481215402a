"""Focal loss: cells that are nearly right count less (Lin et al. 2017, "Focal loss for dense object detection")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from manylabel.losses.cells import fill_unknown, mean_over_known
from manylabel.losses.counts import LabelCounts


@dataclass(frozen=True)
class Focal:
    """Eq. 4 and 5: -(1 - p) ** gamma log(p), where p is the probability of what is true.

    `balance` is the share of present cells in the weight: 0.5 weighs both alike, with 1.

    Shapes: as in `binary_cross_entropy`.
    """

    gamma: float = 2.0
    balance: float = 0.5

    def __call__(self, logits_BL: Tensor, truth_BL: Tensor, known_BL: Tensor) -> Tensor:
        """Return the mean over the known cells."""
        logits, truth = fill_unknown(logits_BL, truth_BL, known_BL)
        log_present, log_absent = logsigmoid(logits), logsigmoid(-logits)
        # Powers by way of logarithms: a root of 0 has an infinite gradient.
        present_BL = -2 * self.balance * (self.gamma * log_absent).exp() * log_present
        absent_BL = -2 * (1 - self.balance) * (self.gamma * log_present).exp() * log_absent
        return mean_over_known(truth * present_BL + (1 - truth) * absent_BL, known_BL)


def build_focal(counts: LabelCounts, settings: Mapping[str, float]) -> Focal:  # noqa: ARG001
    """Take the paper's gamma, and both sides alike: its own balance makes up for other things than label sets have."""
    return Focal(settings.get("gamma", 2.0), settings.get("balance", 0.5))
