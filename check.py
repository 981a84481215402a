"""The one check: formatting, lint, types and tests, in that order, with one line per gate.

    python check.py           everything but the `slow` and `gpu` tests; coverage has a floor
    python check.py --fast    without the `scenario` tests too; coverage is shown, its floor is for the whole

Every gate runs even when an earlier one failed, so that one run says all there is to put right. What a failed gate
printed follows its line. Exit code: 0 when all gates passed, 1 when any failed, 130 when interrupted.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent

COVERAGE_FLOOR = 85
"""Percent of the lines and branches of the package that the tests must run."""


@dataclass(frozen=True)
class Gate:
    """A name and the command that must exit with 0."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of one gate: its exit code, all it printed, and how long it took."""

    name: str
    exit_code: int
    output: str
    seconds: float

    @property
    def has_passed(self) -> bool:
        """Whether the command exited with 0."""
        return self.exit_code == 0


def build_gates(*, fast: bool) -> list[Gate]:
    """Return the gates in the order they run; `fast` leaves the scenarios and the coverage floor out.

    The tools run as modules of the Python that runs this file, so one environment answers for all of them.
    """
    python = sys.executable
    marker = "not scenario and not slow and not gpu" if fast else "not slow and not gpu"
    pytest = [python, "-m", "pytest", "-q", "-m", marker, "--cov", "--cov-report=term:skip-covered"]
    if not fast:
        pytest.append(f"--cov-fail-under={COVERAGE_FLOOR}")
    return [
        Gate("format", (python, "-m", "ruff", "format", "--check", ".")),
        Gate("lint", (python, "-m", "ruff", "check", ".")),
        Gate("types", (python, "-m", "mypy", "--strict")),
        Gate("tests", tuple(pytest)),
    ]


def run_gate(gate: Gate, folder: Path = ROOT) -> Outcome:
    """Run one gate in the folder and return what came of it; it never raises for a gate that fails."""
    start = time.perf_counter()
    try:
        done = subprocess.run(
            gate.command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as error:
        return Outcome(gate.name, 127, f"{gate.command[0]} cannot be started: {error}\n", time.perf_counter() - start)
    return Outcome(gate.name, done.returncode, done.stdout, time.perf_counter() - start)


def describe_outcome(outcome: Outcome) -> str:
    """Return the line of one gate, and below it, when it failed, all it printed.

    Example:
        >>> describe_outcome(Outcome("lint", 0, "All checks passed!", 0.32))
        'ok      lint        0.3 s  All checks passed!'
    """
    lines = [line.strip(" =") for line in outcome.output.splitlines() if line.strip(" =")]
    last = lines[-1] if lines else "printed nothing"
    if outcome.has_passed:
        return f"ok      {outcome.name:8}{outcome.seconds:7.1f} s  {last}"
    head = f"FAILED  {outcome.name:8}{outcome.seconds:7.1f} s  exit code {outcome.exit_code}"
    return f"{head}\n{outcome.output.rstrip()}\n" if lines else head


def run_gates(gates: Sequence[Gate], folder: Path = ROOT) -> int:
    """Run all gates, print a line for each as it ends, and return the exit code: 1 when any of them failed."""
    failed: list[str] = []
    for gate in gates:
        outcome = run_gate(gate, folder)
        print(describe_outcome(outcome), flush=True)
        if not outcome.has_passed:
            failed.append(outcome.name)
    if failed:
        print(f"{len(failed)} of {len(gates)} gates failed: {', '.join(failed)}", flush=True)
        return 1
    print(f"all {len(gates)} gates passed", flush=True)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, run the gates and return the exit code."""
    parser = argparse.ArgumentParser(prog="check.py", description="Run every gate of this repository.")
    parser.add_argument("--fast", action="store_true", help="leave the scenario tests and the coverage floor out")
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a console that lacks a character still gets the rest
    try:
        return run_gates(build_gates(fast=options.fast))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
