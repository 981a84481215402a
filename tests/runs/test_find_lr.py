"""The range test: far too small and far too large learning rates are told from those between."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.runs.conftest import SETTINGS, build_table
from torch import Tensor

from manylabel.errors import RunError
from manylabel.runs.find_lr import find_lr
from manylabel.training.config import TrainConfig
from manylabel.training.learning_rate import RangeTest

TABLE = build_table(24)


def start(out: Path | None = None, loss: Any = None, **settings: Any) -> RangeTest:
    return find_lr(TABLE, TrainConfig(**{**SETTINGS, "augment": "none", **settings}), out=out, loss=loss)


def test_the_suggestion_is_a_tenth_of_where_the_loss_was_low_for_the_last_time(tmp_path: Path) -> None:
    found = start(tmp_path / "lr.png", freeze="backbone")
    assert found.suggestion == pytest.approx(found.limit / 10, rel=0.5)
    after = [loss for rate, loss in zip(found.learning_rates, found.losses, strict=True) if rate > found.limit]
    assert all(loss > 1.05 * min(found.losses) for loss in after)
    assert list(found.learning_rates) == sorted(found.learning_rates)
    assert len(found.learning_rates) == len(found.losses)
    assert min(found.losses) < found.losses[0]
    assert (tmp_path / "lr.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_seed_gives_the_same_suggestion_whatever_lr_is_set() -> None:
    assert start() == start(lr=0.5)


def test_a_loss_that_only_rises_is_said() -> None:
    calls = iter(range(1000))

    def rising(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:  # noqa: ARG001
        return logits.sum() * 0 + next(calls)

    with pytest.raises(RunError, match=r"^learning rates: the loss rises from the start\. Check the labels"):
        start(loss=rising)


def test_a_loss_that_is_not_finite_is_said() -> None:
    with pytest.raises(RunError, match="the loss is not finite from the start"):
        start(loss=lambda logits, truth, known: logits.sum() * math.nan)  # noqa: ARG005


def test_a_model_that_is_lost_ends_the_test_early() -> None:
    torch.manual_seed(0)
    assert len(start(freeze="backbone", loss=lambda z, y, k: (100 * z - y).square().mean()).losses) < 100  # noqa: ARG005
