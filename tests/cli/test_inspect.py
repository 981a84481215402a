from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from manylabel.cli.inspect import _print_cured
from manylabel.cli.main import run
from manylabel.data.annotations import annotations_from_arrays
from manylabel.data.cures import CuredTable
from manylabel.data.regions import Region


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for level, name in enumerate(("a", "b", "c")):
        Image.new("L", (40, 40), level).save(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text("image,dog,N/A\na.png,1,?\nb.png,0,1\nc.png,0,0\n", encoding="utf-8")
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["manylabel", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        run()
    assert isinstance(stop.value.code, int)
    return stop.value.code


def inspect_json(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    code = call(monkeypatch, "inspect", folder / "labels.csv", "--json")
    captured = capsys.readouterr()
    assert captured.err == ""
    return code, json.loads(captured.out)


def test_the_json_is_that_of_the_interface(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = inspect_json(folder, monkeypatch, capsys)
    assert code == 0
    findings = answer.pop("findings")
    assert answer == {
        "layout": "one-hot",
        "evidence": [
            "3 rows, 3 columns, utf-8, cells parted by ','",
            "images: 3 of 3 cells of column 'image' end like an image file",
            "labels: columns that hold only 0, 1 and unknown: 2",
        ],
        "num_images": 3,
        "num_labels": 2,
        "labels": [
            {"label": "dog", "present": 1, "absent": 2, "unknown": 0},
            {"label": "N/A", "present": 1, "absent": 1, "unknown": 1},
        ],
    }
    assert [(finding["severity"], finding["kind"], finding["rows"]) for finding in findings] == [
        ("warning", "label-named-missing", ["N/A"]),
        ("warning", "label-too-rare", ["dog", "N/A"]),
        ("note", "image-without-label", ["c.png"]),
        ("note", "unknown-cells", ["N/A"]),
    ]
    assert findings[1]["message"] == (
        "Labels in fewer than 3 images: dog (1), N/A (1). They cannot be in each of train, val, test."
    )
    assert findings[1]["fix"] == "Add images with them, merge them into others or remove them"


def test_images_that_cannot_be_used_are_named_and_make_the_exit_code_1(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:20])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("words", encoding="utf-8")
    (folder / "folder.jpg").mkdir()
    rows = "".join(f"{name},1,0\n" for name in ("cut.png", "empty.jpg", "text.jpg", "folder.jpg", "gone.jpg"))
    (folder / "labels.csv").write_text("image,dog,cat\na.png,0,1\n" + rows, encoding="utf-8")
    code, answer = inspect_json(folder, monkeypatch, capsys)
    assert code == 1
    assert {finding["kind"]: finding["rows"] for finding in answer["findings"] if finding["severity"] == "error"} == {
        "missing-image": ["gone.jpg"],
        "image-broken": ["cut.png"],
        "image-empty": ["empty.jpg"],
        "image-unsupported-format": ["text.jpg"],
        "image-not-a-file": ["folder.jpg"],
    }
    assert call(monkeypatch, "inspect", folder / "labels.csv", "--quiet") == 1
    text = " ".join(capsys.readouterr().out.split())
    for name in ("cut.png", "empty.jpg", "text.jpg", "folder.jpg", "gone.jpg"):
        assert f"({name}). " in text or f": {name}. " in text


def test_a_name_in_any_script_goes_through_a_pipe_of_any_encoding(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "labels.csv").write_text("image,labels\na.png,日本\n", encoding="utf-8")
    call(monkeypatch, "inspect", folder / "labels.csv", "--json")
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out)["labels"][0]["label"] == "日本"


def test_the_text_shows_layout_rows_labels_and_findings(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "labels.csv").write_text(
        "image,labels,part\na.png,[red]|dog,train\nb.png,dog,val\nc.png,,val\n", encoding="utf-8"
    )
    assert call(monkeypatch, "inspect", folder / "labels.csv") == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == f"{folder / 'labels.csv'}: delimited"
    assert "3 images, 2 labels, 1.00 labels per image, 1 images without a label" in lines
    assert "parts: train 1, val 2" in lines
    assert "a.png: [red] | dog" in lines
    assert "c.png: (none)" in lines
    assert f"dog 2 66.7% 0 {'█' * 20}" in lines
    assert f"[red] 1 33.3% 0 {'█' * 10}" in lines
    assert "warning Labels that fewer than 5 images have: [red] (1), dog (2)." in lines


def test_wrong_input_is_one_message_and_the_exit_code_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "inspect", folder / "no.csv") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"Error: {folder / 'no.csv'}: there is no such table. Check the path.\n"


def test_a_folder_of_label_folders_is_inspected_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("dog", "sun"):
        (tmp_path / label).mkdir()
        Image.new("L", (2, 2)).save(tmp_path / label / f"{label}.png")
    assert call(monkeypatch, "inspect", tmp_path, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["layout"], answer["num_images"]) == ("folders", 2)
    assert [label["label"] for label in answer["labels"]] == ["dog", "sun"]


POSTERS = Path(__file__).resolve().parents[3] / "shared" / "data" / "posters" / "labels.csv"
needs_posters = pytest.mark.skipif(not POSTERS.is_file(), reason="the posters are not beside this checkout")


def inspect_text(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_fix_writes_a_cleaned_table_and_says_what_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:20])
    table = "image,dog,Dog,moon,cat\na.png,1,0,0,1\nb.png,0,1,0,0\nb.png,0,1,0,1\ncut.png,0,0,0,1\nc.png,1,0,0,1\n"
    (folder / "labels.csv").write_text(table, encoding="utf-8")
    out = folder / "out" / "cleaned.csv"
    assert call(monkeypatch, "inspect", folder / "labels.csv", "--fix", out) == 1
    text = inspect_text(capsys)
    assert (folder / "labels.csv").read_text(encoding="utf-8") == table
    assert out.read_text(
        encoding="utf-8"
    ) == "image,labels,unknown\na.png,cat|dog,\nb.png,dog,cat\nc.png,cat|dog,\n".replace("cat|dog", "dog|cat")
    assert f"Written: {out} (3 images, 2 labels); the original is as it was" in text
    assert "Made unknown what the rows of 1 image contradict each other on: b.png." in text
    assert "Removed 1 image (image-broken): cut.png." in text
    assert "Renamed labels: 'Dog' to 'dog'." in text
    assert "Removed 1 label that no image has: moon." in text
    assert f"Next: manylabel split {out} split.csv --images {folder}" in text
    assert f"remove the rows: manylabel inspect {folder / 'labels.csv'} --fix cleaned.csv." in text


def test_fix_tells_programs_what_was_done_and_what_is_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "inspect", folder / "labels.csv", "--fix", folder / "new.csv", "--json") == 0
    fixed = json.loads(capsys.readouterr().out)["fixed"]
    assert (fixed["table"], fixed["num_images"], fixed["num_labels"]) == (str(folder / "new.csv"), 3, 2)
    assert fixed["changes"] == []
    assert [finding["kind"] for finding in fixed["left"]][:2] == ["label-named-missing", "label-too-rare"]


@pytest.mark.parametrize("there", ["labels.csv", "old.csv", "old.labels.txt"])
def test_fix_writes_over_nothing(
    there: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if there.startswith("old"):
        (folder / there).write_text("precious", encoding="utf-8")
    before = (folder / there).read_bytes()
    out = "labels.csv" if there == "labels.csv" else "old.csv"
    assert call(monkeypatch, "inspect", folder / "labels.csv", "--fix", folder / out) == 2
    error = capsys.readouterr().err
    assert error == f"Error: --fix: {folder / there} is there already. Choose another name: nothing is written over.\n"
    assert (folder / there).read_bytes() == before


def test_the_page_is_written_where_a_page_belongs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = folder / "labels.csv"
    before = table.read_bytes()
    assert call(monkeypatch, "inspect", table, "--html", table) == 2
    assert capsys.readouterr().err == (
        f"Error: --html: not the name of a page, got {str(table)!r}, expected NAME.html.\n"
    )
    assert table.read_bytes() == before
    assert call(monkeypatch, "inspect", table, "--html", folder / "page.html") == 0
    assert f"Page: {folder / 'page.html'}" in inspect_text(capsys)
    assert (folder / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


@needs_posters
def test_the_posters_are_told_what_is_wrong_and_their_cleaned_table_can_be_divided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cleaned = tmp_path / "cleaned.csv"
    call(monkeypatch, "inspect", POSTERS, "--json", "--fix", cleaned)
    answer = json.loads(capsys.readouterr().out)
    rows_of = {finding["kind"]: finding["rows"] for finding in answer["findings"]}
    # Counted with sort and uniq on the file: five ids stand twice, their rows are alike.
    repeated = ["tt0092644", "tt0102315", "tt0300532", "tt1352852", "tt1650062"]
    assert rows_of["repeated-image"] == [f"images/{image}.jpg" for image in repeated]
    assert "contradicting-rows" not in rows_of
    assert rows_of["label-too-rare"] == ["Reality-TV"]
    assert rows_of["label-named-missing"] == ["N/A"]
    assert rows_of["text-column"] == ["Genre"]
    # One poster is the same file under two ids (equal by cmp); the ids have different genres.
    assert rows_of["exact-duplicate"] == rows_of["contradicting-duplicates"]
    assert rows_of["exact-duplicate"] == ["images/tt0420286.jpg", "images/tt0402577.jpg"]
    assert (answer["fixed"]["num_images"], answer["fixed"]["num_labels"]) == (2399, 25)
    assert call(monkeypatch, "split", cleaned, tmp_path / "split.csv", "--images", POSTERS.parent) == 0
    capsys.readouterr()
    assert call(monkeypatch, "inspect", tmp_path / "split.csv", "--images", POSTERS.parent, "--json") == 0
    kinds = [finding["kind"] for finding in json.loads(capsys.readouterr().out)["findings"]]
    assert "repeated-image" not in kinds
    assert "label-missing-in-part" in kinds  # Reality-TV has one image


def test_a_cleaned_table_says_that_boxes_are_not_in_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cured = CuredTable(annotations_from_arrays(np.zeros((1, 4, 4), np.uint8), [["a"]]), (), ())
    with_box = replace(cured.annotations.records[0], regions=(Region("a", (0, 0, 1, 1)),))
    _print_cured(Console(width=80), cured, folder / "new.csv", folder)
    assert "Boxes" not in inspect_text(capsys)
    boxed = replace(cured, annotations=replace(cured.annotations, records=(with_box,)))
    _print_cured(Console(width=80), boxed, folder / "new.csv", folder)
    text = inspect_text(capsys)
    assert "Boxes, polygons and masks are not in it: it holds labels alone." in text
    assert "Nothing was changed: no finding has a cure that is safe." in text


@needs_posters
def test_rows_of_a_poster_that_contradict_each_other_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = POSTERS.read_text(encoding="utf-8").splitlines()
    row = next(line for line in lines if line.startswith("tt0102315,"))
    changed = row.removesuffix("0") + "1"  # the last column is Western
    (tmp_path / "labels.csv").write_text("\n".join([*lines, changed]) + "\n", encoding="utf-8")
    call(monkeypatch, "inspect", tmp_path / "labels.csv", "--images", POSTERS.parent, "--json")
    rows_of = {finding["kind"]: finding["rows"] for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert rows_of["contradicting-rows"] == ["images/tt0102315.jpg"]
    assert len(rows_of["repeated-image"]) == 4
