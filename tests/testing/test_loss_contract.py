"""The contract of losses holds for all that are shipped, and planted faults break it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from manylabel.losses import LOSSES, Loss, build_loss, find_loss, loss_at
from manylabel.losses.counts import LabelCounts
from manylabel.testing.losses import check_loss


def build(text: str, num_labels: int, progress: float = 0.0) -> Loss:
    known_L = np.full(num_labels, 1000.0)
    counts = LabelCounts(np.resize([300.0, 40.0, 5.0, 0.0, 900.0], num_labels), known_L)
    return loss_at(build_loss(text, counts), progress)


@pytest.mark.parametrize("progress", [0.0, 1.0])
@pytest.mark.parametrize(
    "name", [*LOSSES, "asl,clip=0,gamma_positive=1", "focal,gamma=0.5,balance=0.25", "asl,gamma_negative=0.5"]
)
def test_every_loss_keeps_the_contract(name: str, progress: float) -> None:
    check_loss(lambda num_labels: build(name, num_labels, progress))


def summed(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    return find_loss("bce")(logits, truth, known) * known.sum()


def summed_over_labels(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    return find_loss("bce")(logits, truth, known) * logits.shape[1]


def without_mask(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:  # noqa: ARG001
    return functional.binary_cross_entropy_with_logits(logits.float(), truth)


def masked_afterwards(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    cells = functional.binary_cross_entropy_with_logits(logits.float(), truth, reduction="none")
    return (cells * known).sum() / known.sum().clamp(min=1)


def of_probabilities(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    return functional.binary_cross_entropy(torch.where(known, logits, 0.5), torch.where(known, truth, 0.5))


def squared(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    cells = (torch.where(known, logits, 0).float() - torch.where(known, truth, 0)) ** 2
    return cells.sum() / known.sum().clamp(min=1)


def per_image(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    cells = functional.binary_cross_entropy_with_logits(
        torch.where(known, logits, 0).float(), torch.where(known, truth, 0), reduction="none"
    )
    return cells.mean(1)


def in_sixteen_bits(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    cells = functional.softplus(torch.where(known, logits, 0)) - torch.where(known, truth, 0).to(logits.dtype) * (
        torch.where(known, logits, 0)
    )
    return torch.where(known, cells, 0).sum() / known.sum().clamp(min=1)


def overflowing(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    kept, target = torch.where(known, logits, 0).float(), torch.where(known, truth, 0)
    cells = torch.log(1 + torch.exp(kept)) - target * kept
    return torch.where(known, cells, 0).sum() / known.sum().clamp(min=1)


def detached(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    return find_loss("bce")(logits.detach(), truth, known) + 0 * torch.where(known, logits, 0).sum()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        pytest.param(summed, "4 times as many images change the loss 4.00 times: it is no mean", id="sum"),
        pytest.param(summed_over_labels, "4 times as many labels change the loss 4.00 times", id="sum over labels"),
        pytest.param(without_mask, "a gradient reaches unknown cells", id="no mask"),
        pytest.param(masked_afterwards, "a truth of nan in unknown cells changes the loss", id="mask too late"),
        pytest.param(of_probabilities, "it fails on logits from", id="probabilities"),
        pytest.param(squared, "as if logits were taken for probabilities", id="distance to the truth"),
        pytest.param(per_image, r"shape \(12,\), not one number", id="a number per image"),
        pytest.param(in_sixteen_bits, "it computes in 16 bits", id="16 bits"),
        pytest.param(overflowing, "logits of 1", id="overflow"),
        pytest.param(detached, "the gradient of ordinary logits is zero", id="nothing to learn from"),
    ],
)
def test_a_planted_fault_breaks_it(loss: Loss, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_loss(lambda _: loss)
