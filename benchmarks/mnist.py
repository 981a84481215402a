"""How long `examples/mnist.py` takes and what accuracy it reaches on the official test images."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from process import check, measure, report

_EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "mnist.py"


def run(given: argparse.Namespace) -> dict[str, Any]:
    """One run of the example as it stands."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(_EXAMPLE), "--root", str(given.root), "--out", str(Path(folder) / "mnist")]
        measured = check(measure(command))
    found = re.search(r"test accuracy \(largest probability\): ([\d.]+)", measured.output)
    assert found is not None, measured.output
    return {
        "seconds": round(measured.seconds, 1),
        "peak_mb": round(measured.peak_mb),
        "test_accuracy": float(found[1]),
        "bars": {"seconds": 600, "test_accuracy": 0.99},
    }


if __name__ == "__main__":
    report("mnist", run, ("--root", {"type": Path, "required": True, "help": "the folder with the four MNIST files"}))
