from __future__ import annotations

import numpy as np
import pytest

from manylabel.data.annotations import Annotations, ImageRecord, annotations_from_arrays
from manylabel.errors import DataError
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets


def build(
    cells: dict[str, list[int]], names: tuple[str, ...] = ("dog", "sun"), is_exhaustive: bool = True
) -> Annotations:
    """Return a table of images with 1 present, 0 absent, -1 unknown."""
    records = tuple(ImageRecord(image) for image in cells)
    targets = Targets.from_dense(np.array(list(cells.values())).reshape(len(cells), len(names)))
    return Annotations(records, targets, LabelSpace(names), "table", is_exhaustive)


def read(annotations: Annotations) -> dict[str, list[int]]:
    targets = annotations.targets
    state_NL = np.where(targets.known_NL(), targets.present_NL().astype(int), -1)
    return dict(zip(annotations.images, state_NL.tolist(), strict=True))


TABLE = build({"a.jpg": [1, 0], "b.jpg": [-1, 1], "c.jpg": [0, 0]})


def test_an_image_that_stands_twice_is_refused_by_name() -> None:
    records = tuple(ImageRecord(image) for image in "abacb")
    with pytest.raises(DataError) as error:
        Annotations(records, Targets.from_columns([[0]] * 5, 1), LabelSpace(("x",)), "t.csv")
    assert str(error.value) == "t.csv: images stand twice: a, b, expected one row per image."


def test_an_image_whose_name_is_not_text_is_refused() -> None:
    with pytest.raises(DataError) as error:
        Annotations((ImageRecord("caf\udce9.jpg"),), Targets.from_columns([[0]], 1), LabelSpace(("x",)), "folder")
    assert str(error.value) == r"folder: names of images are not text: 'caf\udce9.jpg'. Rename these files."


def test_rows_are_selected_in_the_order_asked_for() -> None:
    assert read(TABLE.select([2, 0])) == {"c.jpg": [0, 0], "a.jpg": [1, 0]}
    assert read(TABLE.select(np.array([1]))) == {"b.jpg": [-1, 1]}
    assert read(TABLE.select([])) == {}


def test_a_mask_is_not_taken_for_row_numbers() -> None:
    with pytest.raises(AssertionError, match="not a mask"):
        TABLE.select(np.array([True, False, True]))  # type: ignore[arg-type]


def test_rows_are_kept_by_what_their_record_says() -> None:
    assert TABLE.filter(lambda record: record.id > "a.jpg").images == ("b.jpg", "c.jpg")


def test_labels_of_an_image_are_its_present_ones() -> None:
    assert [TABLE.labels_of(row) for row in range(3)] == [["dog"], ["sun"], []]


def test_renaming_keeps_the_cells() -> None:
    renamed = TABLE.rename({"dog": "cat"})
    assert renamed.label_space.names == ("cat", "sun")
    assert renamed.targets == TABLE.targets


@pytest.mark.parametrize(
    ("is_exhaustive", "state"),
    [
        pytest.param(True, 0, id="a table that lists labels: absent"),
        pytest.param(False, -1, id="a table with a column per label: unknown"),
    ],
)
def test_a_label_that_the_table_never_mentions_is_absent_or_unknown(is_exhaustive: bool, state: int) -> None:
    table = build({"a.jpg": [1, 0]}, is_exhaustive=is_exhaustive)
    assert read(table.align(LabelSpace(("sun", "air", "dog")))) == {"a.jpg": [0, state, 1]}


def test_a_label_that_is_not_wanted_stops_or_is_dropped() -> None:
    wanted = LabelSpace(("dogs", "sun"))
    with pytest.raises(DataError) as error:
        TABLE.align(wanted)
    assert str(error.value) == (
        "table: unknown label 'dog' (did you mean 'dogs'?), expected the 2 labels of the model (dogs, sun). "
        "Rename it in the table or pass --unknown-labels drop."
    )
    assert read(TABLE.align(wanted, unknown_labels="drop")) == {"a.jpg": [0, 0], "b.jpg": [0, 1], "c.jpg": [0, 0]}
    with pytest.raises(
        DataError, match=r"none of its \d labels \(.*\) is one of the model, expected some of the 1 labels"
    ):
        TABLE.align(LabelSpace(("whale",)), unknown_labels="drop")


def test_two_tables_become_one_over_both_label_spaces() -> None:
    merged = TABLE.merge(build({"d.jpg": [1, 1]}, ("air", "dog"), is_exhaustive=False))
    assert merged.label_space.names == ("dog", "sun", "air")
    assert read(merged) == {"a.jpg": [1, 0, 0], "b.jpg": [-1, 1, 0], "c.jpg": [0, 0, 0], "d.jpg": [1, -1, 1]}
    assert not merged.is_exhaustive


def test_an_image_of_both_tables_cannot_be_merged() -> None:
    with pytest.raises(DataError, match=r"table: images stand twice: b\.jpg, expected one row per image\."):
        TABLE.merge(build({"b.jpg": [1, 1]}))


def test_parts_come_in_order_of_appearance_and_leave_out_images_without_one() -> None:
    table = TABLE.with_parts({"a.jpg": "val", "c.jpg": "train"})
    assert {name: part.images for name, part in table.parts().items()} == {"val": ("a.jpg",), "train": ("c.jpg",)}
    assert list(table.parts()) == ["val", "train"]
    assert TABLE.parts() == {}
    assert table.with_parts({"c.jpg": "test"}).records[0].part == "val"


def test_the_digest_changes_with_ids_names_and_cells_only() -> None:
    same = build({"a.jpg": [1, 0], "b.jpg": [-1, 1], "c.jpg": [0, 0]}).with_parts({"a.jpg": "val"})
    assert same.digest == TABLE.digest
    assert TABLE.rename({"dog": "cat"}).digest != TABLE.digest
    assert TABLE.select([1, 0, 2]).digest == TABLE.digest, "the order of rows says nothing about images"
    assert build({"a.jpg": [1, 0], "b.jpg": [0, 1], "c.jpg": [0, 0]}).digest != TABLE.digest


def test_arrays_get_numbered_ids_and_sorted_names() -> None:
    pixels_NHW = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    table = annotations_from_arrays(pixels_NHW, [["sun", "dog"], []], name="mine")
    assert read(table) == {"mine/00000": [1, 1], "mine/00001": [0, 0]}
    assert table.label_space.names == ("dog", "sun")
    np.testing.assert_array_equal(table.records[1].source, pixels_NHW[1])
    assert annotations_from_arrays(pixels_NHW, [[], []], ("b", "a")).label_space.names == ("b", "a")


@pytest.mark.parametrize(
    ("label_sets", "names", "message"),
    [
        pytest.param([["a"]], None, "arrays: 2 images but 1 label sets, expected one set each.", id="a set is missing"),
        pytest.param(
            [["dog"], "dog"],
            None,
            "arrays: a text is not a set of labels, got 'dog', expected ['dog'].",
            id="a text would be taken apart into letters",
        ),
        pytest.param(
            [["dgo"], []],
            ("dog",),
            "label space: unknown label 'dgo' (did you mean 'dog'?), expected one of its 1 names (dog).",
            id="a label that does not exist",
        ),
        pytest.param([[], []], None, "label space: there is no label, expected at least one name.", id="no label"),
    ],
)
def test_label_sets_that_do_not_fit_are_refused(label_sets: list[list[str]], names: None, message: str) -> None:
    with pytest.raises(DataError) as error:
        annotations_from_arrays(np.zeros((2, 4, 4), np.uint8), label_sets, names)
    assert str(error.value) == message
