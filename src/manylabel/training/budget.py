"""How many epochs fit into the time a person has, from rates measured on the actual images, model and machine."""

from __future__ import annotations

import time
from dataclasses import dataclass

from manylabel.training.features import FeatureDataset
from manylabel.training.loading import ImageDataset

_PROBED_IMAGES = 48
_USABLE_SHARE = 0.85
"""The rest is for export, judging and whatever else the machine does."""

_VALIDATION_SPEED_UP = 3.0
"""A validation image costs a forward pass where a training image costs about three."""

_EPOCH_SECONDS = 0.05
"""Figures and a checkpoint take as long as this also where a few kept features are all that is learnt from."""


@dataclass(frozen=True)
class Plan:
    """How many epochs fit into a budget, and how long each is expected to take."""

    epochs: int
    epoch_seconds: float

    def describe(self, budget: str) -> str:
        """Return a sentence with what fits, and what twice as many epochs would need."""
        more = describe_seconds(2 * self.epochs * self.epoch_seconds / _USABLE_SHARE)
        fits = "1 epoch fits" if self.epochs == 1 else f"{self.epochs} epochs fit"
        return f"Budget {budget}: {fits}, about {describe_seconds(self.epoch_seconds)} each; twice as many need {more}."


def describe_seconds(seconds: float) -> str:
    """Return a time as one would say it.

    Example:
        >>> describe_seconds(8.4), describe_seconds(95), describe_seconds(5500)
        ('8 s', '1 min 35 s', '1 h 31 min')
    """
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def plan_epochs(
    budget_seconds: float,
    train_set: ImageDataset | FeatureDataset,
    num_val: int,
    step_images_per_second: float,
    workers: int,
    num_processes: int = 1,
) -> Plan:
    """Return how many epochs fit, at least one: the slower of decoding and computing sets the pace.

    Args:
        step_images_per_second: how fast the network learns from images that are decoded, in one process.
        workers: processes that decode, beside each that learns; kept features need none.
        num_processes: how many learn, each from its share of the images.
    """
    is_beside = workers > 0 and not isinstance(train_set, FeatureDataset)
    decode_images_per_second = _measure_decoding(train_set) * (workers if is_beside else 1)
    if is_beside:
        images_per_second = min(decode_images_per_second, step_images_per_second)
    else:
        images_per_second = 1 / (1 / decode_images_per_second + 1 / step_images_per_second)
    num_passes = len(train_set) + num_val / _VALIDATION_SPEED_UP
    epoch_seconds = _EPOCH_SECONDS + num_passes / (images_per_second * num_processes)
    return Plan(max(1, int(_USABLE_SHARE * budget_seconds / epoch_seconds)), epoch_seconds)


def _measure_decoding(train_set: ImageDataset | FeatureDataset) -> float:
    """Return how many images per second one process decodes, or fetches the features of."""
    rows = list(range(min(_PROBED_IMAGES, len(train_set))))
    started = time.perf_counter()
    if isinstance(train_set, FeatureDataset):
        train_set.load_batch(rows)
    else:
        for row in rows:
            train_set[row, row]
    return len(rows) / (time.perf_counter() - started)
