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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).resolve().parent / "results"
MANYLABEL = (sys.executable, "-m", "manylabel")
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Measured:
    """One run of a command."""

    seconds: float
    peak_mb: float
    exit_code: int
    output: str


def measure(command: Sequence[str], *, with_memory: bool = True) -> Measured:
    """Run a command to its end; its peak is the largest sum over the process and its children at one moment.

    Asking for memory holds a process up a little: commands of less than a second are timed without.
    """
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        peak_bytes = 0
        while with_memory and process.poll() is None:
            asked = time.perf_counter()
            peak_bytes = max(peak_bytes, _count_bytes(process.pid))
            # Asking costs time of the machine that is measured: a fiftieth at most.
            time.sleep(max(_POLL_SECONDS, 50 * (time.perf_counter() - asked)))
        process.wait()
        seconds = time.perf_counter() - started
        log.seek(0)
        output = log.read().decode("utf-8", errors="replace")
    return Measured(seconds, peak_bytes / 2**20, process.returncode, output)


def measure_median(command: Sequence[str], num_runs: int, num_warm_up: int = 2) -> dict[str, float]:
    """Run a command several times and return median, least and largest wall seconds, and the warm-up's peak."""
    peak_mb = max(check(measure(command)).peak_mb for _ in range(num_warm_up))
    seconds = [check(measure(command, with_memory=False)).seconds for _ in range(num_runs)]
    return {
        "seconds": round(statistics.median(seconds), 3),
        "seconds_min": round(min(seconds), 3),
        "seconds_max": round(max(seconds), 3),
        "peak_mb": round(peak_mb, 1),
        "num_runs": num_runs,
    }


def check(run: Measured) -> Measured:
    """Stop where the measured command failed: its time means nothing."""
    if run.exit_code != 0:
        raise SystemExit(f"the command failed with exit code {run.exit_code}:\n{run.output}")
    return run


def report(
    name: str, run: Callable[[argparse.Namespace], dict[str, Any]], *arguments: tuple[str, dict[str, Any]]
) -> None:
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
    return sum(map(_count_process_bytes, family))


def _count_process_bytes(process: psutil.Process) -> int:
    """Return the resident bytes; where the system tells, pages that several processes share are divided."""
    try:
        memory = process.memory_full_info()
        return int(getattr(memory, "pss", memory.rss))
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
