"""The examples, executed as they stand on small data that the test makes."""

from __future__ import annotations

import gzip
import runpy
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.scenario

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_reader_s_own_loop_learns_in_under_60_lines(tmp_path: Path) -> None:
    source = (EXAMPLES / "own_loop.py").read_text("utf-8")
    assert len(source.splitlines()) < 60
    main = runpy.run_path(str(EXAMPLES / "own_loop.py"))["main"]
    metrics = main(tmp_path, num_images=400, num_epochs=2)
    assert metrics["average_precision_macro"] > 0.3, "guessing reaches 0.2"


def test_mnist_goes_from_the_four_files_to_a_picture(tmp_path: Path) -> None:
    root = tmp_path / "files"
    root.mkdir()
    rng = np.random.default_rng(0)
    for name, count in (("train", 120), ("t10k", 30)):
        digits = rng.integers(0, 10, count).astype(np.uint8)
        images = np.zeros((count, 28, 28), np.uint8)
        for row, digit in enumerate(digits):
            images[row, 2 + 2 * digit : 6 + 2 * digit, 4:24] = 255  # a bar whose height says which digit
        with gzip.open(root / f"{name}-images-idx3-ubyte.gz", "wb") as file:
            file.write(struct.pack(">IIII", 2051, count, 28, 28) + images.tobytes())
        with gzip.open(root / f"{name}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(struct.pack(">II", 2049, count) + digits.tobytes())
    command = [sys.executable, str(EXAMPLES / "mnist.py"), "--root", str(root), "--out", str(tmp_path / "out")]
    told = subprocess.run([*command, "--epochs", "1"], capture_output=True, encoding="utf-8", check=False)
    assert told.returncode == 0, told.stderr
    assert "test accuracy (largest probability): 0." in told.stdout or "1.0000" in told.stdout
    assert (tmp_path / "out" / "prediction.png").stat().st_size > 5000
