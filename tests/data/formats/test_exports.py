"""Exports of other tools: mmpretrain, Roboflow, PaddleX and Label Studio, files by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manylabel.data.annotations import Annotations
from manylabel.data.formats.detect import load_data
from manylabel.data.formats.saving import save_annotations
from manylabel.data.regions import Region
from manylabel.errors import DataError, ManylabelError

Write = Callable[..., Path]
Read = Callable[[Annotations], dict[str, dict[str, int]]]

MMPRETRAIN: dict[str, Any] = {
    "metainfo": {"classes": ["dog", "sun", "cat"]},
    "data_list": [
        {"img_path": "a.jpg", "gt_label": [0, 1]},
        {"img_path": "b.jpg", "gt_label": []},
        {"img_path": "c.jpg", "gt_label": 1},
    ],
}


def rectangle(label: str) -> dict[str, Any]:
    value = {"x": 10, "y": 20, "width": 50, "height": 25, "rotation": 0, "rectanglelabels": [label]}
    return {"type": "rectanglelabels", "original_width": 640, "original_height": 480, "value": value}


def choose(*labels: str) -> dict[str, Any]:
    return {"type": "choices", "from_name": "choice", "to_name": "image", "value": {"choices": list(labels)}}


def build_task(image: str, *answers: list[dict[str, Any]]) -> dict[str, Any]:
    annotations = [{"id": number, "was_cancelled": False, "result": result} for number, result in enumerate(answers)]
    return {"id": 1, "data": {"image": image}, "annotations": annotations, "predictions": []}


LABEL_STUDIO = [
    build_task("/data/upload/1/0a1b2c3d-a.jpg", [choose("sun"), rectangle("dog")]),
    build_task("/data/local-files/?d=photos%2Fb.jpg", [choose("sun")], [choose("sun", "cat")]),
    build_task("https://x.org/some/c.jpg?token=1", []),
    build_task("d.jpg"),
]


# --- mmpretrain ---------------------------------------------------------------------------------------------------


def test_mmpretrain(write_table: Write, read_cells: Read) -> None:
    loaded = load_data(write_table(json.dumps(MMPRETRAIN), "x.json"))
    assert loaded.layout.name == "mmpretrain"
    assert loaded.layout.evidence == ("mmpretrain: 3 entries of data_list, 3 classes",)
    assert read_cells(loaded.annotations) == {
        "a.jpg": {"dog": 1, "sun": 1, "cat": 0},
        "b.jpg": {"dog": 0, "sun": 0, "cat": 0},
        "c.jpg": {"dog": 0, "sun": 1, "cat": 0},
    }


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        pytest.param(
            ("data_list", 0, "gt_label"), [3], r"data_list\[0\]: gt_label holds no numbers of classes", id="3"
        ),
        pytest.param(("data_list", 0, "gt_label"), ["dog"], "no numbers of classes", id="names"),
        pytest.param(("data_list", 1), "b.jpg", r"data_list\[1\]: no img_path", id="a path alone"),
        pytest.param(("metainfo", "classes"), ["a", "a"], "no list of different names", id="a class twice"),
    ],
)
def test_faults_of_mmpretrain_are_said(write_table: Write, keys: tuple[Any, ...], value: object, message: str) -> None:
    content = json.loads(json.dumps(MMPRETRAIN))
    target = content
    for key in keys[:-1]:
        target = target[key]
    target[keys[-1]] = value
    with pytest.raises(DataError, match=message):
        load_data(write_table(json.dumps(content), "x.json"))


@pytest.mark.parametrize(("layout", "name"), [("mmpretrain", "out.json"), ("paddlex", "out")])
def test_what_has_no_unknown_cells_refuses_them(write_table: Write, tmp_path: Path, layout: str, name: str) -> None:
    table = load_data(write_table("image,dog,sun\na.jpg,1,\nb.jpg,0,1\n")).annotations
    with pytest.raises(DataError, match=r"unknown.*--blank absent"):
        save_annotations(table, tmp_path / name, layout)
    assert not (tmp_path / name).exists()


# --- Roboflow -----------------------------------------------------------------------------------------------------


def test_roboflow(add_images: Write, read_cells: Read) -> None:
    folder = add_images("export/train/1.jpg", "export/train/3.jpg", "export/valid/2.jpg") / "export"
    (folder / "train/_classes.csv").write_text("filename, dog, sun\n1.jpg, 1, 0\n3.jpg, 0, 0\n")
    (folder / "valid/_classes.csv").write_text("filename, dog, sun\n2.jpg, 0, 1\n")
    loaded = load_data(folder)
    assert loaded.layout.name == "roboflow"
    assert loaded.layout.evidence == ("Roboflow export: train/_classes.csv, valid/_classes.csv",)
    assert read_cells(loaded.annotations) == {
        "train/1.jpg": {"dog": 1, "sun": 0},
        "train/3.jpg": {"dog": 0, "sun": 0},
        "valid/2.jpg": {"dog": 0, "sun": 1},
    }
    assert [record.part for record in loaded.annotations.records] == ["train", "train", "val"]


def test_roboflow_as_coco_keeps_its_boxes(add_images: Write) -> None:
    folder = add_images("export/train/1.jpg", "export/test/2.jpg") / "export"
    for part, name, boxes in (("train", "1.jpg", [[0, 0, 1, 1]]), ("test", "2.jpg", [])):
        content = {
            "images": [{"id": 0, "file_name": name}],
            "categories": [{"id": 1, "name": "dog"}],
            "annotations": [{"image_id": 0, "category_id": 1, "bbox": box} for box in boxes],
        }
        if not boxes:
            content["annotations"] = [{"image_id": 0, "category_id": 1}]
        (folder / part / "_annotations.coco.json").write_text(json.dumps(content))
    table = load_data(folder).annotations
    assert table.images == ("test/2.jpg", "train/1.jpg")
    assert table.records[1].regions == (Region("dog", (0, 0, 1, 1)),)
    assert [record.part for record in table.records] == ["test", "train"]


# --- PaddleX ------------------------------------------------------------------------------------------------------


def test_paddlex(add_images: Write, read_cells: Read) -> None:
    folder = add_images("paddle/images/a.jpg", "paddle/images/b c.jpg", "paddle/images/d.jpg") / "paddle"
    (folder / "labels.txt").write_text("0 dog\n1 sun\n")
    (folder / "train_list.txt").write_text("images/a.jpg\t1,1\nimages/b c.jpg 0,1\n")
    (folder / "val_list.txt").write_text("images/d.jpg\t0,0\n")
    loaded = load_data(folder)
    assert loaded.layout.name == "paddlex"
    assert loaded.layout.evidence == ("PaddleX: train_list.txt, val_list.txt with the names of labels.txt",)
    assert read_cells(loaded.annotations) == {
        "images/a.jpg": {"dog": 1, "sun": 1},
        "images/b c.jpg": {"dog": 0, "sun": 1},
        "images/d.jpg": {"dog": 0, "sun": 0},
    }
    assert [record.part for record in loaded.annotations.records] == ["train", "train", "val"]


def test_names_that_begin_with_a_number_stay_whole(add_images: Write) -> None:
    folder = add_images("a.jpg")
    (folder / "labels.txt").write_text("4 wheel drive\n2021 car\n2022 car\n")
    (folder / "train_list.txt").write_text("a.jpg\t1,0,1\n")
    assert load_data(folder).annotations.label_space.names == ("4 wheel drive", "2021 car", "2022 car")


def test_faults_of_paddlex_are_said_with_their_line(add_images: Write) -> None:
    folder = add_images("a.jpg")
    (folder / "labels.txt").write_text("dog\nsun\n")
    (folder / "train_list.txt").write_text("a.jpg\t1,1\n\na.jpg\t1\na.jpg\n")
    with pytest.raises(DataError) as error:
        load_data(folder)
    assert [line.split(":")[0] for line in str(error.value).splitlines()] == [
        f"{folder / 'train_list.txt'} line 3",
        f"{folder / 'train_list.txt'} line 4",
    ]


# --- Label Studio -------------------------------------------------------------------------------------------------


def test_label_studio(write_table: Write, read_cells: Read) -> None:
    loaded = load_data(write_table(json.dumps(LABEL_STUDIO), "x.json"))
    assert loaded.layout.name == "label-studio"
    assert loaded.layout.evidence == ("Label Studio: 4 tasks with annotations",)
    table = loaded.annotations
    assert read_cells(table) == {
        "a.jpg": {"cat": 0, "dog": 1, "sun": 1},
        "b.jpg": {"cat": -1, "dog": 0, "sun": 1},
        "c.jpg": {"cat": 0, "dog": 0, "sun": 0},
        "d.jpg": {"cat": -1, "dog": -1, "sun": -1},
    }
    assert table.records[0].regions == (Region("dog", (64, 96, 320, 120)),)
    (finding,) = [finding for finding in table.findings if finding.kind == "contradicting-rows"]
    assert finding.rows == ("b.jpg",)


def test_label_studio_json_min(write_table: Write, read_cells: Read) -> None:
    tasks = [
        {"image": "/data/upload/1/0a1b2c3d-a.jpg", "id": 1, "choice": "dog", "annotator": 1, "annotation_id": 1},
        {"image": "b.jpg", "id": 2, "choice": {"choices": ["dog", "sun"]}, "annotator": 1, "annotation_id": 2},
    ]
    loaded = load_data(write_table(json.dumps(tasks), "x.json"))
    assert loaded.layout.evidence == ("Label Studio JSON-MIN: 2 tasks",)
    assert read_cells(loaded.annotations) == {"a.jpg": {"dog": 1, "sun": 0}, "b.jpg": {"dog": 1, "sun": 1}}


def test_a_cancelled_annotation_does_not_count(write_table: Write, read_cells: Read) -> None:
    tasks = [build_task("a.jpg", [choose("dog")], [choose("sun")]), build_task("b.jpg", [choose("sun")])]
    tasks[0]["annotations"][1]["was_cancelled"] = True
    table = load_data(write_table(json.dumps(tasks), "x.json")).annotations
    assert read_cells(table) == {"a.jpg": {"dog": 1, "sun": 0}, "b.jpg": {"dog": 0, "sun": 1}}


def test_polygons_are_brought_to_pixels(write_table: Write) -> None:
    value = {"points": [[0, 0], [50, 0], [50, 100]], "polygonlabels": ["dog"]}
    result = {"type": "polygonlabels", "original_width": 200, "original_height": 100, "value": value}
    table = load_data(write_table(json.dumps([build_task("a.jpg", [result])]), "x.json")).annotations
    assert table.records[0].regions == (Region("dog", None, ((0, 0, 100, 0, 100, 100),)),)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        pytest.param({"type": "brushlabels", "value": {"rle": [1]}}, "'brushlabels' are not read", id="a brush"),
        pytest.param({"type": "choices", "value": {"choices": "dog"}}, "without labels", id="a text for a list"),
        pytest.param({"type": "taxonomy", "value": {"taxonomy": [["a"]]}}, "'taxonomy' are not read", id="a taxonomy"),
        pytest.param({"type": ["choices"], "value": {}}, "are not read", id="a type that is a list"),
        pytest.param({**rectangle("dog"), "original_width": None}, "a shape that cannot be read", id="no size"),
    ],
)
def test_results_that_cannot_be_read_are_said(write_table: Write, result: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"task 1: .*{message}"):
        load_data(write_table(json.dumps([build_task("a.jpg", [result])]), "x.json"))


def test_images_of_one_name_in_two_folders_stay_apart(add_images: Write, read_cells: Read) -> None:
    folder = add_images("cam1/p.jpg", "cam2/p.jpg")
    tasks = [
        build_task("/data/local-files/?d=cam1/p.jpg", [choose("dog")]),
        build_task("/data/local-files/?d=x/cam2/p.jpg", [choose("sun")]),
    ]
    (folder / "x.json").write_text(json.dumps(tasks))
    table = load_data(folder / "x.json").annotations
    assert read_cells(table) == {"cam1/p.jpg": {"dog": 1, "sun": 0}, "cam2/p.jpg": {"dog": 0, "sun": 1}}
    (folder / "cam2/p.jpg").unlink()
    with pytest.raises(DataError, match=r"are both the file 'cam1/p.jpg'"):
        load_data(folder / "x.json")


def test_labels_apart_from_their_rectangle_are_read(write_table: Write) -> None:
    shape = {"x": 10, "y": 20, "width": 50, "height": 25}
    size = {"original_width": 640, "original_height": 480}
    results = [
        {"id": "r", "type": "rectangle", "value": shape, **size},
        {"id": "r", "type": "labels", "value": {**shape, "labels": ["dog"]}, **size},
    ]
    table = load_data(write_table(json.dumps([build_task("a.jpg", results)]), "x.json")).annotations
    assert table.records[0].regions == (Region("dog", (64, 96, 320, 120)),)


def test_an_answer_of_json_min_that_cannot_be_told_from_the_task_is_refused(write_table: Write) -> None:
    task = {"image": "a.jpg", "id": 1, "scene": "beach", "annotator": 1, "annotation_id": 1}
    with pytest.raises(DataError, match=r"'scene' may be an answer or part of the task.*Export as JSON instead"):
        load_data(write_table(json.dumps([task]), "x.json"))


# --- all ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [MMPRETRAIN, LABEL_STUDIO], ids=["mmpretrain", "label-studio"])
def test_changed_files_are_read_or_refused_with_a_message(write_table: Write, content: object) -> None:
    rng = np.random.default_rng(0)
    whole = json.dumps(content)
    pieces = ["null", "[]", "{}", '"x"', "1e999", "-1", "NaN", "true", "9" * 400]
    for _ in range(200):
        start = int(rng.integers(0, len(whole)))
        changed = whole[:start] + pieces[rng.integers(len(pieces))] + whole[start + int(rng.integers(0, 9)) :]
        try:
            load_data(write_table(changed, "x.json"))
        except ManylabelError as error:
            assert str(error)  # noqa: PT017 - any other exception is the fault
