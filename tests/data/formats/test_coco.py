"""COCO instances: the right sets, regions kept, and every fault said where it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manylabel.data.annotations import Annotations
from manylabel.data.comparison import find_differences
from manylabel.data.formats.detect import load_data
from manylabel.data.formats.saving import save_annotations
from manylabel.data.formats.shapes import decompress_counts
from manylabel.data.regions import Mask, Region
from manylabel.errors import MAX_LISTED, DataError, ManylabelError

COCO = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "coco128"
Read = Callable[[Annotations], dict[str, dict[str, int]]]

GOLDEN: dict[str, Any] = {
    "info": {"year": 2026, "description": "written by hand after the page on the data format"},
    "licenses": [],
    "images": [
        {"id": 7, "file_name": "a.jpg", "width": 4, "height": 3, "license": 0},
        {"id": 9, "file_name": "b.jpg", "width": 4, "height": 3, "license": 0},
        {"id": 12, "file_name": "c.jpg", "width": 4, "height": 3, "license": 0},
    ],
    "categories": [
        {"id": 1, "name": "person", "supercategory": "person"},
        {"id": 18, "name": "dog", "supercategory": "animal"},
        {"id": 90, "name": "toothbrush", "supercategory": "indoor"},
    ],
    "annotations": [
        {
            "id": 1, "image_id": 7, "category_id": 18, "iscrowd": 0, "area": 2.0,
            "bbox": [1, 0.5, 2, 1], "segmentation": [[1, 0.5, 3, 0.5, 3, 1.5, 1, 1.5]],
        },
        {"id": 2, "image_id": 7, "category_id": 18, "area": 1.0, "bbox": [0, 0, 1, 1], "segmentation": []},
        {
            "id": 3, "image_id": 9, "category_id": 1, "iscrowd": 1, "area": 3,
            "bbox": [0, 1, 2, 2], "segmentation": {"size": [3, 4], "counts": [1, 2, 2, 1, 6]},
        },
    ],
}  # fmt: skip


@pytest.fixture
def write(tmp_path: Path, add_images: Callable[..., Path]) -> Callable[..., Path]:
    """Return a function that writes instances.json beside the images a.jpg, b.jpg and c.jpg."""

    def write_json(content: object) -> Path:
        add_images("images/a.jpg", "images/b.jpg", "images/c.jpg")
        path = tmp_path / "instances.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return path

    return write_json


def test_label_sets_regions_and_evidence(write: Callable[..., Path], read_cells: Read) -> None:
    loaded = load_data(write(GOLDEN))
    assert (loaded.layout.name, loaded.layout.evidence) == (
        "coco",
        ("COCO: 3 annotations of 3 images in 3 categories",),
    )
    table = loaded.annotations
    assert table.label_space.names == ("person", "dog", "toothbrush")
    assert read_cells(table) == {
        "images/a.jpg": {"person": 0, "dog": 1, "toothbrush": 0},
        "images/b.jpg": {"person": 1, "dog": 0, "toothbrush": 0},
        "images/c.jpg": {"person": 0, "dog": 0, "toothbrush": 0},
    }
    assert table.records[0].regions == (
        Region("dog", (1, 0.5, 2, 1), ((1, 0.5, 3, 0.5, 3, 1.5, 1, 1.5),)),
        Region("dog", (0, 0, 1, 1)),
    )
    mask = table.records[1].regions[0].mask
    assert mask is not None
    # Column by column: one outside, two inside; two outside, one inside; six outside.
    assert mask.to_pixels().astype(int).tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]]


def test_the_folder_may_be_given_and_a_folder_with_one_json_will_do(write: Callable[..., Path]) -> None:
    path = write(GOLDEN)
    assert load_data(path, path.parent / "images").annotations.images == ("a.jpg", "b.jpg", "c.jpg")
    assert load_data(path.parent).layout.name == "coco"


def test_what_is_written_is_read_again(write: Callable[..., Path], tmp_path: Path) -> None:
    table = load_data(write(GOLDEN)).annotations
    assert save_annotations(table, tmp_path / "again.json", "coco") == ()
    again = load_data(tmp_path / "again.json", tmp_path).annotations
    assert find_differences(table, again) == {}


def test_compressed_run_lengths_are_those_of_the_reference() -> None:
    # By hand: "1" is 1, "3" is 3, "2" is 2, "3" is 3 as difference to 3 is "0"; two characters carry ten bits.
    assert decompress_counts("1320") == [1, 3, 2, 3]
    assert decompress_counts("T1") == [36]  # 0b00100 with "more", then 0b00001: 4 + 32
    assert decompress_counts("132O") == [1, 3, 2, 2]  # "O" is 31: minus one
    assert decompress_counts("T") is None
    assert decompress_counts("\x00") is None


def test_a_compressed_mask_is_read(write: Callable[..., Path]) -> None:
    content = json.loads(json.dumps(GOLDEN))
    content["annotations"][2]["segmentation"] = {"size": [3, 4], "counts": "122O4"}  # 1, 2, 2, 2 - 1, 2 + 4
    mask = load_data(write(content)).annotations.records[1].regions[0].mask
    assert mask == Mask(3, 4, (1, 2, 2, 1, 6))


FAULTS = [
    pytest.param(("images", 1, "id"), 7, "images[1]: id 7 stands twice", id="an id twice"),
    pytest.param(("images", 1, "file_name"), None, "images[1]: no 'file_name'", id="an image without a name"),
    pytest.param(("categories", 0), "dog", "categories[0]: no entry with an id", id="a category that is text"),
    pytest.param(
        ("annotations", 0, "image_id"), 8, "annotations[0]: image_id is none of the file's", id="no such image"
    ),
    pytest.param(
        ("annotations", 0, "category_id"), [1], "annotations[0]: category_id is none", id="an id that is a list"
    ),
    pytest.param(("annotations", 0, "bbox"), [1, 2, 3], "annotations[0]: no box", id="a box of three numbers"),
    pytest.param(("annotations", 0, "bbox"), [1, 2, -3, 4], "annotations[0]: no box", id="a negative width"),
    pytest.param(
        ("annotations", 0, "segmentation"), [[1, 2, 3]], "a polygon with less than three", id="half a polygon"
    ),
    pytest.param(
        ("annotations", 2, "segmentation"), {"size": [3, 4], "counts": [5]}, "no mask", id="counts that do not add up"
    ),
    pytest.param(("images",), {}, "has none of the layouts", id="images that are no list"),
]


@pytest.mark.parametrize(("keys", "value", "message"), FAULTS)
def test_a_fault_is_said_where_it_is(
    write: Callable[..., Path], keys: tuple[Any, ...], value: object, message: str
) -> None:
    content = json.loads(json.dumps(GOLDEN))
    target = content
    for key in keys[:-1]:
        target = target[key]
    target[keys[-1]] = value
    with pytest.raises(DataError) as error:
        load_data(write(content))
    assert message in str(error.value)


def test_ten_thousand_faults_are_counted_and_the_first_listed(write: Callable[..., Path]) -> None:
    content = {**GOLDEN, "annotations": [{"image_id": 0, "category_id": 18}] * 10_000}
    with pytest.raises(DataError) as error:
        load_data(write(content))
    lines = str(error.value).splitlines()
    assert "annotations[0]: image_id is none of the file's" in lines[0]
    assert lines[MAX_LISTED:] == [f"... and {10_000 - MAX_LISTED} more like this."]


def test_changed_files_are_read_or_refused_with_a_message(write: Callable[..., Path]) -> None:
    rng = np.random.default_rng(0)
    text = json.dumps(GOLDEN)
    pieces = ["null", "[]", "{}", '"x"', "1e999", "-1", "NaN", "true", "9" * 400]
    for _ in range(300):
        start = int(rng.integers(0, len(text)))
        changed = text[:start] + pieces[rng.integers(len(pieces))] + text[start + int(rng.integers(0, 9)) :]
        try:
            load_data(write(changed))
        except ManylabelError as error:
            assert str(error)  # noqa: PT017 - any other exception is the fault


@pytest.mark.skipif(not COCO.is_dir(), reason="the real photographs are not beside this checkout")
def test_the_real_file_gives_128_images_and_80_labels() -> None:
    table = load_data(COCO / "instances.json").annotations
    assert (len(table), len(table.label_space)) == (128, 80)
    sets = {record.id: set(table.labels_of(row)) for row, record in enumerate(table.records)}
    # Looked at by eye: a lunch box, a giraffe among trees, a dog asleep beside a bicycle in a street.
    assert sets["images/000000000009.jpg"] == {"bowl", "broccoli", "orange"}
    assert sets["images/000000000025.jpg"] == {"giraffe"}
    assert sets["images/000000000074.jpg"] == {"dog", "bicycle", "person"}
    regions = [region for record in table.records for region in record.regions]
    assert len(regions) == 939
    assert sum(region.mask is not None for region in regions) == 10
    assert all(region.box_px is not None for region in regions)
    bare = [record.id for row, record in enumerate(table.records) if not table.labels_of(row)]
    assert all(not record.regions for record in table.records if record.id in bare)
