"""A moving average of the weights, which often judges better than the weights of the last step."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def build_average(model: nn.Module, decay: float) -> AveragedModel | None:
    """Return a moving average of the model's weights and buffers, or None for a decay of 0.

    Source: Polyak and Juditsky 1992; the exponential form as in Tan and Le 2019, section 5.2.
    """
    if decay == 0:
        return None
    return AveragedModel(
        model,
        multi_avg_fn=get_ema_multi_avg_fn(decay),  # type: ignore[no-untyped-call]
        use_buffers=True,
    )


def averaged_state(model: nn.Module, average: AveragedModel | None) -> dict[str, torch.Tensor]:
    """Return the weights that are judged and kept: the average's where there is one, else the model's."""
    return (model if average is None else average.module).state_dict()
