from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from manylabel.cli.main import run
from manylabel.cli.split import parse_parts
from manylabel.errors import ConfigError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return a table of 20 images, two per film, with a label on every second one."""
    lines = ["file,labels,film"]
    for row in range(20):
        Image.new("L", (1, 1)).save(tmp_path / f"{row:02d}.png")
        lines.append(f"{row:02d}.png,{'dog|sun' if row % 2 else 'sun'},film {row // 2}")
    (tmp_path / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "labels.csv"


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["manylabel", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        run()
    assert isinstance(stop.value.code, int)
    return stop.value.code


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_with_parts_is_written(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = table.with_name("split.csv")
    assert call(monkeypatch, "split", table, out) == 0
    rows = read_rows(out)
    assert list(rows[0]) == ["image", "labels", "part", "film"]
    assert [row["image"] for row in rows] == [f"{row:02d}.png" for row in range(20)]
    assert [row["labels"] for row in rows] == ["sun", "dog|sun"] * 10
    assert Counter(row["part"] for row in rows) == {"train": 14, "val": 3, "test": 3}
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "sun 14 of 14.0 3 of 3.0 3 of 3.0" in lines
    assert any(line.startswith("dog 7 of 7.0 ") for line in lines)


def test_the_seed_decides_and_the_same_seed_decides_the_same(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    for name, seed in (("1.csv", 5), ("2.csv", 5), ("3.csv", 6)):
        assert call(monkeypatch, "split", table, table.with_name(name), "--seed", seed, "--quiet") == 0
        texts.append(table.with_name(name).read_bytes())
    assert texts[0] == texts[1] != texts[2]


def test_folds_with_groups_keep_relatives_together_and_say_who_they_are(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = table.with_name("folds.csv")
    assert call(monkeypatch, "split", table, out, "--folds", 5, "--group", "film", "--quiet") == 0
    rows = read_rows(out)
    assert Counter(row["part"] for row in rows) == {f"fold{fold}": 4 for fold in range(5)}
    assert [row["group"] for row in rows] == [f"film {row // 2}" for row in range(20)]
    assert len({(row["group"], row["part"]) for row in rows}) == 10


def test_quiet_prints_nothing(table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    call(monkeypatch, "split", table, table.with_name("split.csv"), "--quiet")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.parametrize(
    ("standing", "message"),
    [
        pytest.param("labels.csv", "OUT: {} is the table that is read", id="the table itself"),
        pytest.param("old.csv", "OUT: {} is there already", id="another file"),
        pytest.param("old.labels.txt", "OUT: {} is there already", id="names of labels beside OUT"),
    ],
)
def test_nothing_is_written_over(
    table: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    standing: str,
    message: str,
) -> None:
    path = table.with_name(standing)
    if standing != "labels.csv":
        path.write_text("precious", encoding="utf-8")
    before = {file.name: file.read_bytes() for file in table.parent.iterdir()}
    assert call(monkeypatch, "split", table, table.with_name(standing.split(".")[0] + ".csv")) == 2
    error = capsys.readouterr().err
    assert error == f"Error: {message.format(path)}. Choose another OUT, or remove the file first.\n"
    assert {file.name: file.read_bytes() for file in table.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "train", "--parts: not a share, got 'train', expected NAME=SHARE, such as train=0.7.", id="no share"
        ),
        pytest.param(
            "train=x", "--parts: not a share, got 'train=x', expected NAME=SHARE, such as train=0.7.", id="text"
        ),
        pytest.param("a=0.5,a=0.5", "--parts: a part without a name of its own, got 'a=0.5'.", id="a name twice"),
        pytest.param("=1", "--parts: a part without a name of its own, got '=1'.", id="no name"),
    ],
)
def test_parts_that_cannot_be_read_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_parts(text)
    assert str(error.value) == message


def test_parts_are_read_with_blanks() -> None:
    assert parse_parts(" train = 0.8 , val=0.2") == {"train": 0.8, "val": 0.2}


def test_a_table_too_small_to_split_is_the_exit_code_2(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table.write_text("image,labels\n00.png,dog\n01.png,sun\n", encoding="utf-8")
    assert call(monkeypatch, "split", table, table.with_name("out.csv")) == 2
    assert capsys.readouterr().err == (
        f"Error: {table}: 2 images cannot be divided into 3 parts, expected at least 3. "
        "Add images or ask for fewer parts.\n"
    )
    assert not table.with_name("out.csv").exists()
