"""Precision: measured where it has to be, without leaving a trace."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from manylabel.losses import find_loss
from manylabel.training import precision
from manylabel.training.config import PRECISION_CHOICES
from manylabel.training.precision import STEP_FORMATS, choose_precision

CPU = torch.device("cpu")


def build_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )


@pytest.fixture(autouse=True)
def _with_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behave on every machine as on one whose hardware has bf16."""
    monkeypatch.setattr(precision, "_has_bf16", lambda _: True)


def choose(wanted: str, model: nn.Module, batch_size: int = 2, **options: bool) -> precision.PrecisionChoice:
    return choose_precision(wanted, model, find_loss("bce"), (3, 16, 16), batch_size, 2, CPU, **options)


def test_measuring_leaves_model_gradients_and_random_state_alone() -> None:
    model = build_model().eval()
    model(torch.ones(1, 3, 16, 16)).sum().backward()
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    random_state = torch.random.get_rng_state()
    choice = choose("auto", model)
    assert set(choice.images_per_second) == set(STEP_FORMATS)
    assert not model.training
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert len(gradients) == 6
    assert all(torch.equal(p.grad, gradients[name]) for name, p in model.named_parameters())  # type: ignore[arg-type]


def test_the_random_state_comes_back_even_if_measuring_fails() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(1, 1))
    random_state = torch.random.get_rng_state()
    with pytest.raises(RuntimeError):
        choose("auto", model)
    assert torch.equal(torch.random.get_rng_state(), random_state)


def test_batches_of_one_image_are_measured_too() -> None:
    assert choose("auto", build_model(), batch_size=1).images_per_second["fp32"] > 0


def test_hardware_without_bf16_is_not_asked_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_has_bf16", lambda _: False)
    assert set(choose("auto", build_model()).images_per_second) == {"fp32", "fp32_channels_last"}


@pytest.mark.parametrize("wanted", ["fp32", "bf16"])
def test_what_is_asked_for_is_not_measured(wanted: str) -> None:
    assert choose(wanted, build_model()) == precision.PrecisionChoice(wanted, {})


def test_what_is_asked_for_is_measured_for_a_budget() -> None:
    choice = choose("bf16", build_model(), must_measure=True)
    assert choice.precision == "bf16"
    assert set(choice.images_per_second) == {"bf16"}


def test_the_settings_name_every_format() -> None:
    assert set(PRECISION_CHOICES) == {"auto", *STEP_FORMATS}


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        pytest.param((100, 105, 124, 124), "fp32_channels_last", id="all within the noise"),
        pytest.param((100, 120, 130, 130), "fp32", id="16 bits not clearly faster than the best of 32"),
        pytest.param((100, 50, 126, 130), "bf16_channels_last", id="16 bits clearly faster"),
        pytest.param((74, 33, 30, 66), "fp32_channels_last", id="a MobileNet where channels last is slow in 16 bits"),
        pytest.param((48, 36, 86, 77), "bf16_channels_last", id="a ResNet-18"),
        pytest.param((60, 60, 70, 120), "bf16", id="16 bits in the other order"),
    ],
)
def test_auto_takes_what_is_clearly_fastest(
    rates: tuple[float, ...], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = dict(zip(STEP_FORMATS, rates, strict=True))
    monkeypatch.setattr(precision, "_measure", lambda *_: measured)
    assert choose("auto", build_model()) == precision.PrecisionChoice(expected, measured)


def test_a_format_that_is_hopeless_at_first_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[precision.StepFormat] = []

    def time_step(kind: precision.StepFormat, *_: object) -> float:
        steps.append(kind)
        return 10.0 if kind == STEP_FORMATS["bf16"] else 1.0

    monkeypatch.setattr(precision, "_time_step", time_step)
    choice = choose("auto", build_model(), batch_size=4)
    assert steps.count(STEP_FORMATS["bf16"]) == 2
    assert steps.count(STEP_FORMATS["fp32"]) == 4
    assert choice.images_per_second["bf16"] == pytest.approx(0.4)
    assert choice.images_per_second["fp32"] == pytest.approx(4.0)


def test_the_table_says_what_is_used() -> None:
    choice = precision.PrecisionChoice("fp32", {"fp32": 66.4, "bf16": 98.0})
    assert choice.describe().splitlines() == [
        "Precision, measured with this model on this machine:",
        "  bf16                     98 images/s",
        "  fp32                     66 images/s  used",
        "  To be used, numbers of 16 bits have to be 25 % faster, others 10 %.",
    ]
    fastest = precision.PrecisionChoice("bf16", {"fp32": 66.4, "bf16": 98.0})
    assert fastest.describe().splitlines()[1:] == [
        "  bf16                     98 images/s  used",
        "  fp32                     66 images/s",
    ]
    assert precision.PrecisionChoice("fp32", {}).describe() == ""
