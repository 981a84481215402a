"""What share of a run goes into checkpoints: mobilenetv3_large_100 at 160 px, every epoch and every ten minutes."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from process import report

import manylabel as ml
from manylabel.training.checkpoints import Progress
from manylabel.training.events import tell_nobody
from manylabel.training.loop import run_loop
from manylabel.training.setup import build_network, build_setup

_EPOCH_IMAGES = 2000
"""The images of a small table: an epoch of more images makes the share smaller."""


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Time training steps and saves, and put them together as an epoch of a small table."""
    del given
    with tempfile.TemporaryDirectory() as folder:
        table = ml.write_demo(Path(folder) / "demo", num_images={"train": 160, "val": 32, "test": 32})
        parts = ml.load_annotations(table).parts()
        config = ml.TrainConfig(
            backbone="mobilenetv3_large_100", weights="none", image_size=160, epochs=1, workers=0, precision="fp32",
            ema=0.99,
        )  # fmt: skip
        checkpoints = Path(folder) / "checkpoints"
        checkpoints.mkdir()
        network = build_network(config, parts["train"])
        setup = build_setup(config, network, parts["train"], parts["val"], checkpoints, tell_nobody)
        progress = Progress()
        run_loop(setup.parts, progress, tell_nobody, lambda: False)
        step_seconds = float(progress.history[0]["train_seconds"]) / len(parts["train"])
        times = []
        for _ in range(5):
            started = time.perf_counter()
            setup.parts.save(progress)
            times.append(time.perf_counter() - started)
        num_bytes = (checkpoints / "last.safetensors").stat().st_size
    seconds = statistics.median(times)
    return {
        "save_seconds": round(seconds, 3),
        "num_bytes": num_bytes,
        "images_per_second": round(1 / step_seconds, 1),
        "share_of_epoch": round(seconds / (step_seconds * _EPOCH_IMAGES), 5),
        "share_of_ten_minutes": round(seconds / 600, 5),
        "bars": {"share_of_epoch": 0.02, "share_of_ten_minutes": 0.02},
    }


if __name__ == "__main__":
    report("checkpoint_cost", run)
