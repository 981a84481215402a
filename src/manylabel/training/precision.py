"""Which numbers a training step uses: measured on the actual model and machine, not assumed."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from manylabel.losses import Loss

_NUM_STEPS = 3
_CLEARLY_FASTER = 1.25
"""bf16 has to win by this factor: noise must not choose differently from one run to the next."""


@dataclass(frozen=True)
class PrecisionChoice:
    """What a step uses, and the images per second of each candidate where they were measured."""

    precision: str
    images_per_second: Mapping[str, float]


def choose_precision(
    wanted: str,
    model: nn.Module,
    loss: Loss,
    image_size_px: int,
    batch_size: int,
    num_labels: int,
    device: torch.device,
    *,
    must_measure: bool = False,
) -> PrecisionChoice:
    """Return `wanted`, or for `auto` bf16 where the hardware has it and trains at least 1.25 times as fast as in fp32.

    The model that is passed in is left as it is: a copy takes the few steps that are timed.
    """
    if wanted == "auto" and not _has_bf16(device):
        wanted = "fp32"
    if wanted != "auto" and not must_measure:
        return PrecisionChoice(wanted, {})
    with torch.random.fork_rng():
        candidates = ("fp32", "bf16") if wanted == "auto" else (wanted,)
        rates = {
            precision: _measure(precision, model, loss, image_size_px, batch_size, num_labels, device)
            for precision in candidates
        }
    if wanted != "auto":
        return PrecisionChoice(wanted, rates)
    is_bf16 = rates["bf16"] > _CLEARLY_FASTER * rates["fp32"]
    return PrecisionChoice("bf16" if is_bf16 else "fp32", rates)


def _measure(
    precision: str, model: nn.Module, loss: Loss, size: int, batch_size: int, num_labels: int, device: torch.device
) -> float:
    """Return images per second of training steps; the first one, in which kernels are chosen, does not count."""
    batch_size = max(batch_size, 2)  # norms over the batch refuse a single image
    probe = copy.deepcopy(model).train()
    seconds = [_time_step(precision, probe, loss, size, batch_size, num_labels, device) for _ in range(1 + _NUM_STEPS)]
    return batch_size / min(seconds[1:])


def _time_step(
    precision: str, probe: nn.Module, loss: Loss, size: int, batch_size: int, num_labels: int, device: torch.device
) -> float:
    images = torch.zeros(batch_size, 3, size, size, device=device).to(memory_format=torch.channels_last)
    truth = torch.zeros(batch_size, num_labels, device=device)
    known = torch.ones(batch_size, num_labels, dtype=torch.bool, device=device)
    start = time.perf_counter()
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        value = loss(probe(images), truth, known)
    value.backward()  # type: ignore[no-untyped-call]
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _has_bf16(device: torch.device) -> bool:
    """Return whether the hardware multiplies bf16 numbers: without, a step can take minutes, too long to measure."""
    if device.type != "cpu":
        return True
    return any("bf16" in name and has for name, has in torch.cpu.get_capabilities().items())
