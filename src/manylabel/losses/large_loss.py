"""Large loss rejection: the worst absent cells may be missing labels (Kim et al. 2022, "Large loss matters")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from manylabel.losses.cells import fill_unknown, mean_over_known
from manylabel.losses.counts import LabelCounts


@dataclass(frozen=True)
class LargeLoss:
    """Binary cross-entropy that leaves out the absent cells of a batch with the largest loss (LL-R of the paper).

    What is left out rises in a straight line from nothing at the start of a run to `share` of the absent cells.

    Shapes: as in `binary_cross_entropy`. Source: eq. 4 to 6; there the share rises by the epoch.
    """

    share: float = 0.02
    progress: float = 0.0

    def __call__(self, logits_BL: Tensor, truth_BL: Tensor, known_BL: Tensor) -> Tensor:
        """Return the mean over the known cells; those left out count as 0."""
        logits, truth = fill_unknown(logits_BL, truth_BL, known_BL)
        cells_BL = binary_cross_entropy_with_logits(logits, truth, reduction="none")
        is_absent = known_BL & (truth < 0.5)
        num_rejected = int(self.share * self.progress * int(is_absent.sum()))
        if num_rejected > 0:
            largest = cells_BL.detach()[is_absent].topk(num_rejected).values[-1]
            cells_BL = torch.where(is_absent & (cells_BL.detach() >= largest), 0.0, cells_BL)
        return mean_over_known(cells_BL, known_BL)

    def at(self, progress: float) -> LargeLoss:
        """Return the loss at this share of a run."""
        return replace(self, progress=progress)


def build_large_loss(counts: LabelCounts, settings: Mapping[str, float]) -> LargeLoss:
    """Leave out at most a fifth as many absent cells as there are present ones: a guess at how many were forgotten."""
    return LargeLoss(settings.get("share", min(0.05, counts.density / (1 - min(counts.density, 0.9)) / 5)))
