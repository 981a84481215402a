"""A training process that runs out of memory: as little is lost as when it is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import manylabel as ml
from manylabel.losses.binary_cross_entropy import binary_cross_entropy

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep a limit of the address space"),
]

ROOM_BYTES = 2**28
LEAK_NUMBERS = 2**25
FIRST_LEAK = 7
"""The first of three steps of an epoch: the memory ends in a step, and not in a library that would abort."""


class Leak:
    """A loss that keeps 128 MB of each step, in an address space that has 256 MB left when it begins to."""

    def __init__(self) -> None:
        self.num_steps = 0
        self.kept: list[torch.Tensor] = []

    def __call__(self, logits_BL: torch.Tensor, truth_BL: torch.Tensor, known_BL: torch.Tensor) -> torch.Tensor:
        self.num_steps += logits_BL.requires_grad
        if self.num_steps == FIRST_LEAK and not self.kept:
            limit_address_space()
        if self.num_steps >= FIRST_LEAK:
            self.kept.append(torch.ones(LEAK_NUMBERS))
        return binary_cross_entropy(logits_BL, truth_BL, known_BL)


def limit_address_space() -> None:
    """Allow this process little more memory than it has."""
    import resource

    pages = int(Path("/proc/self/statm").read_text("utf-8").split()[0])
    limit = pages * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def train_here(out: str, way: str) -> None:
    """Train on noise, in an address space that ends (`leak`) or does not (`whole`), anew or going on."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (24, 32, 32, 3), dtype=np.uint8)
    table = ml.annotations_from_arrays(pixels, [["a"] if row % 3 else ["b"] for row in range(24)], ["a", "b"])
    settings: dict[str, Any] = {"backbone": "test_resnet", "weights": "none", "image_size": 32, "precision": "fp32"}
    config = ml.TrainConfig(
        **settings, epochs=20, batch_size=8, workers=0, dropout=0.3, monitor="loss", resume=Path(out).exists()
    )
    loss = Leak() if way == "leak" else binary_cross_entropy
    try:
        run = ml.train(table, table, config, out=out, loss=loss, on_event=lambda *_: None)
    except ml.ManylabelError as error:
        sys.exit(f"Error: {error}")
    print(run.status)


def test_a_run_that_is_out_of_memory_says_so_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    told = [
        subprocess.run(
            [sys.executable, __file__, str(tmp_path / name), way],
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=300,
        )
        for name, way in (("whole", "whole"), ("short", "leak"), ("short", "whole"))
    ]
    assert (told[0].returncode, told[0].stdout) == (0, "finished\n"), told[0].stderr
    assert told[1].returncode == 1, told[1].stderr
    assert "train: the memory is not enough" in told[1].stderr
    assert "go on with --resume" in told[1].stderr
    assert "Traceback" not in told[1].stderr
    assert (told[2].returncode, told[2].stdout) == (0, "finished\n"), told[2].stderr
    whole, resumed = (load_file(tmp_path / name / "checkpoints" / "last.safetensors") for name in ("whole", "short"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


if __name__ == "__main__":
    train_here(*sys.argv[1:])
