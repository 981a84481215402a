from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from manylabel.cli.tables import Reading, load_parts
from manylabel.data.annotations import Annotations
from manylabel.errors import DataError


def write(folder: Path, name: str, parts: list[str] | None, first: int = 0, count: int = 20) -> str:
    lines = ["image,labels" + (",part" if parts is not None else "")]
    for row in range(count):
        image = f"{first + row:02d}.png"
        Image.new("L", (1, 1)).save(folder / image)
        lines.append(f"{image},{'dog|sun' if row % 2 else 'sun'}" + (f",{parts[row]}" if parts is not None else ""))
    (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return str(folder / name)


def sizes(parts: dict[str, Annotations]) -> dict[str, int]:
    return {name: len(part) for name, part in parts.items()}


def test_a_table_without_parts_is_split_and_the_user_is_told(tmp_path: Path) -> None:
    parts, sentence = load_parts(Reading(), write(tmp_path, "labels.csv", None), None, None, seed=0)
    assert sizes(parts) == {"train": 14, "val": 3, "test": 3}
    assert sentence == (
        "DATA has no part column: 70 % of the images train, 15 % choose epoch and thresholds, 15 % judge."
    )


def test_the_part_column_decides(tmp_path: Path) -> None:
    data = write(tmp_path, "labels.csv", ["train"] * 12 + ["val"] * 5 + ["test"] * 3)
    parts, sentence = load_parts(Reading(), data, None, None, seed=0)
    assert (sizes(parts), sentence) == ({"train": 12, "val": 5, "test": 3}, "")


def test_images_in_no_part_that_is_used_are_told_of(tmp_path: Path) -> None:
    data = write(tmp_path, "labels.csv", ["train"] * 12 + ["val"] * 4 + [""] * 3 + ["holdout"])
    parts, sentence = load_parts(Reading(), data, None, None, seed=0)
    assert sizes(parts) == {"train": 12, "val": 4}
    assert sentence == "Images of DATA that are in none of the parts used (train, val): 4."


def test_tables_that_are_named_win_over_the_part_column(tmp_path: Path) -> None:
    data = write(tmp_path, "labels.csv", ["train"] * 12 + ["val"] * 8)
    val = write(tmp_path, "val.csv", None, first=50, count=6)
    parts, sentence = load_parts(Reading(), data, val, None, seed=0)
    assert sizes(parts) == {"train": 12, "val": 6}
    assert parts["val"].images[0] == "50.png"
    assert sentence == "Images of DATA that are in none of the parts used (train): 8."


def test_with_tables_that_are_named_all_of_data_trains(tmp_path: Path) -> None:
    data = write(tmp_path, "labels.csv", None)
    test = write(tmp_path, "test.csv", None, first=50, count=6)
    parts, sentence = load_parts(Reading(), data, None, test, seed=0)
    assert (sizes(parts), sentence) == ({"train": 20, "test": 6}, "")


def test_parts_without_train_are_refused(tmp_path: Path) -> None:
    data = write(tmp_path, "labels.csv", ["fold0"] * 10 + ["fold1"] * 10)
    with pytest.raises(DataError) as error:
        load_parts(Reading(), data, None, None, seed=0)
    assert str(error.value) == (
        f"{data}: its parts are fold0, fold1, expected a part called train. Split it with 'manylabel split'; "
        "of folds, write one turn with --folds K --fold N."
    )


def test_how_to_read_holds_for_every_table(tmp_path: Path) -> None:
    data = write(tmp_path, "labels.csv", None)
    parts, _ = load_parts(Reading(label_column="labels", layout="delimited"), data, data, None, seed=0)
    assert parts["val"].label_space.names == ("dog", "sun")
    with pytest.raises(DataError, match="there is no column 'lables'"):
        load_parts(Reading(label_column="lables"), data, None, None, seed=0)
