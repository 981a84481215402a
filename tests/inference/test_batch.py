"""Many images: what arguments stand for, and answers on disk that are whole or not there."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from manylabel.errors import ConfigError, DataError, RunError
from manylabel.inference.batch import WRITERS, expand_images, save_answers
from manylabel.inference.prediction import Prediction
from manylabel.labels.space import LabelSpace

SPACE = LabelSpace(("beach", "dog, small", "größe"))
THRESHOLDS = dict(zip(SPACE, (0.5, 0.25, 0.75), strict=True))


def answer(image: str, labels: tuple[str, ...], *probs: float) -> Prediction:
    return Prediction(image, labels, dict(zip(SPACE, probs, strict=True)), THRESHOLDS, "d1")


ANSWERS = [
    answer("a.jpg", ("größe", "beach"), 0.625, 0.125, 1.0),
    answer('b "quoted", 1.jpg', (), 0.25, 0.0, 0.5),
    Prediction("c.jpg", None, model="d1", error={"kind": "broken", "message": "c.jpg: ends early,\nor so."}),
    answer("d.jpg", ("dog, small",), 0.25, 0.5, 0.5),
]


def expand(*arguments: str, standard_input: str = "") -> list[str]:
    return expand_images(list(arguments), io.StringIO(standard_input))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """a.jpg, deep/b.PNG, deep/c.txt, [d].png: the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("deep").mkdir()
    for name in ("a.jpg", "deep/b.PNG", "[d].png"):
        Image.new("RGB", (2, 2)).save(name)
    Path("deep/c.txt").write_text("no image")
    return tmp_path


def posix(paths: list[str]) -> list[str]:
    return [Path(path).as_posix() for path in paths]


@pytest.mark.usefixtures("folder")
def test_a_folder_stands_for_every_image_below_it() -> None:
    assert sorted(posix(expand("."))) == ["[d].png", "a.jpg", "deep/b.PNG"]


@pytest.mark.usefixtures("folder")
def test_a_pattern_stands_for_what_it_matches() -> None:
    assert posix(expand("*.jpg")) == ["a.jpg"]
    assert posix(expand("**/*.PNG")) == ["deep/b.PNG"]


@pytest.mark.usefixtures("folder")
def test_a_file_whose_name_looks_like_a_pattern_is_a_file() -> None:
    assert expand("[d].png") == ["[d].png"]


@pytest.mark.usefixtures("folder")
def test_a_file_that_is_no_image_or_not_there_gets_an_answer_too() -> None:
    assert expand("deep/c.txt", "gone.jpg") == ["deep/c.txt", "gone.jpg"]


@pytest.mark.usefixtures("folder")
def test_a_dash_stands_for_the_paths_on_standard_input() -> None:
    assert expand("-", standard_input="a.jpg\n\n with blanks .jpg\r\ngone.jpg") == [
        "a.jpg", " with blanks .jpg", "gone.jpg"
    ]  # fmt: skip


@pytest.mark.usefixtures("folder")
def test_an_image_that_is_named_twice_is_answered_once_where_it_came_first() -> None:
    assert expand("gone.jpg", "a.jpg", "*.jpg", "-", standard_input="a.jpg\n") == ["gone.jpg", "a.jpg"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param(["none/*.jpg"], "none/*.jpg", id="pattern without a match"),
        pytest.param(["empty"], "empty", id="folder without an image"),
        pytest.param(["-", "*.gif"], "- *.gif", id="nothing on standard input"),
    ],
)
def test_no_image_at_all_is_one_sentence(arguments: list[str], text: str) -> None:
    Path("empty").mkdir()
    with pytest.raises(DataError) as caught:
        expand_images(iter(arguments), io.StringIO())
    assert str(caught.value) == f"{text}: there is no image, expected files, folders or patterns with images."


def test_csv_has_a_row_per_image_with_its_labels_joined(tmp_path: Path) -> None:
    path = tmp_path / "new" / "answers.csv"
    told: list[int] = []
    assert save_answers(ANSWERS, path, SPACE, on_image=lambda: told.append(1)) == 1
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["image", "labels", "error"],
        ["a.jpg", "größe|beach", ""],
        ['b "quoted", 1.jpg', "", ""],
        ["c.jpg", "", "c.jpg: ends early,\nor so."],
        ["d.jpg", "dog, small", ""],
    ]
    assert len(told) == 4


def test_csv_has_a_column_per_label_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    save_answers(ANSWERS, path, SPACE, all_probabilities=True)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [f"probability:{name}" for name in SPACE]
    assert [[row[column] for column in columns] for row in rows] == [
        ["0.625", "0.125", "1.0"], ["0.25", "0.0", "0.5"], ["", "", ""], ["0.25", "0.5", "0.5"]
    ]  # fmt: skip


@pytest.mark.parametrize("all_probabilities", [False, True])
def test_json_lines_are_the_answers_themselves(tmp_path: Path, all_probabilities: bool) -> None:
    path = tmp_path / "answers.jsonl"
    assert save_answers(ANSWERS, path, SPACE, all_probabilities) == 1
    lines = path.read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [answer.to_dict(all_probabilities) for answer in ANSWERS]


def test_parquet_has_a_list_of_labels_and_a_number_per_label(tmp_path: Path) -> None:
    path = tmp_path / "answers.parquet"
    assert save_answers(ANSWERS, path, SPACE) == 1
    table = pq.read_table(path)
    assert [str(kind) for kind in table.schema.types] == ["string", "list<element: string>", "string", *["float"] * 3]
    rows = table.to_pylist()
    assert [row["labels"] for row in rows] == [["größe", "beach"], [], None, ["dog, small"]]
    assert [row["probability:größe"] for row in rows] == [1.0, 0.5, None, 0.5]
    assert rows[2]["error"] == "c.jpg: ends early,\nor so."


def test_tables_say_which_images_need_a_person_where_the_model_abstains(tmp_path: Path) -> None:
    doubts = [False, True, True, False]
    answers = [replace(one, needs_person=doubt) for one, doubt in zip(ANSWERS, doubts, strict=True)]
    for name in ("answers.csv", "answers.parquet"):
        save_answers(answers, tmp_path / name, SPACE, has_doubt=True)
    with (tmp_path / "answers.csv").open(encoding="utf-8", newline="") as file:
        assert [row["needs_person"] for row in csv.DictReader(file)] == ["0", "1", "1", "0"]
    assert pq.read_table(tmp_path / "answers.parquet")["needs_person"].to_pylist() == doubts


@pytest.mark.parametrize("extension", list(WRITERS))
def test_no_answer_is_a_file_too(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"answers{extension.upper()}"
    assert save_answers([], path, SPACE) == 0
    assert path.is_file()


@pytest.mark.parametrize("extension", list(WRITERS))
def test_a_name_that_is_not_text_is_written_with_escapes(tmp_path: Path, extension: str) -> None:
    # How a file name that is not UTF-8 arrives on Linux.
    name = "gr\udcfc\udcdf.jpg"
    failed = Prediction(name, None, error={"kind": "missing", "message": f"{name}: there is no such file"})
    path = tmp_path / f"answers{extension}"
    assert save_answers([answer(name, (), 0, 0, 0), failed], path, SPACE) == 1
    content = str(pq.read_table(path).to_pylist()) if extension == ".parquet" else path.read_text("utf-8")
    assert content.count(r"gr\udcfc\udcdf.jpg") + content.count(r"gr\\udcfc\\udcdf.jpg") == 3


@pytest.mark.parametrize("extension", list(WRITERS))
def test_an_interrupted_write_leaves_the_older_file(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"answers{extension}"
    path.write_text("the older one")

    def interrupt() -> Iterator[Prediction]:
        yield ANSWERS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_answers(interrupt(), path, SPACE)
    assert path.read_text() == "the older one"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_full_disk_is_one_sentence_and_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("the older one")

    def fail(*_: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(RunError, match=r"answers\.csv: cannot write .*\(No space left on device\)\. Free space or"):
        save_answers(ANSWERS, path, SPACE)
    assert path.read_text() == "the older one"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["answers.xlsx", "answers"])
def test_an_extension_that_no_writer_has_is_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown kind of file, got '.*', expected \.csv, \.jsonl, \.parquet\.$"):
        save_answers(ANSWERS, tmp_path / name, SPACE)
    assert list(tmp_path.iterdir()) == []


def test_parquet_writes_more_answers_than_fit_in_one_group(tmp_path: Path) -> None:
    path = tmp_path / "answers.parquet"
    answers = (answer(f"{row}.jpg", (), 0.5, 0.5, 0.5) for row in range(5000))
    save_answers(answers, path, SPACE)
    assert pq.read_table(path).column("image").to_pylist() == [f"{row}.jpg" for row in range(5000)]
    assert pq.ParquetFile(path).metadata.num_row_groups == 2
