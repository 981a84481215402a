"""The OpenAPI document and the server say the same, as schemathesis finds out by asking at random."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.scenarios.serving import serve

pytestmark = pytest.mark.slow


def test_random_requests_are_answered_as_the_document_says(model_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis", reason="schemathesis is not installed; it is not part of the tested set")
    program = "from schemathesis.cli import schemathesis; schemathesis()"
    with serve(model_folder) as served:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                program,
                "run",
                f"{served.url}/openapi.json",
                "--max-examples=100",
                # Bytes at random are what the document allows and no image: to refuse them is right.
                "--exclude-checks=positive_data_acceptance",
                "--generation-database=none",
                "--seed=1",
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "Operations:       6 selected / 6 total" in done.stdout
