"""Losses for label sets: functions of (logits_BL, truth_BL, known_BL) to one number; `LOSSES` lists them.

A loss is a mean over known cells, so neither batch size nor the number of labels changes the step. The Python API
accepts any callable with this signature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from manylabel.errors import ConfigError, build_message, join_names, suggest_name
from manylabel.losses.binary_cross_entropy import binary_cross_entropy

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

LOSSES: Mapping[str, Loss] = {
    "bce": binary_cross_entropy,
}


def find_loss(name: str) -> Loss:
    """Return the loss of this name.

    Raises:
        ConfigError: there is no such loss; the message suggests the nearest.
    """
    if name not in LOSSES:
        raise ConfigError(
            build_message(
                "loss", f"unknown loss {name!r}{suggest_name(name, LOSSES)}", expected=join_names(list(LOSSES))
            )
        )
    return LOSSES[name]
