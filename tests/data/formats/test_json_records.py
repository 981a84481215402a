"""JSON, JSON Lines and Hugging Face's metadata: an object per image in the shapes that people have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from manylabel.data.annotations import Annotations
from manylabel.data.comparison import find_differences
from manylabel.data.formats.detect import load_data
from manylabel.data.formats.saving import save_annotations
from manylabel.data.regions import Mask, Region
from manylabel.errors import DataError, ManylabelError

Write = Callable[..., Path]
Read = Callable[[Annotations], dict[str, dict[str, int]]]

LIST = '[{"image": "a.jpg", "labels": ["dog", "sun"], "camera": 7},\n {"image": "b.jpg", "labels": []}]'


@pytest.mark.parametrize(
    ("text", "name", "layout"),
    [
        pytest.param(LIST, "x.json", "json", id="a list of objects"),
        pytest.param('\ufeff{"images": ' + LIST + "}", "x.json", "json", id="objects under images, with a BOM"),
        pytest.param('{"a.jpg": ["dog", "sun"], "b.jpg": []}', "x.json", "json", id="a map of image to labels"),
        pytest.param(
            '{"file_name": "a.jpg", "tags": ["sun", "dog"]}\n\n{"file_name": "b.jpg", "tags": []}\n',
            "x.jsonl",
            "json-lines",
            id="JSON Lines",
        ),
        pytest.param(
            '{"id": "a", "label": ["sun", "dog"]}\n{"id": "b", "label": []}\n', "x.txt", "json-lines", id="bare ids"
        ),
    ],
)
def test_the_shapes_that_people_have(write_table: Write, read_cells: Read, text: str, name: str, layout: str) -> None:
    loaded = load_data(write_table(text, name))
    assert loaded.layout.name == layout
    assert read_cells(loaded.annotations) == {"a.jpg": {"dog": 1, "sun": 1}, "b.jpg": {"dog": 0, "sun": 0}}


def test_the_evidence_counts(write_table: Write) -> None:
    loaded = load_data(write_table(LIST, "x.json"))
    assert loaded.layout.evidence == ("JSON: 2 objects; images: 'image', labels: 'labels'",)
    assert loaded.annotations.records[0].extras == {"camera": "7"}


def test_an_object_that_says_nothing_of_labels_leaves_them_unknown(write_table: Write, read_cells: Read) -> None:
    rows = [
        {"image": "a.jpg", "labels": "dog, sun"},
        {"image": "b.jpg", "lables": ["dog"]},
        {"image": "c.jpg", "labels": ""},
    ]
    assert read_cells(load_data(write_table(json.dumps(rows), "x.json")).annotations) == {
        "a.jpg": {"dog": 1, "sun": 1},
        "b.jpg": {"dog": -1, "sun": -1},
        "c.jpg": {"dog": 0, "sun": 0},
    }


def test_a_map_of_states_says_nothing_of_the_labels_it_leaves_out(write_table: Write, read_cells: Read) -> None:
    rows = [
        {"image": "a.jpg", "labels": {"dog": 1, "sun": None}},
        {"image": "b.jpg", "labels": {"dog": False}, "split": "test", "group": 3},
        {"image": "c.jpg", "labels": None},
        {"image": "d.jpg", "labels": ["sun"], "unknown": ["dog"]},
    ]
    table = load_data(write_table(json.dumps(rows), "x.json")).annotations
    assert read_cells(table) == {
        "a.jpg": {"dog": 1, "sun": -1},
        "b.jpg": {"dog": 0, "sun": -1},
        "c.jpg": {"dog": -1, "sun": -1},
        "d.jpg": {"dog": -1, "sun": 1},
    }
    assert (table.records[1].part, table.records[1].group) == ("test", "3")
    absent = load_data(write_table(json.dumps(rows), "x.json"), blank="absent").annotations
    assert read_cells(absent)["a.jpg"] == {"dog": 1, "sun": 0}


def test_everything_comes_back(write_table: Write, tmp_path: Path) -> None:
    rows = {
        "labels": ["sun", "dog", "never"],
        "images": [
            {
                "image": "a.jpg", "labels": ["dog"], "unknown": ["sun"], "group": "g", "part": "train",
                "extras": {"camera": "left"},
                "regions": [
                    {"label": "dog", "box": [0, 0, 1.5, 2], "polygons": [[0, 0, 1, 0, 1, 2]]},
                    {"label": "dog", "mask": {"size": [2, 2], "counts": [1, 3]}},
                ],
            },
            {"image": "b.jpg", "labels": []},
        ],
    }  # fmt: skip
    table = load_data(write_table(json.dumps(rows), "x.json")).annotations
    assert table.label_space.names == ("sun", "dog", "never")
    assert table.records[0].regions == (
        Region("dog", (0, 0, 1.5, 2), ((0, 0, 1, 0, 1, 2),)),
        Region("dog", mask=Mask(2, 2, (1, 3))),
    )
    assert save_annotations(table, tmp_path / "again.json") == ()
    assert find_differences(table, load_data(tmp_path / "again.json").annotations) == {}
    assert save_annotations(table, tmp_path / "again.jsonl") == ("labels that only one of the two has: never",)


def test_hugging_face_metadata_in_part_folders(add_images: Write, read_cells: Read) -> None:
    folder = add_images("hub/train/1.png", "hub/train/sub/2.png", "hub/validation/3.png")
    (folder / "hub/train/metadata.jsonl").write_text(
        '{"file_name": "1.png", "objects": {"bbox": [[0, 0, 1, 1], [1, 1, 1, 1]], "categories": ["dog", "sun"]}}\n'
        '{"file_name": "sub/2.png", "objects": {"bbox": [], "categories": []}}\n'
    )
    (folder / "hub/validation/metadata.jsonl").write_text('{"file_name": "3.png", "labels": ["dog"]}\n')
    loaded = load_data(folder / "hub")
    assert loaded.layout.name == "hugging-face"
    assert loaded.layout.evidence == ("Hugging Face image folder: train/metadata.jsonl, validation/metadata.jsonl",)
    assert read_cells(loaded.annotations) == {
        "train/1.png": {"dog": 1, "sun": 1},
        "train/sub/2.png": {"dog": 0, "sun": 0},
        "validation/3.png": {"dog": 1, "sun": 0},
    }
    assert [record.part for record in loaded.annotations.records] == ["train", "train", "val"]
    assert loaded.annotations.records[0].regions == (Region("dog", (0, 0, 1, 1)), Region("sun", (1, 1, 1, 1)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param('[{"image": "a.jpg", "labels": ["x"]}, 7]', "has none of the layouts", id="a number"),
        pytest.param('[{"image": "a.jpg", "labels": 3}]', "item 1: labels is no list of names, got 3", id="no list"),
        pytest.param('[{"image": "", "labels": []}]', "item 1: no image is named", id="no image"),
        pytest.param('[{"image": "a.jpg", "labels": {"dog": 0.4}}]', "label 'dog' has no state, got 0.4", id="soft"),
        pytest.param('[{"image": "a.jpg", "labels": [["x"]]}]', "labels is no list of names", id="a nested list"),
        pytest.param(
            '{"labels": ["a", "a"], "images": [{"image": "a.jpg", "labels": ["a"]}]}', "different names", id="2"
        ),
        pytest.param(
            '{"labels": ["a"], "images": [{"image": "a.jpg", "labels": ["b"]}]}', "unknown label 'b'", id="new"
        ),
        pytest.param('[{"image": "http://x.org/a.jpg", "labels": ["b"]}]', "this is a", id="an address"),
        pytest.param("[" * 100_000, "nested too deeply|not JSON", id="a depth bomb"),
        pytest.param('[{"image": "a.jpg", "labels": ["x"], "n": ' + "9" * 5000 + "}]", "not JSON", id="5,000 digits"),
        pytest.param(
            '[{"image": "a.jpg", "labels": ["x"], "n": "\\ud800"}]', "value that is not text", id="half a sign"
        ),
        pytest.param('{"a.jpg": ["dog"], "a.jpg": ["sun"]}', "the key 'a.jpg' stands twice", id="a key twice"),
        pytest.param('[{"image": "a.jpg", "labels": "[\'x\']"}]', "a list written as text", id="a list as text"),
        pytest.param('{"image": "a.jpg", "labels": ["x"]}\n{"image"\n', "line 2: not a JSON object", id="half a line"),
        pytest.param(
            '[{"image": "a.jpg", "labels": ["x"], "objects": {"bbox": [1], "categories": ["x"]}}]', "no box", id="box"
        ),
    ],
)
def test_a_fault_is_said_where_it_is(write_table: Write, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(write_table(text, "x.json"))


def test_changed_files_are_read_or_refused_with_a_message(write_table: Write) -> None:
    rng = np.random.default_rng(0)
    whole = (
        '{"labels": ["sun", "dog"], "images": [{"image": "a.jpg", "labels": {"dog": 1}, "regions": [{"label": "dog", '
    )
    whole += '"box": [0, 0, 1, 2], "mask": {"size": [1, 1], "counts": [1]}}]}, {"image": "b.jpg", "labels": ["sun"]}]}'
    pieces = ["null", "[]", "{}", '"x"', "1e999", "-1", "NaN", "true", "9" * 400]
    for _ in range(300):
        start = int(rng.integers(0, len(whole)))
        changed = whole[:start] + pieces[rng.integers(len(pieces))] + whole[start + int(rng.integers(0, 9)) :]
        try:
            load_data(write_table(changed, "x.json"))
        except ManylabelError as error:
            assert str(error)  # noqa: PT017 - any other exception is the fault
