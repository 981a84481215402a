"""What runs a model, installed without extras in an empty environment: it answers, and torch is not there."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from pathlib import Path

import pytest
from PIL import Image
from tests.inference.conftest import write_bundle

pytestmark = pytest.mark.scenario

ROOT = Path(__file__).resolve().parents[2]
NO_NETWORK = (
    "Could not find a version",
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
)

PROGRAM = """
import importlib.util, json, sys
import manylabel as ml

model = ml.load(sys.argv[1])
prediction = model.predict(sys.argv[2])
heavy = ("torch", "torchvision", "timm", "onnx", "sklearn")
absent = [name for name in heavy if importlib.util.find_spec(name) is None]
print(json.dumps({"labels": prediction.labels, "absent": absent, "torch": "torch" in sys.modules}))
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel of this checkout and what it asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("small") / "venv"
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    command = [programs / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", ROOT]
    told = subprocess.run(command, capture_output=True, encoding="utf-8", env=plain_environment(), check=False)
    if told.returncode and any(reason in told.stderr for reason in NO_NETWORK):
        pytest.skip(f"packages cannot be had here: {told.stderr.strip().splitlines()[-1]}")
    assert told.returncode == 0, told.stderr
    return programs


def plain_environment() -> dict[str, str]:
    """Return this environment without what leads Python back to the checkout."""
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }


def call(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        encoding="utf-8",
        cwd=cwd,
        env=plain_environment(),
        check=False,
    )


def test_a_wheel_without_extras_answers_and_brings_no_torch(small: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    Image.new("RGB", (20, 12), (255, 0, 0)).save(tmp_path / "red.png")
    (tmp_path / "program.py").write_text(PROGRAM, "utf-8")
    told = call(small / "python", "program.py", bundle, "red.png", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    answer = json.loads(told.stdout)
    assert answer == {
        "labels": ["red"], "absent": ["torch", "torchvision", "timm", "onnx", "sklearn"], "torch": False
    }  # fmt: skip
    for out in ("answers.csv", "answers.jsonl", "answers.parquet"):
        told = call(small / "manylabel", "predict", bundle, "red.png", "--out", out, cwd=tmp_path)
        assert told.returncode == 0, told.stderr
        assert (tmp_path / out).stat().st_size > 0
    told = call(small / "manylabel", "predict", bundle, "red.png", cwd=tmp_path)
    assert told.stdout.startswith("red.png: red ")
    told = call(small / "manylabel", "explain", bundle, "red.png", "--out", "why.png", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    told = call(small / "manylabel", "export", bundle, "one.onnx", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert call(small / "manylabel", "predict", "one.onnx", "red.png", cwd=tmp_path).stdout.startswith("red.png: red ")


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["train", "labels.csv", "--out", "run"], "train"),
        (["export", "bundle", "half", "--quantize", "fp16"], "train"),
        (["serve", "bundle"], "serve"),
    ],
)
def test_what_needs_an_extra_says_which(small: Path, tmp_path: Path, arguments: list[str], extra: str) -> None:
    write_bundle(tmp_path / "bundle")
    Image.new("RGB", (20, 12)).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("image,labels\na.png,red\n", "utf-8")
    told = call(small / "manylabel", *arguments, cwd=tmp_path)
    assert told.returncode == 2
    assert f"manylabel[{extra}]" in told.stderr
    assert "Traceback" not in told.stderr


def test_the_direct_dependencies_are_few(small: Path, tmp_path: Path) -> None:
    code = (
        "from importlib.metadata import requires; print(sum('extra ==' not in each for each in requires('manylabel')))"
    )
    told = call(small / "python", "-c", code, cwd=tmp_path)
    assert int(told.stdout) <= 8
