"""YOLO: boxes and polygons in pixels, parts and names from data.yaml, and every fault said where it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manylabel.data.annotations import Annotations
from manylabel.data.comparison import find_differences
from manylabel.data.formats.detect import FORMATS, load_data
from manylabel.data.formats.saving import save_annotations
from manylabel.data.formats.yolo import read_settings
from manylabel.data.regions import Region
from manylabel.errors import DataError, ManylabelError
from manylabel.testing.formats import check_format

Read = Callable[[Annotations], dict[str, dict[str, int]]]

# Laid out as the files that come with Ultralytics' code are.
SETTINGS = """# a comment
path: ../datasets/tiny  # dataset root dir
train: images/train # train images
val: images/val
test: # test images (optional)

# Classes
names:
  0: person
  1: dog
  2: "traffic light"

download: |
  [print(x) for x in "
  0: no
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of YOLO with images of 200 x 100 pixels: a box and a polygon, an empty file, none."""
    for name in ("train/a", "train/b", "val/c"):
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (200, 100)).save(path)
    labels = tmp_path / "labels" / "train"
    labels.mkdir(parents=True)
    (labels / "a.txt").write_text("2 0.5 0.5 0.1 0.2\n0 0.1 0.1 0.2 0.1 0.2 0.3\n\n2 0.25 0.5 0.5 1\n", "utf-8")
    (labels / "b.txt").write_text("", "utf-8")
    (tmp_path / "data.yaml").write_text(SETTINGS, "utf-8")
    return tmp_path


def test_label_sets_regions_parts_and_evidence(folder: Path, read_cells: Read) -> None:
    loaded = load_data(folder)
    assert (loaded.layout.name, loaded.layout.evidence) == ("yolo", ("YOLO: 3 names in data.yaml",))
    table = loaded.annotations
    assert table.label_space.names == ("person", "dog", "traffic light")
    assert read_cells(table) == {
        "images/train/a.png": {"person": 1, "dog": 0, "traffic light": 1},
        "images/train/b.png": {"person": 0, "dog": 0, "traffic light": 0},
        "images/val/c.png": {"person": 0, "dog": 0, "traffic light": 0},
    }
    assert [record.part for record in table.records] == ["train", "train", "val"]
    assert table.records[0].regions == (
        Region("traffic light", (90, 40, 20, 20)),
        Region("person", polygons_px=((20, 10, 40, 10, 40, 30),)),
        Region("traffic light", (0, 0, 100, 100)),
    )


def test_data_yaml_may_be_named_and_images_may_be_listed(folder: Path) -> None:
    (folder / "mine.yaml").write_text("names: [person, dog, light]\nval: list.txt\n", "utf-8")
    (folder / "list.txt").write_text("./images/train/a.png\n", "utf-8")
    table = load_data(folder / "mine.yaml").annotations
    assert (table.images, table.records[0].part) == (("images/train/a.png",), "val")


def test_parts_of_roboflow_and_no_settings_at_all(folder: Path) -> None:
    (folder / "data.yaml").write_text("train: ../images/train\nvalid: ../images/val\nnames: ['x', 'y', 'z']\n", "utf-8")
    assert [record.part for record in load_data(folder).annotations.records] == ["train", "train", "val"]
    (folder / "data.yaml").unlink()
    (folder / "classes.txt").write_text("x\ny\nz\n", "utf-8")
    loaded = load_data(folder)
    assert loaded.layout.evidence == ("YOLO: 3 names in classes.txt",)
    assert loaded.annotations.labels_of(0) == ["x", "z"]
    assert [record.part for record in loaded.annotations.records] == ["train", "train", "val"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("names: [dog, 'it''s', \"a, b\"]", ["dog", "it's", "a, b"], id="a list in a line"),
        pytest.param("names:\n- dog\n- sun # bright\nnc: 2", ["dog", "sun"], id="a list in lines"),
        pytest.param("names: {1: sun, 0: dog}", ["dog", "sun"], id="a mapping in a line"),
        pytest.param("names: ['dog',\n  'sun',\n]", ["dog", "sun"], id="a list over lines"),
        pytest.param('names:\n  0: "na\\u00efve: x"\n  1: C#', ["naïve: x", "C#"], id="signs in names"),
    ],
)
def test_names_are_read_as_people_write_them(text: str, names: list[str]) -> None:
    assert list(read_settings(text).names.values()) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("nc: 2", "there are no names of labels, expected names: [dog, sun]", id="none"),
        pytest.param("names: []", "there are no names of labels", id="an empty list"),
        pytest.param("names: {0: dog, 2: sun}", "the numbers of the labels have a gap, got [0, 2]", id="a gap"),
        pytest.param("names: [dog, dog]", "a name or its number stands twice, got 'dog'", id="twice"),
    ],
)
def test_names_that_are_none_are_refused(text: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        read_settings(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("3 0.5 0.5 0.1 0.1", "a.txt line 1: no label has this number, got '3', expected 0 to 2", id="3"),
        pytest.param("dog 0.5 0.5 0.1 0.1", "no label has this number", id="a name"),
        pytest.param("1 0.5 0.5 0.1", "line 1: neither a box nor a polygon", id="three numbers"),
        pytest.param("1 0.5 0.5 x 1", "neither a box nor a polygon", id="a word"),
        pytest.param("1 90 40 20 20", "coordinates outside the image", id="pixels"),
        pytest.param("1 nan 0 0 0", "coordinates outside the image", id="no number"),
    ],
)
def test_a_fault_is_said_where_it_is(folder: Path, line: str, message: str) -> None:
    (folder / "labels" / "train" / "a.txt").write_text(line, "utf-8")
    with pytest.raises(DataError) as error:
        load_data(folder)
    assert message in str(error.value)


@pytest.mark.parametrize("entry", ["../../etc", "nowhere", "/etc", "images/../.."])
def test_a_part_that_is_nowhere_below_the_folder_is_refused(folder: Path, entry: str) -> None:
    (folder / "data.yaml").write_text(f"train: {entry}\nnames: [x, y, z]\n", "utf-8")
    with pytest.raises(DataError) as error:
        load_data(folder)
    assert f"there is no folder and no list {entry!r} of images" in str(error.value)


def test_what_is_written_is_read_again(folder: Path, tmp_path: Path) -> None:
    table = load_data(folder).annotations
    assert save_annotations(table, tmp_path / "again", "yolo") == ()
    assert find_differences(table, load_data(tmp_path / "again", folder).annotations) == {}


def test_random_tables_come_back(tmp_path: Path) -> None:
    assert check_format(FORMATS["yolo"], tmp_path, num_tables=15) >= 9


def test_what_yolo_cannot_hold_is_refused(folder: Path, tmp_path: Path) -> None:
    table = load_data(folder).annotations
    first, *others = table.records
    for changed, message in (
        (replace(first, regions=()), "YOLO needs a box for each label: person, traffic light"),
        (replace(first, part="fold 1"), "YOLO has no such part, got 'fold 1'"),
        (replace(first, path=""), "without its size no region can be written"),
        (replace(first, regions=(*first.regions, Region("person", (500, 0, 9, 9)))), "lies outside it"),
    ):
        with pytest.raises(DataError) as error:
            save_annotations(replace(table, records=(changed, *others)), tmp_path / "out", "yolo")
        assert message in str(error.value)


def test_changed_files_are_read_or_refused_with_a_message(folder: Path) -> None:
    rng = np.random.default_rng(0)
    pieces = ["", "[", "{", "'", '"\\', "\n", ":", "1e999", "-9", "..", "9" * 40]
    targets = (folder / "data.yaml", folder / "labels" / "train" / "a.txt")
    texts = [path.read_text("utf-8") for path in targets]
    for turn in range(300):
        path, text = targets[turn % 2], texts[turn % 2]
        start = int(rng.integers(0, len(text)))
        piece = pieces[rng.integers(len(pieces))]
        path.write_text(text[:start] + piece + text[start + int(rng.integers(0, 9)) :], "utf-8")
        try:
            load_data(folder, layout="yolo")
        except ManylabelError as error:
            assert str(error)  # noqa: PT017 - any other exception is the fault
        path.write_text(text, "utf-8")
