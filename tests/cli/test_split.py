from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from manylabel.cli.main import run
from manylabel.cli.split import build_share_tables, parse_parts
from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.errors import ConfigError
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return a table of 20 images, two per film, with a label on every second one."""
    lines = ["file,labels,film"]
    for row in range(20):
        Image.new("L", (1, 1), row).save(tmp_path / f"{row:02d}.png")
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


@pytest.fixture
def grown(table: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a table that was split into 14, 3 and 3 images, and then got 20 images more."""
    out = table.with_name("split.csv")
    assert call(monkeypatch, "split", table, out, "--quiet") == 0
    rows = read_rows(out)
    for row in range(20, 40):
        Image.new("L", (1, 1), row).save(table.with_name(f"{row}.png"))
        rows.append({"image": f"{row}.png", "labels": "dog|sun" if row % 2 else "sun"})
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return out


def test_rows_that_are_added_later_leave_every_part_as_it_was(
    grown: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    again = grown.with_name("again.csv")
    assert call(monkeypatch, "split", grown, again) == 0
    before, after = ({row["image"]: row["part"] for row in read_rows(path)} for path in (grown, again))
    assert {image: part for image, part in before.items() if part}.items() <= after.items()
    assert Counter(after.values()) == {"train": 28, "val": 6, "test": 6}
    assert "20 images had a part already, and keep it; 20 were placed.\n" in capsys.readouterr().out


def test_a_fresh_split_forgets_the_parts(
    grown: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    again = grown.with_name("again.csv")
    assert call(monkeypatch, "split", grown, again, "--fresh", "--seed", 5) == 0
    before, after = ({row["image"]: row["part"] for row in read_rows(path)} for path in (grown, again))
    assert not {image: part for image, part in before.items() if part}.items() <= after.items()
    assert "keep" not in capsys.readouterr().out


def test_a_table_that_is_split_already_is_written_as_it_is(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    once, twice = table.with_name("once.csv"), table.with_name("twice.csv")
    call(monkeypatch, "split", table, once, "--quiet")
    assert call(monkeypatch, "split", once, twice, "--seed", 9) == 0
    assert twice.read_bytes() == once.read_bytes()
    assert "All 20 images had a part already, and keep it. --fresh divides anew.\n" in capsys.readouterr().out


def test_other_parts_than_those_of_the_table_are_refused(
    grown: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "split", grown, grown.with_name("folds.csv"), "--folds", 5) == 2
    assert capsys.readouterr().err == (
        f"Error: {grown}: images are in parts that are not asked for: test, train, val, expected fold0, fold1, fold2, "
        "fold3, fold4. Name every part in --parts, give the --folds it was made with, or divide anew with --fresh.\n"
    )


def test_one_turn_of_a_cross_validation_is_a_table_of_train_and_test(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folds = table.with_name("folds.csv")
    assert call(monkeypatch, "split", table, folds, "--folds", 5, "--quiet") == 0
    for fold in range(5):
        turn = table.with_name(f"turn{fold}.csv")
        assert call(monkeypatch, "split", folds, turn, "--folds", 5, "--fold", fold) == 0
        tested = {row["image"] for row in read_rows(turn) if row["part"] == "test"}
        assert tested == {row["image"] for row in read_rows(folds) if row["part"] == f"fold{fold}"}
        assert Counter(row["part"] for row in read_rows(turn)) == {"train": 16, "test": 4}
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines.count("sun 16 of 16.0 4 of 4.0") == 5


def test_a_fold_without_folds_is_refused(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "split", table, table.with_name("out.csv"), "--fold", 1) == 2
    assert capsys.readouterr().err == "Error: --fold: one fold of how many, got 1. Give --folds too.\n"


def test_missing_images_and_absent_labels_are_told(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table.write_text(
        table.read_text(encoding="utf-8").replace("00.png,sun", "00.png,cow") + "\nnone.png,sun,\n", encoding="utf-8"
    )
    assert call(monkeypatch, "split", table, table.with_name("split.csv")) == 0
    lines = capsys.readouterr().out.splitlines()
    missing = next(line for line in lines if line.startswith("Missing: "))
    assert missing.startswith(f"Missing: 1 of 21 images does not exist below {table.parent}: none.png.")
    assert any(
        line.startswith("Labels of fewer images than there are parts, so absent from some: cow (1, none in ")
        for line in lines
    )


@pytest.fixture
def copied(table: Path) -> Path:
    """Return the table with images 0 to 3 equal, and 4 a picture of which 5 is a smaller and 6 a mirrored copy."""
    for row in range(1, 4):
        (table.parent / f"{row:02d}.png").write_bytes((table.parent / "00.png").read_bytes())
    coarse = np.random.default_rng(0).integers(0, 255, (5, 5), np.uint8)
    picture = Image.fromarray(coarse).resize((200, 200), Image.Resampling.BICUBIC)
    picture.save(table.parent / "04.png")
    picture.resize((120, 120)).save(table.parent / "05.png")
    picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(table.parent / "06.png")
    return table


@pytest.mark.parametrize("seed", range(3))
def test_copies_of_one_picture_stay_together(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    assert call(monkeypatch, "split", copied, copied.with_name("out.csv"), "--seed", seed) == 0
    rows = read_rows(copied.with_name("out.csv"))
    assert len({row["part"] for row in rows[:4]}) == 1
    assert len({row["part"] for row in rows[4:7]}) == 1
    assert [row["group"] for row in rows] == ["like 00.png"] * 4 + ["like 04.png"] * 3 + [""] * 13
    assert "Copies of one picture stayed together: images 7, pictures 2.\n" in capsys.readouterr().out


def test_copies_are_not_looked_for_if_they_are_to_be_ignored(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "split", copied, copied.with_name("out.csv"), "--near-duplicates", "ignore") == 0
    rows = read_rows(copied.with_name("out.csv"))
    assert len({row["part"] for row in rows[:4]}) > 1
    assert "group" not in rows[0]
    assert "Copies" not in capsys.readouterr().out


def test_new_copies_of_images_in_two_parts_are_refused_and_a_table_without_new_images_is_not(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = ["train", "test", "val"]
    lines = ["image,labels,part", *(f"{row:02d}.png,sun,{parts[row % 3]}" for row in range(20))]
    copied.write_text("\n".join(lines), encoding="utf-8")
    assert call(monkeypatch, "split", copied, copied.with_name("same.csv"), "--quiet") == 0
    assert [row["part"] for row in read_rows(copied.with_name("same.csv"))] == [parts[row % 3] for row in range(20)]
    copied.write_text("\n".join(lines)[: -len("test")], encoding="utf-8")
    assert call(monkeypatch, "split", copied, copied.with_name("more.csv"), "--quiet") == 2
    assert capsys.readouterr().err == (
        f"Error: {copied}: 2 groups of images sit in several parts: like 00.png, like 04.png, "
        "expected relatives in one part. Correct the part column, or divide anew with --fresh, "
        "or let duplicates part with --near-duplicates ignore.\n"
    )


def test_images_that_are_all_one_picture_cannot_be_divided(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for row in range(20):
        Image.new("L", (1, 1)).save(table.parent / f"{row:02d}.png")
    assert call(monkeypatch, "split", table, table.with_name("out.csv"), "--quiet") == 2
    assert capsys.readouterr().err == (
        f"Error: {table}: 1 group of images cannot be divided into 3 parts, expected at least 3. "
        "Add images or ask for fewer parts, or let duplicates part with --near-duplicates ignore.\n"
    )


def test_a_choice_on_duplicates_that_does_not_exist_is_refused(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "split", table, table.with_name("out.csv"), "--near-duplicates", "ignor") == 2
    assert capsys.readouterr().err == (
        "Error: --near-duplicates: unknown choice 'ignor' (did you mean 'ignore'?), expected together, ignore.\n"
    )


def print_table(tables: dict[str, Annotations], shares: dict[str, float]) -> list[str]:
    console = Console(width=80, file=io.StringIO())
    for table in build_share_tables(tables, shares):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def build_large(num_parts: int) -> dict[str, Annotations]:
    """Return parts of 123,456 images that all have a label with a long name."""
    records = tuple(ImageRecord(str(row)) for row in range(123_456))
    space = LabelSpace(("sun", "a long name of a label that has to be folded"))
    part = Annotations(records, Targets.from_dense(np.ones((123_456, 2), bool)), space)
    return {f"part {number}": part for number in range(num_parts)}


@pytest.mark.parametrize("num_parts", [2, 3, 5])
def test_the_table_of_parts_fits_into_80_columns(num_parts: int) -> None:
    tables = build_large(num_parts)
    shares = dict.fromkeys(tables, 0.9 / (num_parts - 1)) | {"part 0": 0.1}
    lines = print_table(tables, shares)
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("sun") for line in lines) == (2 if num_parts == 5 else 1)
    assert "".join(lines).count("123,456 of ") == 2 * num_parts
    assert "".join(lines).count("123,456 images") == num_parts


def test_many_equal_parts_are_shown_by_the_fewest_and_the_most() -> None:
    table = build_large(1)["part 0"]
    tables = {f"fold{fold}": table.select(range(10 + fold)) for fold in range(10)}
    assert [line.split() for line in print_table(tables, dict.fromkeys(tables, 0.1))] == [
        ["label", "in", "all", "fewest", "of", "10", "most"],
        ["(got", "of", "wanted)", "145", "images", "10", "images", "19", "images"],
        ["sun", "145", "10", "of", "14.5", "19", "of", "14.5"],
        ["a", "long", "name", "of", "a", "label", "that", "145", "10", "of", "14.5", "19", "of", "14.5"],
        ["has", "to", "be", "folded"],
    ]


def test_forty_labels_are_shown_and_the_others_counted() -> None:
    table = Annotations(
        (ImageRecord("a"), ImageRecord("b")),
        Targets.from_dense(np.ones((2, 50), bool)),
        LabelSpace(tuple(f"label {column:02d}" for column in range(50))),
    )
    lines = print_table({"1": table.select([0]), "2": table.select([1])}, {"1": 0.5, "2": 0.5})
    assert sum(line.startswith("label ") for line in lines[1:]) == 40
    assert lines[-1].strip() == "... and 10 more labels."
