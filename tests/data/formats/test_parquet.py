from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manylabel.data.annotations import Annotations
from manylabel.data.formats.delimited import save_delimited
from manylabel.data.formats.detect import load_annotations, load_data
from manylabel.data.formats.parquet import load_parquet
from manylabel.errors import DataError

Write = Callable[..., Path]
Read = Callable[[Annotations], dict[str, dict[str, int]]]


def save(folder: Path, name: str = "labels.parquet", **columns: Any) -> Path:
    pq.write_table(pa.table(columns), folder / name)
    return folder / name


@pytest.mark.parametrize(
    ("cells", "texts"),
    [
        pytest.param(pa.array(["dog", None, " N/A"]), ["dog", "", "N/A"], id="text with a missing value"),
        pytest.param(pa.array([True, False, None]), ["1", "0", ""], id="truth values"),
        pytest.param(pa.array([1, -1, None], pa.int8()), ["1", "-1", ""], id="whole numbers"),
        pytest.param(pa.array([1.0, None, float("nan")]), ["1", "", ""], id="numbers with nothing and NaN"),
        pytest.param(pa.array([0.5, 0.25, 10.0], pa.float32()), ["0.5", "0.25", "10"], id="numbers of 32 bits"),
        pytest.param(pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"], id="dictionary"),
        pytest.param(pa.array([["a", "b|c"], [], None]), ['["a", "b|c"]', "[]", ""], id="lists of names"),
        pytest.param(pa.array([[3], [1, 2], []], pa.large_list(pa.int64())), ['["3"]', '["1", "2"]', "[]"], id="lists"),
        pytest.param(pa.array([datetime.date(2024, 5, 1)] * 3), ["2024-05-01"] * 3, id="days"),
        pytest.param(pa.array(["x", "y", None], pa.large_string()), ["x", "y", ""], id="large text"),
        pytest.param(pa.nulls(3), ["", "", ""], id="nothing at all"),
    ],
)
def test_every_kind_of_column_becomes_text(tmp_path: Path, cells: Any, texts: list[str]) -> None:
    table = load_parquet(save(tmp_path, image=["a.jpg", "b.jpg", "c.jpg"], x=cells))
    assert table.values("x") == texts
    assert table.where(2) == f"{tmp_path / 'labels.parquet'} row 3"


def test_a_column_per_label_has_three_states(add_images: Write, read_cells: Read) -> None:
    folder = add_images("a.jpg", "b.jpg", "c.jpg")
    path = save(folder, image=["a.jpg", "b.jpg", "c.jpg"], dog=[True, False, None], sun=[1.0, None, 0.0])
    loaded = load_data(path)
    assert loaded.layout.name == "one-hot"
    assert loaded.layout.evidence[0] == "3 rows, 3 columns, Parquet"
    assert read_cells(loaded.annotations) == {
        "a.jpg": {"dog": 1, "sun": 1},
        "b.jpg": {"dog": 0, "sun": -1},
        "c.jpg": {"dog": -1, "sun": 0},
    }


def test_lists_of_names_are_sets_of_labels(add_images: Write) -> None:
    folder = add_images("a.jpg", "b.jpg")
    table = load_annotations(save(folder, "data.bin", image=["a.jpg", "b.jpg"], tags=[["dog", "New York, NY"], []]))
    assert [table.labels_of(row) for row in range(2)] == [["New York, NY", "dog"], []]


def test_columns_of_bytes_are_left_out_and_named(add_images: Write) -> None:
    folder = add_images("a.jpg", "b.jpg")
    structure = pa.array([{"bytes": b"x"}, {"bytes": b"y"}])
    path = save(folder, image=["a.jpg", "b.jpg"], pixels=structure, raw=[b"1", b"2"], labels=["dog", "sun"])
    loaded = load_data(path)
    assert loaded.layout.evidence[1] == "left out, because they are no text, numbers or lists of them: pixels, raw"
    assert loaded.annotations.records[0].extras == {}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        pytest.param({"image": pa.array([], pa.string())}, "the table has no row, expected one row per image.", id="0"),
        pytest.param(
            {"pixels": [b"x"]},
            "no column can be read (columns: pixels), expected columns of text, numbers or lists of them.",
            id="bytes only",
        ),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    path = save(tmp_path, **columns)
    with pytest.raises(DataError) as error:
        load_parquet(path)
    assert str(error.value) == f"{path}: {message}"


@pytest.mark.parametrize("keep", [4, 100, -8])
def test_a_damaged_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = save(tmp_path, image=["a.jpg"], labels=["dog"])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"labels\.parquet: the Parquet file cannot be read \(.*\)\. Write it again\."):
        load_data(path)


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    pq.write_table(
        pa.table([pa.array(["a.jpg"]), pa.array(["x"]), pa.array(["y"])], ["image", "labels", "labels"]), path
    )
    with pytest.raises(DataError) as error:
        load_parquet(path)
    assert str(error.value) == f"{path}: columns stand twice in the header: labels. Rename or remove them."


def test_a_cell_that_is_no_state_is_told_by_its_row(add_images: Write) -> None:
    folder = add_images("a.jpg")
    path = save(folder, image=["a.jpg"] * 40, dog=[1.0] * 39 + [2.0])
    with pytest.raises(DataError, match=r"labels\.parquet row 40: column 'dog' holds neither 0 nor 1, got '2'"):
        load_data(path)


def test_what_is_saved_as_parquet_comes_back(write_table: Write) -> None:
    before = load_annotations(write_table("image,labels,unknown,part,note\na.jpg,dog,,train,x\nb.jpg,,sun,val,é\n"))
    path = Path(before.name).with_name("out.parquet")
    save_delimited(before, path)
    after = load_annotations(path)
    assert (after.images, after.label_space, after.targets) == (before.images, before.label_space, before.targets)
    assert [(record.part, record.extras) for record in after.records] == [
        ("train", {"note": "x"}),
        ("val", {"note": "é"}),
    ]
