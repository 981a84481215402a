"""Hill loss: absent cells with a high probability may be missing labels (Zhang et al. 2021, "Simple and robust")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from manylabel.losses.cells import fill_unknown, mean_over_known
from manylabel.losses.counts import LabelCounts


@dataclass(frozen=True)
class Hill:
    """Present cells with a focal loss on logits less `margin`; absent ones (turn - p) p ** 2, which falls again near 1.

    So a label that somebody forgot pulls the model down less than one that is really absent.

    Shapes: as in `binary_cross_entropy`. Source: section 3.2 (hill) and eq. 9 (focal margin).
    """

    gamma: float = 2.0
    margin: float = 1.0
    turn: float = 1.5

    def __call__(self, logits_BL: Tensor, truth_BL: Tensor, known_BL: Tensor) -> Tensor:
        """Return the mean over the known cells."""
        logits, truth = fill_unknown(logits_BL, truth_BL, known_BL)
        probs = logits.sigmoid()
        absent_BL = (self.turn - probs) * probs**2
        present_BL = focal_margin(logits, self.gamma, self.margin)
        return mean_over_known(truth * present_BL + (1 - truth) * absent_BL, known_BL)


def focal_margin(logits_BL: Tensor, gamma: float, margin: float) -> Tensor:
    """Return the focal loss of present cells on logits less a margin: what is half sure still learns."""
    return -(gamma * logsigmoid(margin - logits_BL)).exp() * logsigmoid(logits_BL - margin)


def build_hill(counts: LabelCounts, settings: Mapping[str, float]) -> Hill:  # noqa: ARG001
    """Take the paper's settings."""
    return Hill(settings.get("gamma", 2.0), settings.get("margin", 1.0), settings.get("turn", 1.5))
