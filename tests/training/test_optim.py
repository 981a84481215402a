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
from manylabel.training.optim import build_optimiser, schedule_share, set_backbone_learning, set_learning_rate


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


def test_what_a_file_of_weights_left_unset_learns_as_fast_as_the_head_and_the_rest_at_its_share(
    model: Classifier,
) -> None:
    new = [name for name, _ in model.backbone.named_parameters()][-3:]
    config = TrainConfig(lr=0.01, backbone_lr_ratio=0.1, weights="file.safetensors")
    optimiser = build_optimiser(model, config, new)
    at_whole = names_in(optimiser, model, initial_lr=0.01)
    assert {name for name in at_whole if name.startswith("backbone.")} == {f"backbone.{name}" for name in new}
    set_backbone_learning(optimiser, False)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    set_backbone_learning(optimiser, True)
    assert learning == set(at_whole)  # what is new learns with the head while the rest is held
    assert len(names_in(optimiser, model)) == len(list(model.parameters()))


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


def test_one_cycle_has_the_shape_of_torchs() -> None:
    num_steps, warmup = 200, 0.3
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    # Its rise ends one step before `pct_start` of its total, and it counts the last step as well.
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 1.0, num_steps + 1, pct_start=(warmup * num_steps + 1) / (num_steps + 1), cycle_momentum=False
    )
    for step in range(num_steps + 1):
        assert schedule_share(step / num_steps, warmup, "one_cycle") == pytest.approx(cycle.get_last_lr()[0])
        optimiser.step()
        if step < num_steps:
            cycle.step()


def test_one_cycle_without_a_rise_starts_at_the_top() -> None:
    assert schedule_share(0.0, 0.0, "one_cycle") == 1.0


def test_layers_learn_slower_the_nearer_they_are_to_the_pixels() -> None:
    model = build_classifier(build_backbone("test_vit", image_size_px=32), [0.5])
    config = TrainConfig(lr=0.01, backbone_lr_ratio=0.5, weights="pretrained", layer_decay=0.5)
    optimiser = build_optimiser(model, config)
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {name_of[id(p)]: group["initial_lr"] for group in optimiser.param_groups for p in group["params"]}
    depth = len(model.backbone.blocks)  # type: ignore[arg-type]
    assert sorted(rates) == sorted(name_of.values())
    assert rates["head.weight"] == 0.01
    assert rates["backbone.norm.weight"] == 0.005  # timm counts it to the last block; each one before it halves
    for block in range(depth):
        assert rates[f"backbone.blocks.{block}.attn.qkv.weight"] == pytest.approx(0.005 * 0.5 ** (depth - 1 - block))
    assert rates["backbone.patch_embed.proj.weight"] == pytest.approx(0.005 * 0.5**depth)


def test_no_decay_by_layer_is_one_rate_for_the_backbone(model: Classifier) -> None:
    rates = {group["initial_lr"] for group in build_optimiser(model, TrainConfig(lr=0.01)).param_groups}
    assert rates == {0.01, 0.003}


def test_layers_keep_norms_and_biases_out_of_the_decay_of_weights(model: Classifier) -> None:
    with_layers = build_optimiser(model, TrainConfig(layer_decay=0.9, weight_decay=0.05))
    without = build_optimiser(model, TrainConfig(weight_decay=0.05))
    assert set(names_in(with_layers, model, weight_decay=0.0)) == set(names_in(without, model, weight_decay=0.0))


def test_a_held_backbone_keeps_its_weights_and_goes_on_later() -> None:
    model = build_classifier(build_backbone("test_resnet"), [0.5, 0.5])
    fixed = next(model.backbone.parameters())
    fixed.requires_grad_(False)  # a weight that a backbone never trains, such as a fixed place embedding
    optimiser = build_optimiser(model, TrainConfig(lr=0.1))
    for is_learning in (False, True):
        before = [parameter.detach().clone() for parameter in model.backbone.parameters()]
        set_backbone_learning(optimiser, is_learning)
        optimiser.zero_grad(set_to_none=True)
        model(torch.ones(2, 3, 32, 32)).sum().backward()
        optimiser.step()
        moved = [not torch.equal(old, new) for old, new in zip(before, model.backbone.parameters(), strict=True)]
        assert any(moved) == is_learning
        assert not moved[0]
