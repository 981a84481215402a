"""How many epochs fit into the time a person has, from rates measured on the actual images, model and machine."""

from __future__ import annotations

import time

from manylabel.training.features import FeatureDataset
from manylabel.training.loading import ImageDataset

_PROBED_IMAGES = 48
_USABLE_SHARE = 0.85
"""The rest is for export, judging and whatever else the machine does."""

_VALIDATION_SPEED_UP = 3.0
"""A validation image costs a forward pass where a training image costs about three."""


def plan_epochs(
    budget_seconds: float,
    train_set: ImageDataset | FeatureDataset,
    num_val: int,
    step_images_per_second: float,
    workers: int,
) -> int:
    """Return how many epochs fit, at least one: the slower of decoding and computing sets the pace.

    Args:
        step_images_per_second: how fast the network learns from images that are decoded.
    """
    num_probed = min(_PROBED_IMAGES, len(train_set))
    started = time.perf_counter()
    for row in range(num_probed):
        train_set[row, row]
    decode_images_per_second = num_probed / (time.perf_counter() - started) * max(workers, 1)
    if workers == 0:
        images_per_second = 1 / (1 / decode_images_per_second + 1 / step_images_per_second)
    else:
        images_per_second = min(decode_images_per_second, step_images_per_second)
    epoch_seconds = (len(train_set) + num_val / _VALIDATION_SPEED_UP) / images_per_second
    return max(1, int(_USABLE_SHARE * budget_seconds / epoch_seconds))
