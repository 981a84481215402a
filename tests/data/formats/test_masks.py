"""Masks: values are labels, whatever the palette and the depth, and every fault is said where it is."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manylabel.data.annotations import Annotations
from manylabel.data.formats.detect import load_data
from manylabel.data.formats.masks import read_values
from manylabel.errors import DataError, ManylabelError

Read = Callable[[Annotations], dict[str, dict[str, int]]]

MAP = "value,label,state\n0,,\n1,dog,\n2,sun,\n300,cat,\n254,sun,unknown\n255,,unknown\n"
VALUES_OF = {
    "train/a": [[0, 1, 1], [0, 0, 2]],
    "val/b": [[0, 300, 0], [0, 0, 0]],
    "val/c": [[0, 254, 0], [0, 0, 0]],
    "val/d": [[1, 255, 0], [0, 0, 0]],
    "val/e": [[0, 0, 0], [0, 0, 0]],
}


def save_mask(path: Path, values: list[list[int]]) -> None:
    """Write a palette of colours up to 255, grey of 16 bits beyond."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if max(map(max, values)) > 255:
        Image.fromarray(np.array(values, np.uint16)).save(path)
        return
    image = Image.fromarray(np.array(values, np.uint8), "P")
    image.putpalette([255 - value % 256 for value in range(768)])
    image.save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of images of 3 x 2 pixels with their masks, one without, and labels.csv."""
    for name, values in VALUES_OF.items():
        save_mask(tmp_path / "masks" / f"{name}.png", values)
    for name in (*VALUES_OF, "val/f"):
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (3, 2)).save(path)
    (tmp_path / "labels.csv").write_text(MAP, "utf-8")
    return tmp_path


def test_label_sets_regions_parts_and_evidence(folder: Path, read_cells: Read) -> None:
    loaded = load_data(folder)
    assert (loaded.layout.name, loaded.layout.evidence) == ("masks", ("masks: 6 values of 3 labels in labels.csv",))
    table = loaded.annotations
    assert read_cells(table) == {
        "images/train/a.png": {"dog": 1, "sun": 1, "cat": 0},
        "images/val/b.png": {"dog": 0, "sun": 0, "cat": 1},
        "images/val/c.png": {"dog": 0, "sun": -1, "cat": 0},
        "images/val/d.png": {"dog": 1, "sun": -1, "cat": -1},
        "images/val/e.png": {"dog": 0, "sun": 0, "cat": 0},
        "images/val/f.png": {"dog": -1, "sun": -1, "cat": -1},
    }
    assert [record.part for record in table.records] == ["train", *["val"] * 5]
    dog, sun = table.records[0].regions
    assert (dog.label, sun.label) == ("dog", "sun")
    assert dog.mask is not None
    assert dog.mask.to_pixels().astype(int).tolist() == [[0, 1, 1], [0, 0, 0]]
    (finding,) = table.findings
    assert (finding.kind, finding.message) == (
        "missing-mask",
        "Images without a mask: images/val/f.png. Their labels are unknown.",
    )


def test_the_folder_of_images_may_be_named(folder: Path) -> None:
    assert load_data(folder, folder / "images").annotations.labels_of(0) == ["dog", "sun"]


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_of_any_depth_has_the_values_of_its_file(tmp_path: Path, bits: int) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    # Written by hand after the PNG specification: one row of two pixels, 0 and the largest but one (1 bit: 1).
    last = 1 if bits == 1 else 2**bits - 2
    row = last.to_bytes(4, "big") if bits == 16 else bytes([0, last]) if bits == 8 else bytes([last << (8 - 2 * bits)])
    head = struct.pack(">IIBBBBB", 2, 1, bits, 0, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    assert read_values(tmp_path / "a.png").tolist() == [[0, last]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("value,label\n1,\n", "no value has a label", id="no label"),
        pytest.param("value,label\n1,a\n1,b\n", "line 3: the value 1 stands twice", id="twice"),
        pytest.param("value,label\n-1,a\n", "line 2: no value, got '-1'", id="below zero"),
        pytest.param("value,label\n70000,a\n", "line 2: no value, got '70000'", id="too large"),
        pytest.param("value,label,state\n1,a,unknwon\n", "no state (did you mean 'unknown'?)", id="a state"),
        pytest.param("label,value\na,1\n", "line 1: no header, got 'label,value'", id="another table"),
        pytest.param("", "line 1: no header", id="an empty file"),
        pytest.param("value,label\n0,\n1,dog\n", "a.png: values that labels.csv lacks: 2", id="a value less"),
    ],
)
def test_a_faulty_map_is_refused(folder: Path, text: str, message: str) -> None:
    (folder / "labels.csv").write_text(text, "utf-8")
    with pytest.raises(DataError) as error:
        load_data(folder, layout="masks")
    assert message in str(error.value)


def test_faulty_masks_are_all_told(folder: Path) -> None:
    masks = folder / "masks"
    whole = (masks / "train" / "a.png").read_bytes()
    (masks / "train" / "a.png").write_bytes(whole[:-20])
    Image.new("RGB", (3, 2)).save(masks / "val" / "b.png")
    Image.new("L", (2, 3)).save(masks / "val" / "c.png")
    Image.new("L", (3, 2)).save(masks / "val" / "d.png", "JPEG")
    (masks / "val" / "e.png").write_bytes(b"")
    with pytest.raises(DataError) as error:
        load_data(folder)
    first, *lines = str(error.value).splitlines()
    assert f"{masks / 'train' / 'a.png'}: " in first
    for line, message in zip(
        lines,
        (
            "b.png: this mask is in colour, got 'RGB', expected values",
            "c.png: the mask has 2 x 3 pixels, its image 3 x 2",
            "d.png: this mask is JPEG, expected PNG. Save it as PNG; JPEG changes values.",
            "e.png: the file is empty",
        ),
        strict=True,
    ):
        assert message in line


def test_a_mask_of_too_many_pixels_is_refused_undecoded(folder: Path) -> None:
    Image.new("1", (8_000, 8_000)).save(folder / "masks" / "val" / "b.png")
    with pytest.raises(DataError, match="8000 x 8000 pixels are 64,000,000, expected at most 50,000,000"):
        load_data(folder)


def test_changed_files_are_read_or_refused_with_a_message(folder: Path) -> None:
    rng = np.random.default_rng(0)
    targets = (folder / "labels.csv", folder / "masks" / "train" / "a.png")
    contents = [path.read_bytes() for path in targets]
    for turn in range(200):
        path, content = targets[turn % 2], contents[turn % 2]
        start = int(rng.integers(0, len(content)))
        path.write_bytes(content[:start] + rng.bytes(int(rng.integers(0, 4))) + content[start + turn % 5 :])
        try:
            load_data(folder, layout="masks")
        except ManylabelError as error:
            assert str(error)  # noqa: PT017 - any other exception is the fault
        path.write_bytes(content)
