"""Binary cross-entropy against scikit-learn and by hand; unknown cells weigh nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch import Tensor

from manylabel.losses.binary_cross_entropy import binary_cross_entropy


def draw(num_images: int, num_labels: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    shape = (num_images, num_labels)
    logits = torch.tensor(rng.normal(scale=3, size=shape), dtype=torch.float32)
    truth = torch.tensor(rng.random(shape) < 0.4, dtype=torch.float32)
    return logits, truth, torch.tensor(rng.random(shape) < 0.8)


def loss_and_gradient(logits: Tensor, truth: Tensor, known: Tensor) -> tuple[float, Tensor]:
    leaf = logits.clone().requires_grad_(True)
    loss = binary_cross_entropy(leaf, truth, known)
    loss.backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    return float(loss.detach()), leaf.grad


def test_it_is_the_log_loss_of_scikit_learn_over_the_known_cells() -> None:
    logits, truth, known = draw(7, 5)
    probs = 1 / (1 + np.exp(-logits.double().numpy()))
    expected = log_loss(truth.numpy()[known.numpy()], probs[known.numpy()], labels=[0, 1])
    assert float(binary_cross_entropy(logits, truth, known)) == pytest.approx(expected, rel=1e-6)


def test_a_case_worked_by_hand() -> None:
    # Two known cells: present at probability 3/4 costs ln(4/3), absent at probability 1/2 costs ln 2.
    logits = torch.tensor([[math.log(3), 0.0, 9.0]])
    known = torch.tensor([[True, True, False]])
    value, gradient = loss_and_gradient(logits, torch.tensor([[1.0, 0.0, 0.0]]), known)
    assert value == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    assert gradient.tolist() == [pytest.approx([-0.25 / 2, 0.5 / 2, 0.0])]  # (probability - truth) / 2 known cells


@pytest.mark.parametrize(
    ("logit", "truth"),
    [
        pytest.param(0.0, math.nan, id="truth is NaN"),
        pytest.param(0.0, 7.0, id="truth is no truth"),
        pytest.param(0.0, -math.inf, id="truth is infinite"),
        pytest.param(1e4, 0.0, id="logit is extreme and wrong"),
        pytest.param(math.inf, 0.0, id="logit has overflowed"),
        pytest.param(math.nan, 1.0, id="logit is NaN"),
    ],
)
def test_an_unknown_cell_changes_neither_value_nor_gradient(logit: float, truth: float) -> None:
    logits, truths, known = draw(4, 3)
    known[1, 2] = False
    value, gradient = loss_and_gradient(logits, truths, known)
    logits[1, 2], truths[1, 2] = logit, truth
    other_value, other_gradient = loss_and_gradient(logits, truths, known)
    assert other_value == value
    assert torch.equal(other_gradient, gradient)
    assert gradient[1, 2] == 0


def test_a_batch_without_a_known_cell_gives_zero_and_a_gradient_of_zero() -> None:
    value, gradient = loss_and_gradient(
        torch.tensor([[50.0, -50.0]]), torch.tensor([[math.nan, 1.0]]), torch.zeros(1, 2, dtype=torch.bool)
    )
    assert value == 0
    assert torch.equal(gradient, torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("images", "labels"), [pytest.param(8, 1, id="a larger batch"), pytest.param(1, 8, id="more labels")]
)
def test_the_scale_depends_on_neither_batch_size_nor_number_of_labels(images: int, labels: int) -> None:
    logits, truth, known = draw(3, 2)
    repeated = [cells.repeat(images, labels) for cells in (logits, truth, known)]
    assert float(binary_cross_entropy(*repeated)) == pytest.approx(float(binary_cross_entropy(logits, truth, known)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_extreme_logits_give_finite_losses_and_gradients(dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, -1e4, 1e4, -1e4]], dtype=dtype)
    value, gradient = loss_and_gradient(logits, torch.tensor([[0.0, 1.0, 1.0, 0.0]]), torch.ones(1, 4).bool())
    # Two cells are as wrong as can be (each costs its logit), two are right and cost nothing.
    assert value == pytest.approx(1e4 / 2, rel=0.01)
    assert gradient.float().tolist() == [pytest.approx([0.25, -0.25, 0.0, 0.0])]


def test_sixteen_bit_logits_are_summed_in_thirty_two() -> None:
    logits, truth, known = draw(64, 20)
    value = binary_cross_entropy(logits.bfloat16(), truth, known)
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(float(binary_cross_entropy(logits.bfloat16().float(), truth, known)))


def test_a_truth_between_absent_and_present_is_allowed() -> None:
    # At logit 0 the loss is ln 2 whatever the truth is.
    value, gradient = loss_and_gradient(torch.zeros(1, 1), torch.full((1, 1), 0.5), torch.ones(1, 1).bool())
    assert value == pytest.approx(math.log(2))
    assert gradient.item() == 0
