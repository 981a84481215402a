"""The one sigmoid outside the losses: each label on its own."""

from __future__ import annotations

import math

import pytest
import torch

from manylabel.models.scoring import logits_to_probs


@pytest.mark.parametrize(
    ("logits", "num_given"),
    [
        pytest.param([-2.0, -3.0, -1.0], 0, id="no label"),
        pytest.param([-2.0, 3.0, -1.0], 1, id="one label"),
        pytest.param([2.0, 3.0, 1.0], 3, id="all labels"),
    ],
)
def test_an_image_has_any_number_of_labels(logits: list[float], num_given: int) -> None:
    probs = logits_to_probs(torch.tensor([logits]))[0]
    assert int((probs >= 0.5).sum()) == num_given
    assert probs.tolist() == pytest.approx([1 / (1 + math.exp(-logit)) for logit in logits])
    assert float(probs.sum()) != pytest.approx(1, abs=0.01)


def test_the_probability_of_a_label_does_not_depend_on_the_others() -> None:
    alone = logits_to_probs(torch.tensor([[0.7]]))
    beside = logits_to_probs(torch.tensor([[0.7, 50.0, -50.0]]))
    assert alone[0, 0] == beside[0, 0]


def test_sixteen_bit_logits_give_probabilities_of_thirty_two() -> None:
    probs = logits_to_probs(torch.tensor([[4.0]], dtype=torch.bfloat16))
    assert probs.dtype == torch.float32
    assert probs.item() == pytest.approx(1 / (1 + math.exp(-4)), rel=1e-6)
