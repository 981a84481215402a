"""Two-way loss: right labels above wrong ones, within an image and within a label (Kobayashi 2023, "Two-way loss")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from manylabel.losses.counts import LabelCounts

_FAR = 1e9
"""Takes a cell out of a maximum without the NaN that an infinite one gives in the gradient."""


@dataclass(frozen=True)
class TwoWay:
    """Eq. 9: log(1 + sum exp(absent) * sum exp(-present)), over the labels of an image and over the images of a label.

    Images and labels without a present cell in the batch say nothing about an order and are left out; an image with
    none learns through its labels. It compares logits and leaves their level free: tune the thresholds.
    `temperature` softens the present side. The mean is over images and over labels, so the gradient of an image stays
    below a bound however many labels there are.

    Shapes: as in `binary_cross_entropy`.
    """

    temperature: float = 4.0

    def __call__(self, logits_BL: Tensor, truth_BL: Tensor, known_BL: Tensor) -> Tensor:
        """Return the mean over images plus the mean over labels."""
        logits = torch.where(known_BL, logits_BL.float(), 0.0)
        is_present = known_BL & (truth_BL >= 0.5)
        is_absent = known_BL & ~is_present
        return self._compare(logits, is_present, is_absent, 1) + self._compare(logits, is_present, is_absent, 0)

    def _compare(self, logits: Tensor, is_present: Tensor, is_absent: Tensor, axis: int) -> Tensor:
        present = torch.where(is_present, -logits / self.temperature, -_FAR).logsumexp(axis) * self.temperature
        absent = torch.where(is_absent, logits, -_FAR).logsumexp(axis)
        has_both = is_present.any(axis) & is_absent.any(axis)
        compared = torch.where(has_both, softplus(torch.where(has_both, present + absent, 0.0)), 0.0)
        return compared.sum() / has_both.sum().clamp(min=1)


def build_two_way(counts: LabelCounts, settings: Mapping[str, float]) -> TwoWay:  # noqa: ARG001
    """Take the paper's temperature."""
    return TwoWay(settings.get("temperature", 4.0))
