"""A dirty table of real posters: inspected, cleaned, divided, trained on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

POSTERS = Path(__file__).resolve().parents[3] / "shared" / "data" / "posters"

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.skipif(not POSTERS.is_dir(), reason="the posters are not beside this checkout"),
]


def call(*arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "manylabel", *map(str, arguments)], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_cleaned_and_divided_table_trains(tmp_path: Path) -> None:
    cleaned, divided, run = tmp_path / "cleaned.csv", tmp_path / "split.csv", tmp_path / "run"
    out = call("inspect", POSTERS / "labels.csv", "--fix", cleaned, "--html", tmp_path / "page.html")
    next_command = next(line.split("manylabel ")[1] for line in out.splitlines() if "Next: manylabel" in line)
    assert next_command == f"split {cleaned} split.csv --images {POSTERS}"
    call("split", cleaned, divided, "--images", POSTERS)
    call(
        "train", divided, "--images", POSTERS, "--out", run, "--backbone", "test_resnet", "--weights", "none",
        "--image-size", "32", "--epochs", "1", "--augment", "none", "--workers", "0", "--precision", "fp32",
    )  # fmt: skip
    test = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["test"]
    assert test["num_labels"] == 25
    assert test["num_images"] in range(350, 370)  # 15 % of 2,399 posters
