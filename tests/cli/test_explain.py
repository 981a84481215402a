"""`explain` on the command line: ways by name, and what one lacks is said before anything is written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image
from tests.inference.conftest import write_bundle

from manylabel.cli.main import run


@pytest.mark.parametrize(
    ("method", "exit_code", "said"),
    [
        ("hiding", 0, "Written: "),
        ("gradients", 2, "Error: --method gradients: the model has no model.safetensors"),
        ("hidding", 2, "Error: --method: there is no way 'hidding' to find maps (did you mean 'hiding'?)"),
    ],
)
def test_ways_are_chosen_by_name(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    method: str,
    exit_code: int,
    said: str,
) -> None:
    model, photo, out = write_bundle(tmp_path / "model"), tmp_path / "photo.png", tmp_path / "why.png"
    Image.new("RGB", (20, 12), (250, 10, 10)).save(photo)
    arguments = ["manylabel", "explain", str(model), str(photo), "--method", method, "--out", str(out)]
    monkeypatch.setattr(sys, "argv", arguments)
    try:
        run()
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == exit_code
    assert said in " ".join(capsys.readouterr().err.split())
    assert out.exists() is (exit_code == 0)
