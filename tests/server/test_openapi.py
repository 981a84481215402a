"""The OpenAPI document and the server say the same, as schemathesis finds out by asking at random."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from tests.scenarios.serving import Served, serve

pytestmark = pytest.mark.scenario
pytest.importorskip("schemathesis", reason="schemathesis is not installed")

ROOT = Path(__file__).resolve().parents[2]

NUM_EXAMPLES = 100

CONFIG = """
[checks]
negative_data_rejection.expected-statuses = [400, 413, 415, 422]
"""
"""What is wrong in a request is said with one of these, 413 where there is too much of it."""

BYTES_AT_RANDOM: tuple[str, ...] = (
    "--checks=all",
    # Bytes at random are what the document allows and no image: to refuse them is right.
    "--exclude-checks=positive_data_acceptance",
)
IMAGES: tuple[str, ...] = (
    "--checks=all",
    # The examples of the document name labels of another model.
    "--phases=coverage,fuzzing",
)


def ask_at_random(served: Served, folder: Path, flags: tuple[str, ...], hooks: str = "") -> str:
    """Let schemathesis ask for every operation of the document and return what it prints."""
    program = "from schemathesis.cli import schemathesis; schemathesis()"
    (folder / "schemathesis.toml").write_text(CONFIG, "utf-8")
    given = (f"--max-examples={NUM_EXAMPLES}", "--generation-database=none", "--seed=1", "--continue-on-failure")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "SCHEMATHESIS_HOOKS": hooks}
    done = subprocess.run(
        [sys.executable, "-c", program, "run", f"{served.url}/openapi.json", *given, *flags],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    return done.stdout


def count_operations(served: Served) -> int:
    with urllib.request.urlopen(f"{served.url}/openapi.json", timeout=30) as response:
        return sum(len(operations) for operations in json.load(response)["paths"].values())


def count_images(served: Served, outcome: str) -> int:
    """Return how many images the server says it has given this outcome."""
    with urllib.request.urlopen(f"{served.url}/metrics", timeout=30) as response:
        found = re.search(rf'^manylabel_images_total{{.*"{outcome}"}} (\d+)', response.read().decode(), re.MULTILINE)
    return int(found[1]) if found else 0


def test_bytes_at_random_are_refused_as_the_document_says(model_folder: Path, tmp_path: Path) -> None:
    with serve(model_folder) as served:
        printed = ask_at_random(served, tmp_path, BYTES_AT_RANDOM)
        num = count_operations(served)
        assert f"Operations:       {num} selected / {num} total" in printed
        assert count_images(served, "broken") + count_images(served, "unsupported_format") > NUM_EXAMPLES // 4
        assert len(served.said) == 1, "requests that are wrong write nothing into the log"


def test_images_with_parameters_at_random_are_answered_as_the_document_says(model_folder: Path, tmp_path: Path) -> None:
    with serve(model_folder) as served:
        ask_at_random(served, tmp_path, IMAGES, "tests.server.random_images")
        assert count_images(served, "answered") >= NUM_EXAMPLES // 4
