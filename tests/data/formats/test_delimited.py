from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.formats.delimited import label_names_path, save_delimited
from manylabel.data.formats.detect import load_annotations, load_data
from manylabel.errors import DataError
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets

Write = Callable[..., Path]


def labels_by_image(annotations: Annotations) -> dict[str, list[str]]:
    return {image: annotations.labels_of(row) for row, image in enumerate(annotations.images)}


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param(("dog|New York", "sun|dog", "", "sun"), id="bars"),
        pytest.param(("dog;New York", "sun;dog", "", "sun"), id="semicolons"),
        pytest.param(('"dog, New York"', '"sun , dog"', "", "sun"), id="commas with blanks around"),
        pytest.param(('"[""dog"", ""New York""]"', '"[""sun"", ""dog""]"', "[]", '"[""sun""]"'), id="JSON lists"),
        pytest.param(("\"['dog', 'New York']\"", "\"['sun', 'dog']\"", "", "['sun']"), id="Python lists"),
        pytest.param(("dog|New York|dog", " sun |dog|", "|", "sun"), id="repeated names and empty pieces"),
    ],
)
def test_labels_are_read_however_they_are_joined(write_table: Write, cells: tuple[str, ...]) -> None:
    text = "image,labels\n" + "".join(f"{name}.jpg,{cell}\n" for name, cell in zip("abcd", cells, strict=True))
    loaded = load_data(write_table(text))
    assert loaded.layout.name == "delimited"
    assert labels_by_image(loaded.annotations) == {
        "a.jpg": ["New York", "dog"],
        "b.jpg": ["dog", "sun"],
        "c.jpg": [],
        "d.jpg": ["sun"],
    }
    assert not loaded.annotations.targets.num_unknown_L.any()


def test_names_joined_by_blanks_are_told_from_names_with_a_blank(write_table: Write) -> None:
    joined = load_annotations(write_table("image,labels\na.jpg,dog sun\nb.jpg,dog\nc.jpg,sun\nd.jpg,sun dog\n"))
    assert joined.label_space.names == ("dog", "sun")
    whole = load_annotations(write_table("image,labels\na.jpg,New York\nb.jpg,Los Angeles\nc.jpg,Rome\nd.jpg,Rome\n"))
    assert whole.label_space.names == ("Los Angeles", "New York", "Rome")


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        pytest.param(("3 7", "7", "3", "12 3"), ("12", "3", "7"), id="numbers joined by blanks"),
        pytest.param(("3;7", "7", "3", "12;3"), ("12", "3", "7"), id="numbers joined by semicolons"),
        pytest.param(("0", "1", "2", "3"), ("0", "1", "2", "3"), id="a number per cell"),
        pytest.param(("x" * 10_000, "y" * 300, "z", "z"), ("x" * 10_000, "y" * 300, "z"), id="very long names"),
        pytest.param(
            ('"[""a,b"", ""c|d""]"', "[]", '"[""e;f""]"', "[]"), ("a,b", "c|d", "e;f"), id="separators in names"
        ),
    ],
)
def test_odd_names_are_names(write_table: Write, cells: tuple[str, ...], names: tuple[str, ...]) -> None:
    text = "image,labels\n" + "".join(f"{name}.jpg,{cell}\n" for name, cell in zip("abcd", cells, strict=True))
    assert load_annotations(write_table(text)).label_space.names == names


def test_escapes_of_json_are_read_as_json(write_table: Write) -> None:
    text = 'image;labels\na.jpg;["caf\\u00e9", "\\ud83d\\ude00", "a\\/b"]\nb.jpg;[3, 5]\n'
    assert load_annotations(write_table(text)).label_space.names == ("3", "5", "a/b", "café", "😀")


@pytest.mark.parametrize("cell", ["[dog]", "[1.5]", "[null]", "[[1]]", "['a', print('b')]", '["a"', "{'a'}"])
def test_a_cell_that_is_no_list_is_named_with_its_line(write_table: Write, cell: str) -> None:
    path = write_table(f"image;labels\na.jpg;['x']\nb.jpg;['x']\n\nc.jpg;{cell}\n")
    with pytest.raises(DataError) as error:
        load_annotations(path)
    assert str(error.value) == f"{path} line 5: column 'labels' is not a list, got {cell!r}, expected ['a', 'b']."


@pytest.mark.parametrize("name", ["N/A", "NA", "null", "None", "nan", "-"])
def test_a_name_that_looks_like_nothing_stays_a_name(write_table: Write, name: str) -> None:
    table = load_annotations(write_table(f"image,labels\na.jpg,{name}|dog\nb.jpg,{name}\n"))
    assert labels_by_image(table) == {"a.jpg": sorted([name, "dog"]), "b.jpg": [name]}


@pytest.mark.parametrize("header", ["image,Labels", "Id,tags", "image,what is on it", "file,group,part,CLASS"])
def test_the_column_of_labels_is_found_by_name_or_because_it_is_the_only_one(write_table: Write, header: str) -> None:
    between = "g,train," if "group" in header else ""
    table = load_annotations(write_table(f"{header}\na.jpg,{between}dog|sun\nb.jpg,{between}dog\n"))
    assert table.label_space.names == ("dog", "sun")


def test_other_columns_are_kept_as_text(write_table: Write) -> None:
    path = write_table("image,labels,year,note,group,part\na.jpg,dog,1999,N/A,g1,train\nb.jpg,sun,,x,,\n")
    first, second = load_annotations(path).records
    assert (first.extras, first.group, first.part) == ({"year": "1999", "note": "N/A"}, "g1", "train")
    assert (second.extras, second.group, second.part) == ({"year": "", "note": "x"}, None, None)


def test_a_column_unknown_names_what_nobody_knows(
    write_table: Write, read_cells: Callable[[Annotations], dict[str, dict[str, int]]]
) -> None:
    path = write_table("image,labels,unknown\na.jpg,dog|sun,\nb.jpg,dog,sun|air\nc.jpg,dog,dog\n")
    assert read_cells(load_annotations(path)) == {
        "a.jpg": {"air": 0, "dog": 1, "sun": 1},
        "b.jpg": {"air": -1, "dog": 1, "sun": -1},
        "c.jpg": {"air": 0, "dog": -1, "sun": 0},
    }


def test_a_table_without_a_column_of_labels_is_refused(write_table: Write) -> None:
    path = write_table("image,year,note\na.jpg,1999,x\nb.jpg,2000,y\n")
    with pytest.raises(DataError) as error:
        load_annotations(path)
    assert str(error.value) == (
        f"{path}: no column lists labels (columns: image, year, note), "
        "expected a column 'labels', or a 0/1 column per label. Name the column with --label-column."
    )


def test_a_table_without_any_label_is_refused(write_table: Write) -> None:
    path = write_table("image,labels\na.jpg,\nb.jpg,\n")
    with pytest.raises(DataError) as error:
        load_annotations(path)
    assert str(error.value) == f"{path}: no image has any label, expected at least one cell with a label."


def test_the_file_of_names_gives_labels_that_no_image_has_and_their_order(write_table: Write) -> None:
    path = write_table("image,labels\na.jpg,dog\nb.jpg,air\n")
    label_names_path(path).write_text("sun\n dog \n\nair\n", encoding="utf-8-sig")
    assert load_annotations(path).label_space.names == ("sun", "dog", "air")


def test_a_label_that_the_file_of_names_lacks_is_an_error(write_table: Write) -> None:
    path = write_table("image,labels\na.jpg,dgo\nb.jpg,air\n")
    label_names_path(path).write_text("sun\ndog\nair\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        load_annotations(path)
    assert str(error.value) == (
        f"{path}: labels that labels.labels.txt does not name: dgo (did you mean 'dog'?). "
        "Add them to labels.labels.txt or delete that file."
    )


def build(state_NL: list[list[int]], names: tuple[str, ...]) -> Annotations:
    records = tuple(
        ImageRecord(f"{'dcba'[row]}.jpg", group="g" if row == 0 else None, part="train" if row == 1 else None)
        for row in range(len(state_NL))
    )
    return Annotations(records, Targets.from_dense(np.array(state_NL)), LabelSpace(names))


def check_round_trip(table: Annotations, path: Path) -> None:
    save_delimited(table, path)
    back = load_annotations(path)
    ordered = table.select(np.argsort(table.images))
    assert back.images == ordered.images
    assert back.label_space == ordered.label_space
    assert back.targets == ordered.targets
    assert [record.group for record in back.records] == [record.group for record in ordered.records]
    assert [record.part for record in back.records] == [record.part for record in ordered.records]


def test_the_canonical_table_is_sorted_and_has_only_the_columns_it_needs(add_images: Write) -> None:
    path = add_images("a.jpg", "b.jpg") / "out.csv"
    table = build([[1, 1], [-1, 1]], ("dog", "sun")).select([1, 0])
    save_delimited(table.with_parts({"c.jpg": "val"}), path)
    assert path.read_bytes() == b"image,labels,unknown,group,part\nc.jpg,sun,dog,,val\nd.jpg,dog|sun,,g,\n"
    save_delimited(build([[1, 0]], ("dog", "sun")).filter(lambda _: True).rename({"sun": "cat"}), path)
    assert path.read_text(encoding="utf-8").splitlines()[0] == "image,labels,group"
    assert label_names_path(path).read_text(encoding="utf-8") == "dog\ncat\n"


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("air", "dog", "sun"), id="sorted"),
        pytest.param(("sun", "air", "dog"), id="another order"),
        pytest.param(("Paris, France", "a;b", "[x]"), id="other separators in the names"),
        pytest.param(("blue car", "red bus", "red car"), id="blanks in the names"),
        pytest.param(('"quoted"', "'x'", "x\u2028y"), id="quotes and separators of lines"),
        pytest.param(("0", "1", "N/A"), id="names like states"),
        pytest.param(("ünï", "日本", "😀"), id="other scripts"),
    ],
)
@pytest.mark.parametrize(
    "state_NL",
    [
        pytest.param([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]], id="one label per image"),
        pytest.param([[1, 1, 0], [0, -1, 1], [-1, -1, -1], [0, 0, 0]], id="several, and unknown cells"),
        pytest.param([[0, 1, 0], [0, 0, 0]], id="labels on no image"),
    ],
)
def test_what_is_saved_comes_back(add_images: Write, names: tuple[str, ...], state_NL: list[list[int]]) -> None:
    check_round_trip(build(state_NL, names), add_images("a.jpg", "b.jpg", "c.jpg", "d.jpg") / "out.csv")


label_names = st.text(st.sampled_from("ab ,;[]'\"é0"), min_size=1, max_size=5).map(str.strip).filter(bool)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), names=st.lists(label_names, min_size=1, max_size=4, unique=True))
def test_whatever_the_names_what_is_saved_comes_back(add_images: Write, data: st.DataObject, names: list[str]) -> None:
    state_NL = data.draw(
        st.lists(st.lists(st.integers(-1, 1), min_size=len(names), max_size=len(names)), min_size=1, max_size=4)
    )
    state_NL[0][0] = 1
    check_round_trip(build(state_NL, tuple(names)), add_images("a.jpg", "b.jpg", "c.jpg", "d.jpg") / "out.csv")


def test_saving_again_removes_a_file_of_names_that_is_no_longer_needed(add_images: Write) -> None:
    path = add_images("d.jpg") / "out.csv"
    save_delimited(build([[1, 1]], ("sun", "dog")), path)
    assert label_names_path(path).exists()
    save_delimited(build([[1, 1]], ("dog", "sun")), path)
    assert not label_names_path(path).exists()


def test_a_name_with_a_bar_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        save_delimited(build([[1, 0, 1]], ("a|b", "c", "|")), tmp_path / "out.csv")
    assert str(error.value) == f"{tmp_path / 'out.csv'}: label names contain '|': a|b, |. Rename these labels."
    assert list(tmp_path.iterdir()) == []
