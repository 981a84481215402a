"""How long `manylabel --help` takes, from the start of the process to its end."""

from __future__ import annotations

import argparse
from typing import Any

from process import MANYLABEL, measure_median, report


def run(given: argparse.Namespace) -> dict[str, Any]:
    """The median of several runs after one that warms the disk cache."""
    return {**measure_median([*MANYLABEL, "--help"], given.runs), "bars": {"seconds": 0.5}}


if __name__ == "__main__":
    report("help_start", run, ("--runs", {"type": int, "default": 9}))
