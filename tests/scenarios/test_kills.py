"""A small version of benchmarks/kills.py: runs are killed while they save, and end in the same bits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked and looked up in /proc")
def test_runs_that_were_killed_end_in_the_bits_of_one_that_was_not() -> None:
    cases = ["kills_in_save", "kills_anywhere", "worker_kills", "two_runs", "wrong_resume", "orphans"]
    command = [sys.executable, str(BENCHMARKS / "kills.py"), "--number", "2", "--only", *cases]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=BENCHMARKS)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert {case: found[case].get("problems", []) for case in cases} == {case: [] for case in cases}
