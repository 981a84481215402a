"""Runs a command as a whole process and measures it from outside: wall time, peak memory, exit code, output."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).resolve().parent / "results"
MANYLABEL = (sys.executable, "-m", "manylabel")
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Measured:
    """One run of a command."""

    seconds: float
    peak_mb: float
    exit_code: int
    output: str


def measure(command: Sequence[str], env: Mapping[str, str] | None = None) -> Measured:
    """Run a command to its end; its peak is the largest sum over the process and all its children at one moment."""
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})})
        peak_bytes = 0
        while process.poll() is None:
            peak_bytes = max(peak_bytes, _count_bytes(process.pid))
            time.sleep(_POLL_SECONDS)
        seconds = time.perf_counter() - started
        log.seek(0)
        output = log.read().decode("utf-8", errors="replace")
    return Measured(seconds, peak_bytes / 2**20, process.returncode, output)


def measure_median(command: Sequence[str], num_runs: int, num_warm_up: int = 1) -> dict[str, float]:
    """Run a command several times and return the median, least and largest wall seconds and the largest peak."""
    for _ in range(num_warm_up):
        check(measure(command))
    runs = [check(measure(command)) for _ in range(num_runs)]
    seconds = [run.seconds for run in runs]
    return {
        "seconds": round(statistics.median(seconds), 3),
        "seconds_min": round(min(seconds), 3),
        "seconds_max": round(max(seconds), 3),
        "peak_mb": round(max(run.peak_mb for run in runs), 1),
        "num_runs": num_runs,
    }


def check(run: Measured) -> Measured:
    """Stop where the measured command failed: its time means nothing."""
    if run.exit_code != 0:
        raise SystemExit(f"the command failed with exit code {run.exit_code}:\n{run.output}")
    return run


def report(name: str, run: Callable[[argparse.Namespace], dict[str, Any]], *arguments: tuple[str, dict[str, Any]]) -> None:
    """Parse the flags of a benchmark, run it, print its JSON object and keep it if asked."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--save", action="store_true", help="keep the object in benchmarks/results")
    for flag, options in arguments:
        parser.add_argument(flag, **options)
    given = parser.parse_args()
    result = {"benchmark": name, **run(given), "num_cores": os.cpu_count(), "python": platform.python_version()}
    text = json.dumps(result, indent=2)
    print(text)
    if given.save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(text + "\n", "utf-8")


def _count_bytes(pid: int) -> int:
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for member in family:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total
