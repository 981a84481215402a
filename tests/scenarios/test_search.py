"""`manylabel search` as a person types it: killed in mid-trial, started again, used."""

from __future__ import annotations

import csv
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from manylabel.data.demo import write_demo

pytestmark = pytest.mark.scenario

FLAGS = (
    "--backbone", "test_resnet", "--weights", "none", "--freeze", "backbone", "--image-size", "32", "--epochs", "4",
    "--workers", "0", "--precision", "fp32", "--batch-size", "16", "--head", "linear", "--trials", "12",
    "--repeats", "2",
)  # fmt: skip


def build_command(table: Path, out: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "manylabel", "search", str(table), "--out", str(out), *FLAGS, *flags]


def call(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, check=False)


def read_trials(folder: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader((folder / "trials.csv").open(encoding="utf-8")))
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_a_killed_search_goes_on_and_ends_as_one_that_was_not_and_its_best_trains(tmp_path: Path) -> None:
    table = write_demo(tmp_path / "data", num_images={"train": 60, "val": 30, "test": 10})
    whole = call(build_command(table, tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    assert all(len(line) <= 80 or "/" in line for line in whole.stdout.splitlines())
    assert "12 trials: " in whole.stdout
    assert "as given, same seeds" in whole.stdout
    assert "importance" in whole.stdout

    killed = tmp_path / "killed"
    process = subprocess.Popen(build_command(table, killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (killed / "trials.csv").exists() and process.poll() is None:
        time.sleep(0.02)
    time.sleep(0.1)  # into the second trial or the third
    process.kill()
    process.wait()
    resumed = call(build_command(table, killed))
    assert resumed.returncode == 0, resumed.stderr
    assert "Space head: lr, weight_decay, dropout, loss, label_smoothing, ema." in resumed.stderr
    assert " 0 trials are done." not in resumed.stderr
    assert read_trials(killed) == read_trials(tmp_path / "whole")
    with sqlite3.connect(killed / "study.db") as connection:
        states = [state for (state,) in connection.execute("SELECT state FROM trials")]
    assert "RUNNING" not in states

    flags = ["--config", str(killed / "best.toml"), "--out", str(tmp_path / "run"), "--epochs", "1"]
    trained = call([sys.executable, "-m", "manylabel", "train", str(table), *flags])
    assert trained.returncode == 0, trained.stderr
    other = call(build_command(table, killed, "--lr", "0.01"))
    assert other.returncode == 2
    assert "the search was started with another choice of what is searched" in other.stderr
