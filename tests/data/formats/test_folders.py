from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from manylabel.data.annotations import Annotations
from manylabel.data.formats.folders import load_folders
from manylabel.data.formats.format import ReadOptions
from manylabel.data.formats.source import Source
from manylabel.errors import DataError

Write = Callable[..., Path]
Read = Callable[[Annotations], dict[str, dict[str, int]]]


def test_the_folder_of_an_image_is_its_label(add_images: Write, read_cells: Read) -> None:
    folder = add_images("sun/1.png", "dog/deep/er/2.png", "dog/3.png")
    (folder / "empty").mkdir()
    (folder / "dog" / "notes.md").write_text("", encoding="utf-8")
    table = load_folders(Source(folder), ReadOptions())
    assert read_cells(table) == {
        "dog/3.png": {"dog": 1, "sun": 0},
        "dog/deep/er/2.png": {"dog": 1, "sun": 0},
        "sun/1.png": {"dog": 0, "sun": 1},
    }
    assert all(Path(record.path).is_file() for record in table.records)
    assert table.findings == ()


def test_equal_files_of_one_name_are_one_image_with_several_labels(add_images: Write, read_cells: Read) -> None:
    folder = add_images("sun/1.png", "dog/1.png", "air/x/1.png")
    assert read_cells(load_folders(Source(folder), ReadOptions())) == {
        "air/x/1.png": {"air": 1, "dog": 0, "sun": 0},
        "dog/1.png": {"air": 0, "dog": 1, "sun": 1},
    }


def test_other_files_of_one_name_and_equal_files_of_other_names_stay_apart(add_images: Write, read_cells: Read) -> None:
    add_images("sun/1.png", "sun/2.png", number=1)
    folder = add_images("dog/1.png", number=2)
    assert read_cells(load_folders(Source(folder), ReadOptions())) == {
        "dog/1.png": {"dog": 1, "sun": 0},
        "sun/1.png": {"dog": 0, "sun": 1},
        "sun/2.png": {"dog": 0, "sun": 1},
    }


def test_folders_called_train_val_and_test_are_the_parts(add_images: Write, read_cells: Read) -> None:
    folder = add_images("Train/dog/1.png", "Train/sun/1.png", "valid/dog/1.png", "test/sun/2.png")
    table = load_folders(Source(folder), ReadOptions())
    assert {record.id: record.part for record in table.records} == {
        "Train/dog/1.png": "train",
        "test/sun/2.png": "test",
        "valid/dog/1.png": "val",
    }
    assert read_cells(table)["Train/dog/1.png"] == {"dog": 1, "sun": 1}


def test_a_label_may_be_called_train(add_images: Write) -> None:
    assert load_folders(Source(add_images("train/1.png", "bus/2.png")), ReadOptions()).label_space.names == (
        "bus",
        "train",
    )


def test_an_image_outside_every_label_folder_is_unknown(add_images: Write, read_cells: Read) -> None:
    add_images("2.png", number=2)
    table = load_folders(Source(add_images("dog/1.png", "sun/3.png", "3.png")), ReadOptions())
    assert read_cells(table) == {
        "2.png": {"dog": -1, "sun": -1},
        "3.png": {"dog": 0, "sun": 1},
        "dog/1.png": {"dog": 1, "sun": 0},
    }
    (finding,) = table.findings
    assert (finding.severity, finding.kind, finding.rows) == ("warning", "outside-label-folder", ("2.png",))
    assert finding.message == "Images outside every label folder: 2.png. Their labels are unknown."


@pytest.mark.parametrize("names", [("1.png", "2.png"), ("train/1.png", "val/2.png")], ids=["flat", "only parts"])
def test_images_without_label_folders_are_refused(add_images: Write, names: tuple[str, ...]) -> None:
    folder = add_images(*names)
    with pytest.raises(DataError) as error:
        load_folders(Source(folder), ReadOptions())
    assert str(error.value) == (
        f"{folder}: the images do not lie in folders named after labels. "
        "Give a table of labels, with this folder as --images."
    )


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        load_folders(Source(tmp_path), ReadOptions())
    assert str(error.value) == f"{tmp_path}: there is no image in this folder, expected folders named after labels."


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_and_broken_links_of_one_name_are_images_of_their_own(add_images: Write) -> None:
    folder = add_images("dog/1.png", "sun/2.png")
    os.mkfifo(folder / "sun" / "1.png")
    (folder / "dog" / "2.png").symlink_to(folder / "nowhere.png")
    assert load_folders(Source(folder), ReadOptions()).images == ("dog/1.png", "dog/2.png", "sun/1.png", "sun/2.png")
