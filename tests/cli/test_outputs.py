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
from manylabel.evaluation.mistakes import QUEUE_COLUMNS


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of three images, with a table of them and a list of their paths beside it."""
    place = tmp_path / "flags"
    place.mkdir()
    for number in range(3):
        Image.new("RGB", (20, 20), (90 * number, 10, 10)).save(place / f"{number}.png")
    lines = [f"{number}.png,red" for number in range(3)]
    (tmp_path / "table.csv").write_text("\n".join(["image,labels", *lines]))
    (tmp_path / "paths.txt").write_text("".join(f"{place / str(number)}.png\n" for number in range(3)))
    return place


@pytest.mark.parametrize("kind", ["folder", "pattern", "table", "standard input", "another way", "link"])
def test_predict_replaces_no_image_that_its_arguments_stand_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, folder: Path, kind: str
) -> None:
    picture, table = folder / "1.png", folder.with_name("table.csv")
    images: tuple[object, ...] = (folder,)
    if kind == "pattern":
        images = (folder / "*.png",)
    elif kind == "table":
        images = (table, "--images", folder)
    elif kind == "standard input":
        images = ("-",)
        monkeypatch.setattr(sys, "stdin", folder.with_name("paths.txt").open(encoding="utf-8"))
    elif kind == "another way":
        picture = folder / ".." / folder.name / "1.png"
    elif kind == "link":
        picture = folder.with_name("drawn.png")
        (folder / "1.png").rename(picture)
        (folder / "1.png").symlink_to(picture)
    before = picture.read_bytes()
    assert call(monkeypatch, "predict", model, *images, "--picture", picture) == 2
    assert "this is one of the images that the command reads. Choose another place." in capsys.readouterr().err
    assert picture.read_bytes() == before
    if kind != "standard input":
        assert call(monkeypatch, "predict", model, *images, "--picture", folder.with_name("new.png")) == 0


def test_answers_replace_no_file_that_is_given_as_an_image(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, folder: Path
) -> None:
    out = folder / "answers.csv"
    assert call(monkeypatch, "predict", model, folder / "0.png", "--out", out) == 0
    before = out.read_bytes()
    capsys.readouterr()
    (folder / "3.png").symlink_to(out)
    assert call(monkeypatch, "predict", model, folder, "--out", out) == 2
    assert "this is one of the images that the command reads" in capsys.readouterr().err
    assert out.read_bytes() == before


@pytest.mark.parametrize("command", ["augment", "explain", "tune", "inspect", "find-errors"])
def test_what_is_written_beside_a_table_replaces_none_of_its_images(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, folder: Path, command: str
) -> None:
    table, victim = folder.with_name("table.csv"), folder / "2.png"
    if command in ("inspect", "find-errors"):  # their endings are those of no image: a link can have any
        victim = folder / {"inspect": "page.html", "find-errors": "queue.csv"}[command]
        (folder / "2.png").rename(victim)
        (folder / "2.png").symlink_to(victim)
    if command == "find-errors":
        victim.write_text(",".join(QUEUE_COLUMNS) + "\n")
    arguments: dict[str, tuple[object, ...]] = {
        "augment": (table, "--preview", victim, "--num-images", 1),
        "explain": (model, folder / "0.png", "--regions", table, "--out", victim),
        "tune": (model, table, "--mine-rules", victim),
        "inspect": (table, "--html", victim),
        "find-errors": (table, "--out", victim),
    }
    before = victim.read_bytes()
    assert call(monkeypatch, command, *arguments[command], "--images", folder, "--quiet") == 2
    assert "this is one of the images that the command reads" in capsys.readouterr().err
    assert victim.read_bytes() == before


def test_the_rules_that_are_proposed_never_replace_what_tune_reads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, folder: Path
) -> None:
    table = folder.with_name("table.csv")
    before = table.read_bytes()
    assert call(monkeypatch, "tune", model, table, "--images", folder, "--mine-rules", table) == 2
    assert "the command reads this file itself" in capsys.readouterr().err
    assert table.read_bytes() == before


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
    table.write_text("image,labels\nphoto.png,pink|red\n")
    assert call(monkeypatch, "tune", model, table, "--unknown-labels", "drop", "--quiet") == 0
