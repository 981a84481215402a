"""Answers on disk: whole or not there, and kept beside their place until all are."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manylabel.errors import ConfigError, DataError, RunError
from manylabel.inference.batch import WRITERS, check_replaceable, open_unfinished, save_answers
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


def test_csv_has_a_row_per_image_with_its_labels_joined(tmp_path: Path) -> None:
    path = tmp_path / "new" / "answers.csv"
    told: list[int] = []
    assert save_answers(ANSWERS, path, SPACE, on_image=lambda: told.append(1)).num_failed == 1
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
    assert save_answers(ANSWERS, path, SPACE, all_probabilities).num_failed == 1
    lines = path.read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [answer.to_dict(all_probabilities) for answer in ANSWERS]


def test_parquet_has_a_list_of_labels_and_a_number_per_label(tmp_path: Path) -> None:
    path = tmp_path / "answers.parquet"
    assert save_answers(ANSWERS, path, SPACE).num_failed == 1
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
    assert save_answers([], path, SPACE).num_images == 0
    assert path.is_file()


@pytest.mark.parametrize("extension", list(WRITERS))
def test_a_name_that_is_not_text_is_written_with_escapes(tmp_path: Path, extension: str) -> None:
    # How a file name that is not UTF-8 arrives on Linux.
    name = "gr\udcfc\udcdf.jpg"
    failed = Prediction(name, None, error={"kind": "missing", "message": f"{name}: there is no such file"})
    path = tmp_path / f"answers{extension}"
    assert save_answers([answer(name, (), 0, 0, 0), failed], path, SPACE).num_failed == 1
    content = str(pq.read_table(path).to_pylist()) if extension == ".parquet" else path.read_text("utf-8")
    assert content.count(r"gr\udcfc\udcdf.jpg") + content.count(r"gr\\udcfc\\udcdf.jpg") == 3


@pytest.mark.parametrize("extension", list(WRITERS))
@pytest.mark.parametrize("all_probabilities", [False, True])
def test_an_interrupted_write_leaves_the_older_file_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extension: str, all_probabilities: bool
) -> None:
    monkeypatch.setattr("manylabel.inference.batch.ROWS_PER_PART", 3)
    answers = [*ANSWERS, *(replace(one, image=f"more {one.image}") for one in ANSWERS)]
    save_answers(answers, tmp_path / f"whole{extension}", SPACE, all_probabilities)
    path = tmp_path / f"answers{extension}"
    path.write_text("the older one")

    def interrupt() -> Iterator[Prediction]:
        yield from answers[:5]
        raise KeyboardInterrupt

    plan = {"model": "d1"}
    with pytest.raises(KeyboardInterrupt), open_unfinished(path, plan) as unfinished:
        save_answers(interrupt(), path, SPACE, all_probabilities, unfinished=unfinished)
    assert path.read_text() == "the older one"
    with pytest.raises(ConfigError, match=r"keeps 5 answers of a run that did not end\. Go on from them with --resume"):
        save_answers([], path, SPACE)
    with open_unfinished(path, plan, is_resumed=True) as kept:
        assert kept.done == {one.image for one in answers[:5]}
        assert (kept.tally.num_images, kept.tally.num_failed, kept.tally.num_given["größe"]) == (5, 1, 2)
        rest = [one for one in answers if one.image not in kept.done]
        tally = save_answers(rest, path, SPACE, all_probabilities, unfinished=kept)
    assert (tally.num_images, tally.num_failed) == (8, 2)
    if extension == ".parquet":
        assert pq.read_table(path).equals(pq.read_table(tmp_path / f"whole{extension}"))
    else:
        assert path.read_bytes() == (tmp_path / f"whole{extension}").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name, f"whole{extension}"]


@pytest.mark.parametrize("moment", range(2, 11))
def test_a_signal_at_any_moment_doubles_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    monkeypatch.setattr("manylabel.inference.batch.ROWS_PER_PART", 2)
    path = tmp_path / "answers.csv"
    real, calls = Path.replace, iter(range(100))

    def interrupt(self: Path, target: Path) -> Path:
        moved = real(self, target)
        if next(calls) == moment:
            raise KeyboardInterrupt  # the part is there, and nobody has noted it
        return moved

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupt)
        with contextlib.suppress(KeyboardInterrupt):
            save_answers(ANSWERS, path, SPACE)
    with open_unfinished(path, {}, is_resumed=True) as kept:
        rest = [one for one in ANSWERS if one.image not in kept.done]
        save_answers(rest, path, SPACE, unfinished=kept)
    rows = list(csv.DictReader(path.open(encoding="utf-8", newline="")))
    assert [row["image"] for row in rows] == [one.image for one in ANSWERS]


def test_half_a_part_counts_for_nothing_and_a_plan_alone_begins(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    with open_unfinished(path, {"model": "d1"}) as begun:
        (begun.folder / "part.csv.partial").write_text("image,labels,err")
    with open_unfinished(path, {"model": "d1"}, is_resumed=True) as kept:
        assert kept.done == set()
        save_answers(ANSWERS, path, SPACE, unfinished=kept)
    assert len(list(csv.reader(path.open(encoding="utf-8", newline="")))) == 5
    with open_unfinished(path, {}, is_resumed=True) as fresh:
        assert fresh.done == set(), "nothing is left of a run that has ended"


def test_answers_of_another_run_are_not_mixed_in(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    with open_unfinished(path, {"model": "d1", "images": ["a/"]}) as kept:
        kept.add(0, lambda place: place.write_text("image,labels,error\na.jpg,,\n"))
    problem = (
        r"are of another run: model was 'd1' and is 'd2', images was \['a/'\] and is \['b/'\]\. Repeat the command"
    )
    with (
        pytest.raises(ConfigError, match=problem),
        open_unfinished(path, {"model": "d2", "images": ["b/"]}, is_resumed=True),
    ):
        pass
    with open_unfinished(path, {"model": "d1", "images": ["a/"]}, is_resumed=True) as kept:
        assert kept.done == {"a.jpg"}


def test_a_parquet_file_of_somebody_else_holds_no_answers_even_without_a_row(tmp_path: Path) -> None:
    path = tmp_path / "answers.parquet"
    pq.write_table(pa.table({"image": pa.array([], pa.string()), "price": pa.array([], pa.float32())}), path)
    with pytest.raises(DataError, match=r"answers\.parquet: there is a file that holds no answers\."):
        check_replaceable(path)


def test_damaged_parts_and_plans_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with open_unfinished(path, {"model": "d1"}) as kept:
        kept.add(0, lambda place: place.write_text("{}\nnot JSON\n"))
    part = kept.folder / "000000000000.jsonl"
    with pytest.raises(DataError, match=r"000000000000\.jsonl: there is a file that holds no answers\."):
        save_answers(ANSWERS, path, SPACE)
    part.write_text(json.dumps({"image": "a.jpg", "labels": []}) + "\n")
    (kept.folder / "run.json").write_text("{")
    with (
        pytest.raises(ConfigError, match="are of another run: model was None and is 'd1'"),
        open_unfinished(path, {"model": "d1"}, is_resumed=True),
    ):
        pass
    assert part.exists()


def test_two_runs_never_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    with (
        open_unfinished(path, {}) as first,
        pytest.raises(RunError, match="another run works here"),
        open_unfinished(path, {}, is_resumed=True),
    ):
        pass
    assert not first.folder.joinpath("run.lock").exists()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "answers.csv.partial"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match=r"not a folder of unfinished answers: it holds letter\.txt"):
        save_answers(ANSWERS, tmp_path / "answers.csv", SPACE)
    assert (folder / "letter.txt").read_text() == "dear"


def test_a_full_disk_is_one_sentence_and_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("the older one")

    def fail(*_: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(RunError, match=r"answers\.csv: cannot be written \(No space left on device\)\. Free space or"):
        save_answers(ANSWERS, path, SPACE)
    assert path.read_text() == "the older one"
    assert [file.name for file in tmp_path.iterdir()] == [path.name], "nothing to go on from is left"


@pytest.mark.parametrize("name", ["answers.xlsx", "answers"])
def test_an_extension_that_no_writer_has_is_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown kind of file, got '.*', expected \.csv, \.jsonl, \.parquet\.$"):
        save_answers(ANSWERS, tmp_path / name, SPACE)
    assert list(tmp_path.iterdir()) == []


def test_parquet_writes_more_answers_than_fit_in_one_part(tmp_path: Path) -> None:
    path = tmp_path / "answers.parquet"
    answers = (answer(f"{row}.jpg", (), 0.5, 0.5, 0.5) for row in range(5000))
    save_answers(answers, path, SPACE)
    assert pq.read_table(path).column("image").to_pylist() == [f"{row}.jpg" for row in range(5000)]
    assert pq.ParquetFile(path).metadata.num_row_groups == 5
