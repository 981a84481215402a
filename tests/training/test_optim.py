"""Optimiser and schedule: every parameter in one group, and the same shape for short and long runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from manylabel.models.backbones import build_backbone
from manylabel.models.classifier import Classifier, build_classifier
from manylabel.training.config import TrainConfig
from manylabel.training.optim import build_optimiser, schedule_share, set_learning_rate


@pytest.fixture(scope="module")
def model() -> Classifier:
    return build_classifier(build_backbone("test_resnet"), [0.5, 0.5])


def names_in(optimiser: torch.optim.Optimizer, model: nn.Module, **conditions: object) -> list[str]:
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    return [
        name_of[id(parameter)]
        for group in optimiser.param_groups
        if all(group[key] == value for key, value in conditions.items())
        for parameter in group["params"]
    ]


def test_each_parameter_is_in_exactly_one_group(model: Classifier) -> None:
    names = names_in(build_optimiser(model, TrainConfig()), model)
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())


def test_norms_and_biases_do_not_decay_and_all_else_does(model: Classifier) -> None:
    optimiser = build_optimiser(model, TrainConfig(weight_decay=0.05))
    kept = set(names_in(optimiser, model, weight_decay=0.0))
    norms = {
        f"{name}.{kind}"
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for kind in ("weight", "bias")
    }
    biases = {name for name, _ in model.named_parameters() if name.endswith("bias")}
    assert kept == norms | biases
    assert set(names_in(optimiser, model, weight_decay=0.05)) == {n for n, _ in model.named_parameters()} - kept


def test_loaded_weights_learn_at_their_share_and_the_head_at_the_whole(model: Classifier) -> None:
    config = TrainConfig(lr=0.01, backbone_lr_ratio=0.1, weights="pretrained")
    optimiser = build_optimiser(model, config)
    assert {name.split(".")[0] for name in names_in(optimiser, model, initial_lr=0.01)} == {"head"}
    assert {name.split(".")[0] for name in names_in(optimiser, model, initial_lr=0.001)} == {"backbone"}


def test_new_weights_learn_as_fast_as_the_head(model: Classifier) -> None:
    optimiser = build_optimiser(model, TrainConfig(lr=0.01, weights="none"))
    assert {group["initial_lr"] for group in optimiser.param_groups} == {0.01}


def test_a_frozen_backbone_is_in_no_group(model: Classifier) -> None:
    names = names_in(build_optimiser(model, TrainConfig(freeze="backbone")), model)
    assert sorted(names) == ["head.bias", "head.weight"]


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_the_schedule_has_the_same_shape_for_short_and_long_runs(warmup: float) -> None:
    short = [schedule_share(step / 100, warmup) for step in range(100)]
    long = [schedule_share(step / 100_000, warmup) for step in range(0, 100_000, 1000)]
    assert short == pytest.approx(long, rel=1e-9)


def test_the_schedule_rises_in_a_line_and_falls_along_half_a_cosine() -> None:
    shares = np.array([schedule_share(step / 1000, 0.1) for step in range(1001)])
    assert shares.max() == shares[100] == 1
    assert shares[50] == pytest.approx(0.5)
    assert shares[550] == pytest.approx(0.01 + 0.99 * (1 + math.cos(math.pi / 2)) / 2)
    assert shares[1000] == pytest.approx(0.01)
    assert (np.diff(shares[10:101]) > 0).all()
    assert (np.diff(shares[100:]) < 0).all()
    assert shares.min() == pytest.approx(0.01)  # the first step learns a little


def test_every_group_gets_the_share_of_its_own_rate(model: Classifier) -> None:
    optimiser = build_optimiser(model, TrainConfig(lr=0.01, backbone_lr_ratio=0.5))
    for share in (0.5, 0.2):  # a share of the largest, not of the last
        set_learning_rate(optimiser, share)
        assert {round(group["lr"], 9) for group in optimiser.param_groups} == {0.01 * share, 0.005 * share}
