"""Which numbers and which memory order a training step uses: measured on the actual model and machine, not assumed."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from manylabel.losses import Loss
from manylabel.training.slow_kernels import avoid_slow_kernels

_NUM_ROUNDS = 3
_ENOUGH_SECONDS = 8.0
"""Every format is timed once; more rounds follow only while they take seconds in all."""

_LEAD = 1.1
"""A format has to beat a more cautious one by this factor: noise must not choose differently from run to run."""

_LEAD_OF_BF16 = 1.25
"""Numbers of 16 bits have to beat those of 32 by this factor, to be worth what they round away."""

_HOPELESS = 3.0
"""A format whose first step takes this many times as long as another's is not timed again."""


@dataclass(frozen=True)
class StepFormat:
    """The numbers of a step and the order of its images in memory."""

    is_bf16: bool
    is_channels_last: bool

    @property
    def memory_format(self) -> torch.memory_format:
        """How images and weights of convolutions lie in memory."""
        return torch.channels_last if self.is_channels_last else torch.contiguous_format

    @property
    def mixed_precision(self) -> str:
        """The same choice in Accelerate's words."""
        return "bf16" if self.is_bf16 else "no"


STEP_FORMATS: Mapping[str, StepFormat] = {
    "fp32_channels_last": StepFormat(is_bf16=False, is_channels_last=True),
    "fp32": StepFormat(is_bf16=False, is_channels_last=False),
    "bf16_channels_last": StepFormat(is_bf16=True, is_channels_last=True),
    "bf16": StepFormat(is_bf16=True, is_channels_last=False),
}
"""From the most cautious to the least; `precision auto` tries all that the hardware has."""


@dataclass(frozen=True)
class PrecisionChoice:
    """What a step uses, a name in `STEP_FORMATS`, and the images per second of each candidate that was measured."""

    precision: str
    images_per_second: Mapping[str, float]

    @property
    def step_format(self) -> StepFormat:
        """The numbers and the memory order that the name stands for."""
        return STEP_FORMATS[self.precision]

    def describe(self) -> str:
        """Return what was measured as lines of a table; "" where nothing was."""
        if not self.images_per_second:
            return ""
        rates = sorted(self.images_per_second.items(), key=lambda item: -item[1])
        lines = [
            f"  {name:<20}{rate:>7.0f} images/s{'  used' if name == self.precision else ''}" for name, rate in rates
        ]
        if rates[0][0] != self.precision:
            leads = f"{_LEAD_OF_BF16 - 1:.0%} faster, others {_LEAD - 1:.0%}".replace("%", " %")
            lines.append(f"  To be used, numbers of 16 bits have to be {leads}.")
        return "\n".join(["Precision, measured with this model on this machine:", *lines])


def choose_precision(
    wanted: str,
    model: nn.Module,
    loss: Loss,
    input_shape: Sequence[int],
    batch_size: int,
    num_labels: int,
    device: torch.device,
    *,
    must_measure: bool = False,
) -> PrecisionChoice:
    """Return `wanted`, or for `auto` the fastest of `STEP_FORMATS`, each having to beat the more cautious ones clearly.

    The model that is passed in is left as it is: a copy takes the few steps that are timed. What is no image has no
    memory order and little to compute: `auto` is `fp32` there.

    Args:
        input_shape: of what the model takes of one image: (3, H, W), or (D,) for features.
    """
    if wanted == "auto" and len(input_shape) != 3:
        wanted = "fp32"
    candidates = [wanted]
    if wanted == "auto":
        candidates = [name for name, kind in STEP_FORMATS.items() if not kind.is_bf16 or _has_bf16(device)]
    elif not must_measure:
        return PrecisionChoice(wanted, {})
    with torch.random.fork_rng():
        rates = _measure(candidates, model, loss, input_shape, batch_size, num_labels, device)
    return PrecisionChoice(_choose_fastest(rates), rates)


def _choose_fastest(rates: Mapping[str, float]) -> str:
    """Return the fastest, walking from the most cautious on: the next one has to be clearly faster."""
    names = [name for name in STEP_FORMATS if name in rates]
    chosen = names[0]
    for name in names[1:]:
        is_rounder = STEP_FORMATS[name].is_bf16 and not STEP_FORMATS[chosen].is_bf16
        if rates[name] > (_LEAD_OF_BF16 if is_rounder else _LEAD) * rates[chosen]:
            chosen = name
    return chosen


def _measure(
    names: list[str],
    model: nn.Module,
    loss: Loss,
    input_shape: Sequence[int],
    batch_size: int,
    num_labels: int,
    device: torch.device,
) -> dict[str, float]:
    """Return images per second of training steps, the best of a few rounds in which every format has its turn.

    The first step of each, in which kernels are chosen, does not count.
    """
    batch_size = max(batch_size, 2)  # norms over the batch refuse a single image
    probe = copy.deepcopy(model).train()
    images = torch.zeros(batch_size, *input_shape, device=device)
    truth = torch.zeros(batch_size, num_labels, device=device)
    started = time.perf_counter()
    first = {name: _time_step(STEP_FORMATS[name], probe, loss, images, truth) for name in names}
    best = {name: float("inf") for name in names}
    for round_number in range(_NUM_ROUNDS):
        if round_number > 0 and time.perf_counter() - started > _ENOUGH_SECONDS:
            break
        for name in names:
            if first[name] < _HOPELESS * min(first.values()) or round_number == 0:
                best[name] = min(best[name], _time_step(STEP_FORMATS[name], probe, loss, images, truth))
    return {name: batch_size / seconds for name, seconds in best.items()}


def _time_step(kind: StepFormat, probe: nn.Module, loss: Loss, images: torch.Tensor, truth: torch.Tensor) -> float:
    """Return the seconds of one step forwards and back, the copies into its memory order not counted."""
    device = images.device
    probe.to(memory_format=kind.memory_format)
    images = images.to(memory_format=kind.memory_format)
    known = torch.ones_like(truth, dtype=torch.bool)
    probe.zero_grad(set_to_none=True)
    _wait(device)
    start = time.perf_counter()
    fast_kernels = avoid_slow_kernels(device, kind.mixed_precision)
    with torch.autocast(device.type, torch.bfloat16, enabled=kind.is_bf16), fast_kernels:
        value = loss(probe(images), truth, known)
    value.backward()  # type: ignore[no-untyped-call]
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _has_bf16(device: torch.device) -> bool:
    """Return whether the hardware multiplies bf16 numbers: without, a step can take minutes, too long to measure."""
    if device.type != "cpu":
        return True
    return any("bf16" in name and has for name, has in torch.cpu.get_capabilities().items())
