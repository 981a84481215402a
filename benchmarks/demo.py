"""How long `manylabel demo` takes after installation, how good its model is, and how much memory it needs."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from process import MANYLABEL, check, measure, report


def run(given: argparse.Namespace) -> dict[str, Any]:  # noqa: ARG001 - the signature of a benchmark
    """One run from nothing to the picture."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "demo"
        measured = check(measure([*MANYLABEL, "demo", "--out", str(out)]))
        metrics = json.loads((out / "run" / "metrics.json").read_text("utf-8"))["test"]["metrics"]
    return {
        "seconds": round(measured.seconds, 1),
        "peak_mb": round(measured.peak_mb),
        "average_precision_macro": round(metrics["average_precision_macro"]["value"], 4),
        "f1_macro": round(metrics["f1_macro"]["value"], 4),
        "bars": {"seconds": 90, "peak_mb": 2048, "average_precision_macro": 0.90},
    }


if __name__ == "__main__":
    report("demo", run)
