"""`manylabel convert`: written, read again alike, and nothing lost without a word."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from manylabel.cli.main import run
from manylabel.data.formats.detect import load_annotations


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return a one-hot table with an unknown cell, a part and an extra column."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("L", (1, 1)).save(folder / name)
    (folder / "labels.csv").write_text("image,sun,dog,part,film\na.png,1,,train,x\nb.png,0,1,val,y\n", "utf-8")
    return folder / "labels.csv"


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["manylabel", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        run()
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_the_table_is_written_and_the_command_says_how_to_read_it(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    assert call(monkeypatch, "convert", table, out) == 0
    assert capsys.readouterr().out == (
        f"Written: {out} (delimited, 2 images, 2 labels)\n"
        f"The images stay in {table.parent}: read it with --images {table.parent}\n"
    )
    assert out.read_text("utf-8") == "image,labels,unknown,part,film\na.png,sun,dog,train,x\nb.png,dog,,val,y\n"
    assert load_annotations(out, table.parent).digest == load_annotations(table).digest


def test_nothing_is_written_over(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = table.read_bytes()
    assert call(monkeypatch, "convert", table, table) == 2
    assert capsys.readouterr().err == (f"Error: {table}: there already. Choose another OUT, or remove it first.\n")
    assert table.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "to", "message"),
    [
        pytest.param("out.docx", None, "no layout goes with the name 'out.docx'", id="an extension of nothing"),
        pytest.param("out.csv", "folders", "--to: cannot be written, got 'folders'", id="a layout that is only read"),
        pytest.param("out.csv", "delimitted", "did you mean 'delimited'?", id="a misspelt layout"),
    ],
)
def test_a_layout_that_cannot_be_written_is_said_before_anything_is_read(
    table: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    to: str | None,
    message: str,
) -> None:
    out = table.with_name(name)
    assert call(monkeypatch, "convert", table, out, *([] if to is None else ["--to", to])) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()
