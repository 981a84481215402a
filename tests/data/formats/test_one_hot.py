from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from manylabel.data.annotations import Annotations
from manylabel.data.formats.detect import load_annotations, load_data
from manylabel.errors import DataError

Write = Callable[..., Path]
Read = Callable[[Annotations], dict[str, dict[str, int]]]


@pytest.mark.parametrize(
    ("cell", "state"),
    [
        *[pytest.param(cell, 1, id=f"{cell} is present") for cell in ("1", "1.0", "true", "True", "TRUE", " 1 ")],
        *[pytest.param(cell, 0, id=f"{cell} is absent") for cell in ("0", "0.0", "false", "False")],
        *[
            pytest.param(cell, -1, id=f"{cell if cell else 'empty'} is unknown")
            for cell in ("", " ", "NaN", "nan", "-1", "-1.0", "?")
        ],
    ],
)
def test_every_way_to_write_a_state_is_read(write_table: Write, read_cells: Read, cell: str, state: int) -> None:
    path = write_table(f"image,dog,N/A\na.jpg,1,{cell}\nb.jpg,0,1\n")
    loaded = load_data(path)
    assert loaded.layout.name == "one-hot"
    assert read_cells(loaded.annotations) == {"a.jpg": {"dog": 1, "N/A": state}, "b.jpg": {"dog": 0, "N/A": 1}}
    assert not loaded.annotations.is_exhaustive


def test_the_order_of_the_columns_is_the_order_of_the_labels(write_table: Write) -> None:
    table = load_annotations(write_table("sun,image, New York ,air\n1,a.jpg,0,0\n0,b.jpg,1,1\n"))
    assert table.label_space.names == ("sun", "New York", "air")


def test_a_single_column_is_a_label(write_table: Write, read_cells: Read) -> None:
    assert read_cells(load_annotations(write_table("image,dog\na.jpg,1\nb.jpg,0\n"))) == {
        "a.jpg": {"dog": 1},
        "b.jpg": {"dog": 0},
    }


def test_columns_of_text_and_of_numbers_are_extras(write_table: Write) -> None:
    loaded = load_data(
        write_table("image,year,dog,note,faces,empty,part\na.jpg,1999,1,N/A,2,,train\nb.jpg,1,0,,0,,val\n")
    )
    assert loaded.annotations.label_space.names == ("dog",)
    assert loaded.annotations.records[0].extras == {"year": "1999", "note": "N/A", "faces": "2", "empty": ""}
    assert [record.part for record in loaded.annotations.records] == ["train", "val"]
    assert loaded.layout.evidence[-1] == "kept as extra columns: year, note, faces, empty"


def test_a_label_may_be_called_unknown(write_table: Write) -> None:
    table = load_annotations(write_table("image,dog,unknown\na.jpg,1,0\nb.jpg,0,1\n"))
    assert table.label_space.names == ("dog", "unknown")


def stray(num_rows: int, **cells: str) -> str:
    lines = ["image,dog,sun", ""]
    for row in range(num_rows):
        image = f"{'abcd'[row % 4]}.jpg"
        lines.append(f"{image},{cells.get(f'dog{row}', '1')},{cells.get(f'sun{row}', '0')}")
    return "\n".join(lines) + "\n"


def test_stray_cells_are_all_named_with_their_lines(write_table: Write) -> None:
    path = write_table(stray(40, dog9="yes", sun7="2", sun30=" x"))
    with pytest.raises(DataError) as error:
        load_annotations(path)
    expected = "expected 1, 0, or for unknown: empty, NaN, -1 or ?."
    assert str(error.value).splitlines() == [
        f"{path} line 10: column 'sun' holds neither 0 nor 1, got '2', {expected}",
        f"{path} line 12: column 'dog' holds neither 0 nor 1, got 'yes', {expected}",
        f"{path} line 33: column 'sun' holds neither 0 nor 1, got ' x', {expected}",
    ]


def test_a_column_with_much_else_in_it_is_an_extra_and_said_to_be_doubtful(write_table: Write) -> None:
    path = write_table("image,dog,sun\na.jpg,1,1\nb.jpg,0,maybe\nc.jpg,1,0\nd.jpg,0,1\n")
    table = load_annotations(path)
    assert table.label_space.names == ("dog",)
    (finding,) = table.findings
    assert (finding.severity, finding.kind, finding.rows) == ("warning", "doubtful-column", ("sun",))
    assert finding.message == (
        f"Column 'sun' holds 0 and 1 but also 'maybe' ({path} line 3): it was kept as an extra, not as a label."
    )


def test_a_table_without_any_present_cell_can_be_looked_at(write_table: Write, read_cells: Read) -> None:
    table = load_annotations(write_table("image,dog,sun\na.jpg,0,0\nb.jpg,0,-1\n"))
    assert read_cells(table) == {"a.jpg": {"dog": 0, "sun": 0}, "b.jpg": {"dog": 0, "sun": -1}}


def test_a_table_that_nobody_has_filled_in_says_so(write_table: Write) -> None:
    path = write_table("image,dog,sun,part\na.jpg,,,train\nb.jpg,, ,val\n")
    with pytest.raises(DataError) as error:
        load_annotations(path)
    assert str(error.value) == (
        f"{path}: nobody has labelled anything yet: every cell of dog, sun is empty, "
        "expected 1 where a label is present and 0 where it is absent."
    )


def test_a_table_said_to_be_one_hot_that_is_not_is_refused(write_table: Write) -> None:
    path = write_table("image,labels\na.jpg,dog\n")
    with pytest.raises(DataError) as error:
        load_annotations(path, layout="one-hot")
    assert str(error.value) == (
        f"{path}: no column holds only 0 and 1 (columns: image, labels), expected a column per label."
    )


@pytest.mark.parametrize("text", ["image,dog,sun\na.jpg,0.7,0.1\nb.jpg,0.2,0\n", "image,dog\na.jpg,0.7\nb.jpg,1\n"])
def test_numbers_between_0_and_1_are_no_labels_until_it_is_said_where_present_begins(
    write_table: Write, read_cells: Read, text: str
) -> None:
    path = write_table(text)
    with pytest.raises(DataError) as error:
        load_annotations(path)
    names = "dog, sun" if "sun" in text else "dog"
    assert str(error.value) == (
        f"{path}: columns hold numbers between 0 and 1, and where present begins is not said: {names}. "
        "Give --soft LOW,HIGH such as 0.3,0.7: up to LOW absent, from HIGH present, between them unknown."
    )
    cells = read_cells(load_annotations(path, soft=(0.3, 0.7)))
    assert [states["dog"] for states in cells.values()] == [1, 0 if "sun" in text else 1]


def test_numbers_between_0_and_1_beside_labels_are_an_extra_and_a_finding(write_table: Write) -> None:
    path = write_table("image,dog,quality\na.jpg,1,0.7\nb.jpg,0,0.2\n")
    table = load_annotations(path)
    assert (table.label_space.names, table.records[0].extras) == (("dog",), {"quality": "0.7"})
    assert [(finding.kind, finding.message, finding.rows) for finding in table.findings] == [
        (
            "doubtful-column",
            "Column 'quality' holds numbers between 0 and 1: it was kept as an extra, not as a label. "
            "--soft LOW,HIGH makes it a label.",
            ("quality",),
        )
    ]
