"""A range test: the loss while the learning rate rises from far too small to far too large (Smith 2017, sec. 3.3)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from manylabel.errors import RunError, build_message
from manylabel.losses import loss_at
from manylabel.training.events import OnEvent, tell_nobody
from manylabel.training.loading import Batch
from manylabel.training.loop import LoopParts, train_step
from manylabel.training.optim import set_learning_rate

LOWEST, HIGHEST = 1e-6, 10.0
NUM_STEPS = 100
_SMOOTHING = 0.9
_LOST = 3.0
"""A loss of so many times the best will not come back: the test ends."""

_NEARLY = 1.05
"""A loss within this factor of the lowest has not risen yet: batches differ by as much."""

_CAUTION = 10.0
"""At its limit a run is lost in a hundred steps; it has to last for thousands."""

_LEAST_STEPS = 10


@dataclass(frozen=True)
class RangeTest:
    """The learning rates that were tried, the smoothed loss at each, and what follows.

    `limit` is the largest learning rate before the loss rises for good, `suggestion` a tenth of it, rounded.
    """

    learning_rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float
    limit: float


def run_range_test(parts: LoopParts, tell: OnEvent = tell_nobody) -> RangeTest:
    """Take up to `NUM_STEPS` steps, each at a larger learning rate; the weights are of no use afterwards.

    The groups of the optimiser keep their ratios to one another.

    Raises:
        RunError: the loss is not finite or rises from the start.
    """
    tell("stage", {"name": "Trying learning rates", "total": NUM_STEPS})
    rates = np.geomspace(LOWEST, HIGHEST, NUM_STEPS)
    least_images = 2  # norms over the batch refuse a single image
    tried: list[float] = []
    losses: list[float] = []
    average, loss = 0.0, loss_at(parts.loss, 0.0)
    parts.model.train()
    if parts.config.freeze == "backbone":
        parts.model.backbone.eval()
    for batch in _repeat(parts, least_images):
        step = len(tried)
        set_learning_rate(parts.optimiser, float(rates[step]) / parts.config.lr)
        value = train_step(parts, [batch], loss)
        tell("progress", {})
        if not math.isfinite(value):
            break
        average = _SMOOTHING * average + (1 - _SMOOTHING) * value
        tried.append(float(rates[step]))
        losses.append(average / (1 - _SMOOTHING ** (step + 1)))
        if len(tried) == NUM_STEPS or (step > _LEAST_STEPS and losses[-1] > _LOST * min(losses)):
            break
    return _judge(tried, losses)


def _repeat(parts: LoopParts, least_images: int) -> Iterator[Batch]:
    """Return training batches for as long as they are asked for, epoch after epoch."""
    epoch = 0
    while True:
        parts.sampler.start_epoch(epoch)
        found = False
        for batch in parts.train_loader:
            if len(batch) >= least_images:
                found = True
                yield batch
        if not found:
            raise RunError(build_message("learning rates", "there is no batch of two images to try them on"))
        epoch += 1


def _judge(tried: list[float], losses: list[float]) -> RangeTest:
    """Find the last learning rate at which the loss was still nearly as low as anywhere.

    Where it falls says little: the head starts at the frequency of the labels, and what is gained in a hundred steps is
    less than the batches differ.
    """
    is_low = [loss <= _NEARLY * min(losses) for loss in losses]
    last = max((step for step, low in enumerate(is_low) if low), default=0)
    if last < _LEAST_STEPS:
        raise RunError(
            build_message(
                "learning rates",
                "the loss rises from the start" if losses else "the loss is not finite from the start",
                do="Check the labels with 'manylabel inspect', or try another --loss",
            )
        )
    return RangeTest(tuple(tried), tuple(losses), round_to_one_figure(tried[last] / _CAUTION), tried[last])


def round_to_one_figure(value: float) -> float:
    """Return a positive number with one significant figure: nobody knows a learning rate better.

    Example:
        >>> round_to_one_figure(0.00347)
        0.003
    """
    return float(f"{value:.0e}")
