"""Pascal VOC: files of objects, lists per label, parts, and every fault said where it is."""

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
from manylabel.data.regions import Mask, Region
from manylabel.errors import DataError, ManylabelError
from manylabel.testing.formats import check_format

Write = Callable[..., Path]
Read = Callable[[Annotations], dict[str, dict[str, int]]]

# Laid out as the files of the 2007 challenge are.
GOLDEN = """<annotation>
\t<folder>VOC2007</folder>
\t<filename>000001.jpg</filename>
\t<source><database>The VOC2007 Database</database></source>
\t<size>
\t\t<width>353</width>
\t\t<height>500</height>
\t\t<depth>3</depth>
\t</size>
\t<segmented>0</segmented>
\t<object>
\t\t<name>dog</name>
\t\t<pose>Left</pose>
\t\t<truncated>1</truncated>
\t\t<difficult>0</difficult>
\t\t<bndbox>
\t\t\t<xmin>48</xmin>
\t\t\t<ymin>240</ymin>
\t\t\t<xmax>195</xmax>
\t\t\t<ymax>371</ymax>
\t\t</bndbox>
\t</object>
\t<object>
\t\t<name>person</name>
\t\t<difficult>1</difficult>
\t\t<bndbox><xmax>353</xmax><xmin>1</xmin><ymin>1</ymin><ymax>500</ymax></bndbox>
\t\t<part><name>head</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>
\t</object>
</annotation>
"""
EMPTY = "<annotation><filename>000002</filename></annotation>"
CAT = (
    "<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin>"
    "<xmax>2</xmax><ymax>2</ymax></bndbox></object></annotation>"
)


@pytest.fixture
def folder(tmp_path: Path, add_images: Write) -> Path:
    """A folder of VOC: three images, the first two in parts."""
    add_images(*(f"JPEGImages/00000{number}.jpg" for number in (1, 2, 3)))
    Image.new("L", (353, 500)).save(tmp_path / "JPEGImages" / "000001.jpg")
    main = tmp_path / "ImageSets" / "Main"
    main.mkdir(parents=True)
    for name, text in (("train.txt", "000001\n"), ("val.txt", "000002 \n"), ("trainval.txt", "000001\n000002\n")):
        (main / name).write_text(text, "utf-8")
    (main / "dog_train.txt").write_text("000001  0\n", "utf-8")
    (tmp_path / "Annotations").mkdir()
    for number, text in ((1, GOLDEN), (2, EMPTY), (3, CAT)):
        (tmp_path / "Annotations" / f"00000{number}.xml").write_text(text, "utf-8")
    return tmp_path


def test_label_sets_regions_parts_and_evidence(folder: Path, read_cells: Read) -> None:
    loaded = load_data(folder)
    assert (loaded.layout.name, loaded.layout.evidence) == ("voc", ("Pascal VOC: 3 files of objects",))
    table = loaded.annotations
    # The person is difficult and counts; the head is a part of the person and no label.
    assert read_cells(table) == {
        "JPEGImages/000001.jpg": {"cat": 0, "dog": 1, "person": 1},
        "JPEGImages/000002.jpg": {"cat": 0, "dog": 0, "person": 0},
        "JPEGImages/000003.jpg": {"cat": 1, "dog": 0, "person": 0},
    }
    assert [record.part for record in table.records] == ["train", "val", None]
    # Pixels count from 1 and the last is inside: columns 48 to 195 are 148 columns, 47 lie left of them.
    assert table.records[0].regions == (Region("dog", (47, 239, 148, 132)), Region("person", (0, 0, 353, 500)))


def test_one_file_and_files_beside_their_images_are_read(folder: Path, add_images: Write) -> None:
    one = load_data(folder / "Annotations" / "000003.xml", folder / "JPEGImages")
    assert (one.layout.name, one.annotations.images) == ("voc", ("000003.jpg",))
    other = add_images("roboflow/train/a.jpg", "roboflow/valid/b.jpg") / "roboflow"
    (other / "train" / "a.xml").write_text(CAT, "utf-8")
    (other / "valid" / "b.xml").write_text(CAT.replace("cat", "dog"), "utf-8")
    table = load_data(other).annotations
    assert {record.id: record.part for record in table.records} == {"train/a.jpg": "train", "valid/b.jpg": "val"}


def test_lists_of_labels_say_present_absent_or_unknown(tmp_path: Path, add_images: Write, read_cells: Read) -> None:
    add_images("JPEGImages/a.jpg", "JPEGImages/b.jpg")
    main = tmp_path / "ImageSets" / "Main"
    main.mkdir(parents=True)
    (main / "dog_train.txt").write_text("a  1\n", "utf-8")
    (main / "dog_val.txt").write_text("b -1\n", "utf-8")
    (main / "sun_trainval.txt").write_text("a  0\n", "utf-8")
    loaded = load_data(tmp_path)
    assert loaded.layout.evidence == ("Pascal VOC: 3 lists of 2 labels (dog, sun)",)
    assert read_cells(loaded.annotations) == {
        "JPEGImages/a.jpg": {"dog": 1, "sun": -1},
        "JPEGImages/b.jpg": {"dog": 0, "sun": -1},
    }
    assert [record.part for record in loaded.annotations.records] == ["train", "val"]
    (main / "dog_trainval.txt").write_text("a -1\nb maybe\n", "utf-8")
    with pytest.raises(DataError) as error:
        load_data(tmp_path)
    assert "dog_trainval.txt line 2: not an image and its state, got 'b maybe'" in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param("<name>dog</name>", "", "000001.xml line 11: an object without a name", id="no name"),
        pytest.param(
            ">195<", ">4<", "000001.xml line 16: bndbox is no box, got '48, 240, 4, 371'", id="a box inside out"
        ),
        pytest.param(">195<", ">nan<", "bndbox is no box", id="no number"),
        pytest.param(">48<", "><", "bndbox is no box", id="an empty corner"),
        pytest.param(
            "<width>353</width>", "<width>40</width>", "line 16: the box lies outside the image", id="outside"
        ),
        pytest.param("</object>", "", "not XML (mismatched tag)", id="cut off"),
        pytest.param("<annotation>\n", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>', "document types", id="an entity"),
        pytest.param("000001.jpg", "../../etc/passwd.jpg", "", id="a name that leads out"),
    ],
)
def test_a_fault_is_said_where_it_is(folder: Path, old: str, new: str, message: str) -> None:
    (folder / "Annotations" / "000001.xml").write_text(GOLDEN.replace(old, new), "utf-8")
    if not message:  # the file's own name finds the image
        assert load_data(folder, layout="voc").annotations.images[0] == "JPEGImages/000001.jpg"
        return
    with pytest.raises(DataError) as error:
        load_data(folder, layout="voc")
    assert message in str(error.value)


def test_a_file_of_something_else_is_said(folder: Path) -> None:
    (folder / "Annotations" / "pom.xml").write_text("<project/>", "utf-8")
    with pytest.raises(DataError, match=r"pom\.xml line 1: no file of objects, got 'project'"):
        load_data(folder)


def test_what_is_written_is_read_again(folder: Path, tmp_path: Path) -> None:
    table = load_data(folder).annotations
    assert save_annotations(table, tmp_path / "again", "voc") == ()
    assert find_differences(table, load_data(tmp_path / "again", folder).annotations) == {}


def test_random_tables_come_back(tmp_path: Path) -> None:
    assert check_format(FORMATS["voc"], tmp_path, num_tables=15) >= 9


def test_what_voc_cannot_hold_is_refused_or_said(folder: Path, tmp_path: Path) -> None:
    table = load_data(folder).annotations
    bare = replace(table, records=(replace(table.records[0], regions=()), *table.records[1:]))
    with pytest.raises(DataError, match="VOC needs a box for each label: dog, person"):
        save_annotations(bare, tmp_path / "bare", "voc")
    mask = Region("cat", mask=Mask.from_pixels(np.array([[0, 1], [0, 1]], bool)))
    masked = replace(table, records=(*table.records[:2], replace(table.records[2], regions=(mask,))))
    assert save_annotations(masked, tmp_path / "masked", "voc") == ("regions of 1 images: JPEGImages/000003.jpg",)
    again = load_data(tmp_path / "masked", folder).annotations
    assert again.records[2].regions == (Region("cat", (1, 0, 1, 2)),)


def test_changed_files_are_read_or_refused_with_a_message(folder: Path) -> None:
    rng = np.random.default_rng(0)
    pieces = ["", "<", "</object>", "&", "\x00", "1e999", "-9", "<!--", "é", "../", "x" * 5000]
    for _ in range(300):
        start = int(rng.integers(0, len(GOLDEN)))
        piece = pieces[rng.integers(len(pieces))]
        changed = GOLDEN[:start] + piece + GOLDEN[start + int(rng.integers(0, 9)) :]
        (folder / "Annotations" / "000001.xml").write_text(changed, "utf-8")
        try:
            load_data(folder, layout="voc")
        except ManylabelError as error:
            assert str(error)  # noqa: PT017 - any other exception is the fault
