"""What our loop costs over a bare PyTorch loop: the same network, batches in memory, optimiser, numbers and clipping.

Both take turns epoch by epoch. The bare loop does what a careful hand-written one does and no more; ours also checks
that every number is finite, counts, tells its progress and asks whether to stop. Validation and checkpoints are not in
the seconds: `overhead` is of the training part of an epoch.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from posters import BACKBONES, split_posters
from process import report
from torch import nn

import manylabel as ml
from manylabel.training.checkpoints import Progress
from manylabel.training.events import tell_nobody
from manylabel.training.loading import Batch
from manylabel.training.loop import LoopParts, run_loop
from manylabel.training.setup import build_network, build_setup
from manylabel.training.slow_kernels import avoid_slow_kernels


@dataclass(frozen=True)
class BatchesInMemory:
    """Stands for a loader whose images are there already."""

    dataset: Any
    batches: Sequence[Batch]

    def __iter__(self) -> Iterator[Batch]:
        yield from self.batches


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Let both loops take turns on one network, and compare the medians."""
    posters = split_posters({"train": 0.8, "val": 0.2})
    train, val = posters["train"].select(range(32 * given.steps)), posters["val"].select(range(2))
    settings = BACKBONES[given.backbone] | {"image_size": given.image_size}
    config = ml.TrainConfig(**settings, epochs=1, ema=0.0, workers=0, precision=given.precision)
    ours, bare = [], []
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Path(folder) / "checkpoints"
        checkpoints.mkdir()
        setup = build_setup(config, build_network(config, train), train, val, checkpoints, tell_nobody)
        loader = setup.parts.train_loader
        parts = replace(setup.parts, train_loader=BatchesInMemory(loader.dataset, list(loader)))  # type: ignore[arg-type]
        _train_bare(parts)  # kernels are chosen, memory is taken
        for _ in range(given.rounds):
            ours.append(_train_ours(parts))
            bare.append(_train_bare(parts))
    overhead = statistics.median(ours) / statistics.median(bare) - 1
    return {
        "backbone": given.backbone,
        "image_size": given.image_size,
        "precision": setup.precision.precision,
        "steps": given.steps,
        "milliseconds_a_step": {"manylabel": _spread(ours, given.steps), "bare": _spread(bare, given.steps)},
        "overhead": round(overhead, 4),
        "bars": {"overhead": 0.03},
    }


def _train_ours(parts: LoopParts) -> float:
    progress = Progress()
    run_loop(parts, progress, tell_nobody, lambda: False)
    return float(progress.history[0]["train_seconds"])


def _train_bare(parts: LoopParts) -> float:
    """Train an epoch by hand and return its seconds."""
    model, optimiser, config = parts.model, parts.optimiser, parts.config
    numbers = parts.accelerator.mixed_precision
    is_bf16 = numbers == "bf16"
    model.train()
    started = time.perf_counter()
    for batch in parts.train_loader:
        images_BCHW = batch.images_BCHW.to(memory_format=parts.memory_format)
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16), avoid_slow_kernels(images_BCHW.device, numbers):
            logits_BL = model(images_BCHW)
        loss = nn.functional.binary_cross_entropy_with_logits(logits_BL.float(), batch.truth_BL)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimiser.step()
    return time.perf_counter() - started


def _spread(seconds: Sequence[float], num_steps: int) -> dict[str, float]:
    each = [1000 * value / num_steps for value in seconds]
    return {"median": round(statistics.median(each), 1), "min": round(min(each), 1), "max": round(max(each), 1)}


if __name__ == "__main__":
    report(
        "loop_overhead",
        run,
        ("--backbone", {"choices": list(BACKBONES), "default": "mobilenetv1_100"}),
        ("--image-size", {"type": int, "default": 160}),
        ("--precision", {"default": "auto"}),
        ("--steps", {"type": int, "default": 10}),
        ("--rounds", {"type": int, "default": 5}),
    )
