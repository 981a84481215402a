"""Budgets: epochs from rates, at least one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from manylabel.data.annotations import Annotations
from manylabel.data.preprocess import Preprocess
from manylabel.training.budget import Plan, measure_checkpoint, plan_epochs
from manylabel.training.features import extract_features
from manylabel.training.loading import ImageDataset


@pytest.mark.parametrize(
    ("budget_seconds", "workers", "expected"),
    [
        # Decoding takes a second an image here (see the clock below), a step a second too.
        pytest.param(0.1, 0, 1, id="too little for one epoch is one epoch"),
        pytest.param(2400, 0, 84, id="one after the other: (10 + 6/3) images at half an image a second"),
        pytest.param(1200, 2, 84, id="side by side: (10 + 6/3) images at one a second, and what every epoch costs"),
    ],
)
def test_as_many_epochs_as_fit_with_a_reserve(
    make_table: Callable[[int], Annotations],
    preprocess: Preprocess,
    monkeypatch: pytest.MonkeyPatch,
    budget_seconds: float,
    workers: int,
    expected: int,
) -> None:
    clock = iter([0.0, 10.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    train_set = ImageDataset(make_table(10), preprocess)
    assert plan_epochs(budget_seconds, train_set, 6, 1.0, workers) == Plan(expected, 24.05 if workers == 0 else 12.05)


def test_kept_features_are_fetched_at_once_and_by_no_worker(
    make_table: Callable[[int], Annotations], preprocess: Preprocess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backbone = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    features = extract_features(backbone, make_table(10), preprocess, tmp_path)
    clock = iter([0.0, 10.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert plan_epochs(2400, features, 6, 1.0, workers=2) == Plan(84, 24.05)


def test_time_that_is_gone_and_checkpoints_are_counted(
    make_table: Callable[[int], Annotations], preprocess: Preprocess, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 10.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    train_set = ImageDataset(make_table(10), preprocess)
    plan = plan_epochs(1400, train_set, 6, 1.0, 2, spent_seconds=200, checkpoint_seconds=7.95)
    assert plan == Plan(51, 20.0, 200)  # 0.85 * 1200 / 20


def test_a_checkpoint_is_measured_on_its_own_disk_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = iter([0.0, 2.0, 3.0] * 2)
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    model = torch.nn.Linear(9, 3)
    assert measure_checkpoint(tmp_path, model, has_average=False) == 5 * 2.0 + 1.0
    assert measure_checkpoint(tmp_path, model, has_average=True) == 6 * 2.0 + 1.0
    assert list(tmp_path.iterdir()) == []


def test_what_more_time_would_buy_is_said() -> None:
    # 0.85 of the budget is for training: twice 12 epochs of 85 s need 24 * 100 s.
    assert Plan(12, 85.0).describe("20m") == (
        "Budget 20m: 12 epochs fit, about 1 min 25 s each; twice as many need 40 min 0 s."
    )
    # What is spent before training is spent again: 12 epochs of 0.85 s in 15 s, of which 3 were gone.
    assert Plan(12, 0.85, spent_seconds=3.0).describe("15s") == (
        "Budget 15s: 12 epochs fit, about 0.85 s each; twice as many need 27 s."
    )
    assert Plan(1, 8500.0).describe("90s") == (
        "Budget 90s: 1 epoch fits, about 2 h 21 min each; twice as many need 5 h 33 min."
    )
