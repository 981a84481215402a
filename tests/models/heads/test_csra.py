"""CSRA against the equation of the paper, worked by hand on two positions and one feature."""

from __future__ import annotations

import math

import pytest
import torch

from manylabel.models.heads.csra import ResidualAttentionHead, build_csra_head

LOG3 = math.log(3)


def answer(head: ResidualAttentionHead, *positions: float) -> float:
    with torch.no_grad():
        head.score.weight.fill_(1.0)
        return head(torch.tensor(positions)[None, :, None]).item()


def test_one_head_adds_a_share_of_the_softmax_mean_to_the_mean() -> None:
    # The softmax of (0, ln 3) is (1/4, 3/4).
    head = build_csra_head(1, [0.5], residual=0.2)
    assert answer(head, 0.0, LOG3) == pytest.approx(LOG3 / 2 + 0.2 * 0.75 * LOG3)


def test_a_temperature_of_two_attends_more_sharply() -> None:
    # The softmax of 2 (0, ln 3) is (1/10, 9/10).
    head = build_csra_head(1, [0.5], residual=0.2, temperature=2.0)
    assert answer(head, 0.0, LOG3) == pytest.approx(LOG3 / 2 + 0.2 * 0.9 * LOG3)


def test_several_heads_are_summed_and_the_last_takes_the_maximum() -> None:
    head = build_csra_head(1, [0.5], num_heads=3, residual=0.2)
    assert answer(head, 0.0, LOG3) == pytest.approx(3 * LOG3 / 2 + 0.2 * (0.75 + 0.9 + 1.0) * LOG3)


def test_without_the_residual_it_is_a_linear_layer_on_the_mean() -> None:
    head = build_csra_head(1, [0.25], residual=0.0)
    assert answer(head, 1.0, 5.0, -3.0) == pytest.approx(1.0 + math.log(1 / 3))


def test_the_order_of_positions_changes_nothing() -> None:
    head = build_csra_head(1, [0.5], num_heads=4)
    assert answer(head, 0.3, -1.0, 2.0) == pytest.approx(answer(head, 2.0, 0.3, -1.0))
