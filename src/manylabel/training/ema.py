"""A moving average of the weights, which often judges better than the weights of the last step."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def build_average(model: nn.Module, decay: float) -> AveragedModel | None:
    """Return a moving average of the model's weights and buffers, or None for a decay of 0.

    The decay grows with the steps up to `decay`, so that a short run is not held at its start.

    Source: Polyak and Juditsky 1992; the exponential form as in Tan and Le 2019, section 5.2; the growing decay as in
        tensorflow.train.ExponentialMovingAverage with `num_updates`.
    """
    if decay == 0:
        return None
    return AveragedModel(
        model,
        multi_avg_fn=partial(_move_average, decay),
        use_buffers=True,
    )


def choose_decay(decay: float, num_steps: int) -> float:
    """Return the decay after this many steps: `decay`, or what suits the few steps so far.

    Example:
        >>> choose_decay(0.999, 0), choose_decay(0.999, 90), choose_decay(0.999, 100_000)
        (0.1, 0.91, 0.999)
    """
    return min(decay, (1 + num_steps) / (10 + num_steps))


def _move_average(decay: float, averages: list[Tensor], currents: list[Tensor], num_averaged: Tensor | int) -> None:
    """Move the averages towards the current weights; torch counts the steps and keeps the count with the weights."""
    move = get_ema_multi_avg_fn(choose_decay(decay, int(num_averaged)))  # type: ignore[no-untyped-call]
    move(averages, currents, num_averaged)


def averaged_state(model: nn.Module, average: AveragedModel | None) -> dict[str, torch.Tensor]:
    """Return the weights that are judged and kept: the average's where there is one, else the model's."""
    return (model if average is None else average.module).state_dict()
