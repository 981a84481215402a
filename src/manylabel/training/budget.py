"""How many epochs fit into the time a person has, from rates measured on the actual images, model and machine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from manylabel.training.checkpoints import load_weights, save_weights
from manylabel.training.features import FeatureDataset
from manylabel.training.loading import ImageDataset

_PROBED_IMAGES = 48
_USABLE_SHARE = 0.85
"""The rest is for export, judging and whatever else the machine does."""

_VALIDATION_SPEED_UP = 3.0
"""A validation image costs a forward pass where a training image costs about three."""

_FIGURES_SECONDS = 0.05
"""What the figures and the line of an epoch take, however little is learnt from."""


@dataclass(frozen=True)
class Plan:
    """How many epochs fit into a budget, and how long each is expected to take."""

    epochs: int
    epoch_seconds: float
    spent_seconds: float = 0.0

    def describe(self, budget: str) -> str:
        """Return a sentence with what fits, and what twice as many epochs would need."""
        more = describe_seconds(self.spent_seconds + 2 * self.epochs * self.epoch_seconds / _USABLE_SHARE)
        fits = "1 epoch fits" if self.epochs == 1 else f"{self.epochs} epochs fit"
        return f"Budget {budget}: {fits}, about {describe_seconds(self.epoch_seconds)} each; twice as many need {more}."


def describe_seconds(seconds: float) -> str:
    """Return a time as one would say it.

    Example:
        >>> describe_seconds(0.123), describe_seconds(8.4), describe_seconds(95), describe_seconds(5500)
        ('0.12 s', '8.4 s', '1 min 35 s', '1 h 31 min')
    """
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    whole = round(seconds)
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
    *,
    spent_seconds: float = 0.0,
    checkpoint_seconds: float = 0.0,
) -> Plan:
    """Return how many epochs fit, at least one: the slower of decoding and computing sets the pace.

    Args:
        step_images_per_second: how fast the network learns from images that are decoded, in one process.
        workers: processes that decode, beside each that learns; kept features need none.
        num_processes: how many learn, each from its share of the images.
        spent_seconds: how much of the budget is gone.
        checkpoint_seconds: what writing the state of the run takes at the end of every epoch.
    """
    is_beside = workers > 0 and not isinstance(train_set, FeatureDataset)
    decode_images_per_second = _measure_decoding(train_set) * (workers if is_beside else 1)
    if is_beside:
        images_per_second = min(decode_images_per_second, step_images_per_second)
    else:
        images_per_second = 1 / (1 / decode_images_per_second + 1 / step_images_per_second)
    num_passes = len(train_set) + num_val / _VALIDATION_SPEED_UP
    epoch_seconds = _FIGURES_SECONDS + checkpoint_seconds + num_passes / (images_per_second * num_processes)
    num_epochs = int(_USABLE_SHARE * (budget_seconds - spent_seconds) / epoch_seconds)
    return Plan(max(1, num_epochs), epoch_seconds, spent_seconds)


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


def measure_checkpoint(folder: Path, model: nn.Module, has_average: bool) -> float:
    """Return the seconds that a checkpoint and the best weights of an epoch take on the disk of a folder.

    Weights, AdamW's two means of their gradients, perhaps an average, and the best weights, which are also written
    alone and read: each takes as long as the weights, which are written and read once.
    """
    path = folder / "probe.safetensors"
    started = time.perf_counter()
    save_weights(path, model.state_dict())
    written = time.perf_counter()
    load_weights(path)
    read_seconds = time.perf_counter() - written
    path.unlink()
    return (6 if has_average else 5) * (written - started) + read_seconds
