"""Results never take the place of what a command reads, or of what is something else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.inference.conftest import write_bundle

from manylabel.cli.main import run
from manylabel.cli.outputs import check_header, check_output
from manylabel.errors import ConfigError


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["manylabel", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        run()
    return int(ended.value.code or 0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "model")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[5:15, 2:10, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_file_that_is_read_is_not_written(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("image,labels\n")
    (tmp_path / "sub").mkdir()
    for out in (table, tmp_path / "sub" / ".." / "table.csv"):
        with pytest.raises(ConfigError, match="the command reads this file itself"):
            check_output(out, (None, str(table)))
    check_output(tmp_path / "other.csv", (table,), ending=".csv")
    with pytest.raises(
        ConfigError, match=r"--html: the ending is of another kind, got 'page\.txt', expected NAME\.html"
    ):
        check_output(tmp_path / "page.txt", (), "--html", ".html")


def test_a_csv_file_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    for content in ("image,labels\na,b\n", "", "\x00\xff"):
        (tmp_path / "a.csv").write_bytes(content.encode("latin-1"))
        with pytest.raises(ConfigError, match="there is a file that is no queue"):
            check_header(tmp_path / "a.csv", ("image", "label"), "queue")
    (tmp_path / "a.csv").write_text("image,label,more\n")
    check_header(tmp_path / "a.csv", ("image", "label"), "queue")
    check_header(tmp_path / "none.csv", ("image", "label"), "queue")


@pytest.mark.parametrize("name", ["notes.csv", "notes.jsonl", "notes.parquet"])
def test_predict_replaces_answers_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, photo: Path, name: str
) -> None:
    out = photo.with_name(name)
    out.write_text("dear diary\n")
    assert call(monkeypatch, "predict", model, photo, "--out", out) == 2
    assert "there is a file that holds no answers. Choose another --out, or remove it." in capsys.readouterr().err
    assert out.read_text() == "dear diary\n"
    out.unlink()
    for _ in range(2):
        assert call(monkeypatch, "predict", model, photo, "--out", out) == 0


def test_predict_and_explain_never_replace_their_image_or_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, photo: Path
) -> None:
    table = photo.with_name("table.csv")
    table.write_text("image,labels,error\nphoto.png,red,\n")
    before = photo.read_bytes(), table.read_bytes()
    for arguments in (
        ("predict", model, table, "--out", table),
        ("predict", model, photo, "--picture", photo),
        ("explain", model, photo, "--out", photo),
    ):
        assert call(monkeypatch, *arguments) == 2
        assert "the command reads this file itself" in capsys.readouterr().err
    assert (photo.read_bytes(), table.read_bytes()) == before


def test_a_finished_file_is_recognised_and_that_of_another_run_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, photo: Path
) -> None:
    other, out = photo.with_name("other.png"), photo.with_name("answers.csv")
    other.write_bytes(photo.read_bytes())
    assert call(monkeypatch, "predict", model, photo, "--out", out, "--resume") == 0
    finished = out.read_bytes()
    capsys.readouterr()
    assert call(monkeypatch, "predict", model, photo, "--out", out, "--resume") == 0
    told = capsys.readouterr().err
    assert f"Nothing is left to do: {out} has an answer for every image." in told
    assert "Written" not in told
    assert call(monkeypatch, "predict", model, photo, other, "--out", out, "--resume") == 2
    assert "it is finished, and has no answer for 1 of these 2 images" in capsys.readouterr().err
    assert out.read_bytes() == finished


def test_printed_names_send_nothing_to_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, photo: Path
) -> None:
    odd = photo.with_name("odd\x1b[31m\nname.png")
    photo.rename(odd)
    assert call(monkeypatch, "predict", model, odd) == 0
    assert call(monkeypatch, "predict", model, odd.with_name("gone\x1b.png")) == 1
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert len(printed.splitlines()) == 2
    assert "odd\\x1b[31m\\nname.png: " in printed
    assert printed.count("gone") == 1 or "gone\\x1b.png: cannot be used: there is no such file" in printed


def test_answers_are_printed_as_json_or_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, photo: Path
) -> None:
    assert call(monkeypatch, "predict", model, photo, "--json") == 0
    assert json.loads(capsys.readouterr().out)["image"] == str(photo)
    assert call(monkeypatch, "predict", model, photo, "--json", "--out", photo.with_name("a.csv")) == 2
    assert "--json: answers are printed or written, not both" in capsys.readouterr().err


def test_tune_never_replaces_its_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, photo: Path
) -> None:
    table = photo.with_name("table.csv")
    table.write_text("image,labels\nphoto.png,red\n")
    digest = json.loads((model / "manifest.json").read_text("utf-8"))["digest"]
    assert call(monkeypatch, "tune", model, table, "--goal", "f1", "--out", model) == 2
    assert "the model itself lies there" in capsys.readouterr().err
    assert json.loads((model / "manifest.json").read_text("utf-8"))["digest"] == digest
    table.write_text("image,labels\nphoto.png,pink\n")
    assert call(monkeypatch, "tune", model, table, "--unknown-labels", "drop", "--quiet") == 0
