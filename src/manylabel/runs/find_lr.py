"""Find a learning rate: try a range of them for a hundred steps, and keep nothing but the answer."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

from manylabel.data.annotations import Annotations
from manylabel.evaluation.pictures import draw_learning_rates
from manylabel.losses import Loss
from manylabel.runs.signals import exit_on_sigterm
from manylabel.runs.tables import check_some_present
from manylabel.runs.train import check_names
from manylabel.training.config import TrainConfig
from manylabel.training.events import OnEvent, tell_nobody
from manylabel.training.learning_rate import RangeTest, run_range_test
from manylabel.training.processes import check_alone
from manylabel.training.setup import build_network, build_setup
from manylabel.training.workers import name_dead_workers


def find_lr(
    train: Annotations,
    config: TrainConfig | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    loss: Loss | None = None,
    on_event: OnEvent | None = None,
) -> RangeTest:
    """Return a learning rate for a run with these settings and images, and the losses that speak for it.

    Args:
        train: the images that the run learns from.
        config: the settings of the run; `lr` and what comes after training have no part in it.
        out: a file for the picture, ending in .png, .svg or .pdf; None draws none.
        loss: a function in place of `config.loss`.

    Raises:
        DataError, ConfigError, RunError: see the message.
    """
    settings = replace(config if config is not None else TrainConfig(), budget="", accumulate=1)
    tell = on_event if on_event is not None else tell_nobody
    check_alone("find-lr")
    check_names(settings)
    check_some_present(train)
    with tempfile.TemporaryDirectory() as folder, exit_on_sigterm(), name_dead_workers():
        network = build_network(settings, train)
        setup = build_setup(settings, network, train, train.select([0]), Path(folder), tell, loss=loss)
        found = run_range_test(setup.parts, tell)
    if out is not None:
        draw_learning_rates(found.learning_rates, found.losses, found.suggestion, out)
    return found
