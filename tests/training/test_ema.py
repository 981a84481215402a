"""The moving average of weights, worked by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from manylabel.training.ema import averaged_state, build_average, choose_decay


def test_the_average_moves_by_its_share_of_each_step() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    average = build_average(model, 0.2)
    assert average is not None
    for value in (4.0, 8.0, 0.0):
        nn.init.constant_(model.weight, value)
        average.update_parameters(model)
    # Starts at the first step's 4; then the decay is still (1 + 1) / (10 + 1): 2/11 * 4 + 9/11 * 8 = 80/11; then 0.2.
    assert averaged_state(model, average)["weight"].item() == pytest.approx(16 / 11)
    assert averaged_state(model, None)["weight"].item() == 0


def test_the_statistics_of_norms_are_averaged_with_the_weights() -> None:
    model = nn.BatchNorm1d(1, momentum=1.0)
    average = build_average(model, 0.5)
    assert average is not None
    for mean in (2.0, 6.0):
        model(torch.tensor([[mean - 1], [mean + 1]]))
        average.update_parameters(model)
    assert averaged_state(model, average)["running_mean"].item() == pytest.approx(2 / 11 * 2 + 9 / 11 * 6)


def test_few_steps_move_far_and_many_are_held_by_the_decay() -> None:
    assert [choose_decay(0.999, steps) for steps in (0, 90, 8_990, 10_000)] == [0.1, 0.91, 0.999, 0.999]


def test_a_decay_of_zero_keeps_no_average() -> None:
    assert build_average(nn.Linear(1, 1), 0.0) is None
