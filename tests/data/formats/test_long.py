"""Long tables: rows of one image brought together, with and without a column of values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from manylabel.data.annotations import Annotations
from manylabel.data.formats.detect import load_data
from manylabel.errors import DataError

Write = Callable[..., Path]
Read = Callable[[Annotations], dict[str, dict[str, int]]]

PLAIN = "photo,tag,camera\na.jpg,dog,left\na.jpg,beach,left\nb.jpg,dog,right\nc.jpg,,right\n"
VALUES = """image;label;value
a.jpg;dog;1
a.jpg;sun;0
b.jpg;dog;
b.jpg;sun;1
c.jpg;sun;1
c.jpg;sun;0
"""


def test_a_row_per_label_is_found_and_what_no_row_mentions_is_absent(write_table: Write, read_cells: Read) -> None:
    loaded = load_data(write_table(PLAIN))
    assert loaded.layout.name == "long"
    assert loaded.layout.evidence[-1] == (
        "labels: one per row in column 'tag'; 1 of 3 images stand in several rows with different labels"
    )
    assert read_cells(loaded.annotations) == {
        "a.jpg": {"beach": 1, "dog": 1},
        "b.jpg": {"beach": 0, "dog": 1},
        "c.jpg": {"beach": 0, "dog": 0},
    }
    assert [record.extras for record in loaded.annotations.records] == [
        {"camera": "left"}, {"camera": "right"}, {"camera": "right"}
    ]  # fmt: skip
    assert loaded.annotations.findings == ()


def test_values_make_three_states_and_rows_that_contradict_make_unknown(write_table: Write, read_cells: Read) -> None:
    loaded = load_data(write_table(VALUES))
    assert loaded.layout.evidence[-1].endswith("; column 'value' says whether it is present")
    assert read_cells(loaded.annotations) == {
        "a.jpg": {"dog": 1, "sun": 0},
        "b.jpg": {"dog": -1, "sun": 1},
        "c.jpg": {"dog": -1, "sun": -1},
    }
    (finding,) = loaded.annotations.findings
    assert (finding.kind, finding.rows) == ("contradicting-rows", ("c.jpg",))
    assert finding.message == ("Images with a label that is 1 in one row and 0 in another: c.jpg. It is unknown there.")


def test_values_that_are_no_state_are_listed_with_their_line(write_table: Write) -> None:
    with pytest.raises(DataError, match=r"line 2: column 'value' holds no state, got '0\.4', expected 1, 0"):
        load_data(write_table("image,label,value\na.jpg,dog,0.4\na.jpg,sun,1\n"))
    soft = load_data(write_table("image,label,value\na.jpg,dog,0.4\na.jpg,sun,1\n"), soft=(0.4, 0.5)).annotations
    assert soft.labels_of(0) == ["sun"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("image,labels\na.jpg,dog\nb.jpg,sun\n", id="every image once"),
        pytest.param("image,labels\na.jpg,dog|sun\na.jpg,sun\n", id="several labels in a cell"),
        pytest.param("image,labels\na.jpg,dog\na.jpg,dog\n", id="a row that stands twice"),
    ],
)
def test_other_tables_are_not_long(write_table: Write, text: str) -> None:
    assert load_data(write_table(text)).layout.name == "delimited"


def test_the_layout_may_be_asked_for(write_table: Write) -> None:
    loaded = load_data(write_table("image,label\na.jpg,dog\nb.jpg,sun\n"), layout="long")
    assert loaded.annotations.labels_of(1) == ["sun"]


def test_how_many_values_a_policy_decided_is_told(write_table: Write, read_cells: Read) -> None:
    path = write_table("image,label,value\na.jpg,dog,-1\na.jpg,sun,1\nb.jpg,dog,\nb.jpg,sun,0\n")
    table = load_data(path, uncertain="present", blank="absent").annotations
    assert read_cells(table) == {"a.jpg": {"dog": 1, "sun": 1}, "b.jpg": {"dog": 0, "sun": 0}}
    assert [(finding.kind, finding.message) for finding in table.findings] == [
        ("cells-decided", "1 empty cells were read as absent (--blank)."),
        ("cells-decided", "1 cells of -1 were read as present (--uncertain)."),
    ]


def test_of_many_bad_rows_the_first_are_told_by_their_line(write_table: Write) -> None:
    path = write_table("image,label\n" + "a.jpg,dog\na.jpg,sun\n" + "".join(f"../{n}.jpg,dog\n" for n in range(10)))
    with pytest.raises(DataError) as error:
        load_data(path)
    lines = str(error.value).splitlines()
    assert lines[0].startswith(f"{path} line 4: image '../0.jpg': it lies outside the folder of the images")
    assert lines[-1] == "... and 2 more like this."


def test_a_table_without_any_label_is_refused(write_table: Write) -> None:
    path = write_table("image,label\na.jpg,\nb.jpg,\n")
    with pytest.raises(DataError) as error:
        load_data(path, layout="long")
    assert str(error.value) == f"{path}: no row has a label, expected at least one that does."
