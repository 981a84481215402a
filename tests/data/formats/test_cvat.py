"""CVAT for images: tags and shapes are labels, subsets parts, and every fault is said where it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from manylabel.data.annotations import Annotations
from manylabel.data.formats.detect import load_data
from manylabel.data.regions import Region
from manylabel.errors import DataError, ManylabelError

Write = Callable[..., Path]
Read = Callable[[Annotations], dict[str, dict[str, int]]]

# Laid out as an export of a task is.
GOLDEN = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>4</id><labels>
    <label><name>sun</name><color>#fff</color><attributes></attributes></label>
    <label><name>dog</name><attributes><attribute><name>breed</name></attribute></attributes></label>
    <label><name>nose</name><parent>dog</parent></label>
    <label><name>cat</name></label>
  </labels></task><dumped>2026-01-01 00:00:00</dumped></meta>
  <image id="0" name="a.jpg" subset="Train" width="4" height="3">
    <tag label="sun" source="manual"></tag>
    <box label="dog" occluded="0" xtl="1.5" ytl="0" xbr="4" ybr="2" z_order="0">
      <attribute name="breed">pug</attribute>
    </box>
    <polygon label="dog" points="0.0,0.0;2.0,0.0;2.0,1.5" occluded="0"></polygon>
    <mask label="cat" rle="1, 2, 1" left="1" top="1" width="2" height="2"></mask>
  </image>
  <image id="1" name="b.jpg" subset="Validation" width="4" height="3">
  </image>
</annotations>
"""


@pytest.fixture
def write(tmp_path: Path, add_images: Write) -> Callable[[str], Path]:
    """Return a function that writes annotations.xml beside images."""
    add_images("images/Train/a.jpg", "images/b.jpg")

    def write_xml(text: str) -> Path:
        (tmp_path / "annotations.xml").write_text(text, "utf-8")
        return tmp_path

    return write_xml


def test_label_sets_regions_parts_and_evidence(write: Callable[[str], Path], read_cells: Read) -> None:
    loaded = load_data(write(GOLDEN))
    assert (loaded.layout.name, loaded.layout.evidence) == ("cvat", ("CVAT: 2 images",))
    table = loaded.annotations
    assert read_cells(table) == {
        "images/Train/a.jpg": {"sun": 1, "dog": 1, "cat": 1},
        "images/b.jpg": {"sun": 0, "dog": 0, "cat": 0},
    }
    assert table.label_space.names == ("sun", "dog", "cat")
    assert [record.part for record in table.records] == ["train", "val"]
    box, polygon, mask = table.records[0].regions
    assert (box, polygon) == (
        Region("dog", (1.5, 0, 2.5, 2)),
        Region("dog", polygons_px=((0, 0, 2, 0, 2, 1.5),)),
    )
    # Row by row in a square at (1, 1): one outside, two inside, one outside.
    assert mask.mask is not None
    assert mask.mask.to_pixels().astype(int).tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param('xbr="4"', 'xbr="1"', "line 12: no box", id="a box inside out"),
        pytest.param('xbr="4"', 'xbr="inf"', "line 12: no box", id="no number"),
        pytest.param('ytl="0"', "", "line 12: no box", id="a corner less"),
        pytest.param(";2.0,1.5", "", "line 15: no polygon", id="two points"),
        pytest.param("1, 2, 1", "1, 2, 2", "line 16: no mask", id="counts that do not add up"),
        pytest.param('left="1"', 'left="3"', "line 16: no mask", id="a mask outside"),
        pytest.param('width="4"', 'width="99999999"', "line 16: no mask", id="a mask that fills the memory"),
        pytest.param('<tag label="sun"', "<tag", "line 11: a tag without a label", id="no label"),
        pytest.param('<tag label="sun"', '<tag label="snu"', "unknown label 'snu' (did you mean 'sun'?)", id="unknown"),
        pytest.param('name="b.jpg"', "", "line 18: an image without a name", id="no name"),
        pytest.param('"b.jpg"', '"../b.jpg"', "../b.jpg", id="a name that leads out"),
        pytest.param("<version>", '<track id="0"/><version>', "line 3: a track of a video", id="a video"),
        pytest.param("<annotations>", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>', "document types", id="an entity"),
    ],
)
def test_a_fault_is_said_where_it_is(write: Callable[[str], Path], old: str, new: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        load_data(write(GOLDEN.replace(old, new, 1)))
    assert message in str(error.value)


def test_shapes_without_a_region_are_labels_all_the_same(write: Callable[[str], Path]) -> None:
    text = GOLDEN.replace("  </image>\n</annotations>", '<ellipse label="cat" cx="1"/></image></annotations>')
    table = load_data(write(text)).annotations
    assert (table.labels_of(1), table.records[1].regions) == (["cat"], ())


def test_changed_files_are_read_or_refused_with_a_message(write: Callable[[str], Path]) -> None:
    rng = np.random.default_rng(0)
    pieces = ["", "<", '"', "&", "\x00", "1e999", "-9", ",", ";", "é", "9" * 30]
    for _ in range(300):
        start = int(rng.integers(0, len(GOLDEN)))
        piece = pieces[rng.integers(len(pieces))]
        try:
            load_data(write(GOLDEN[:start] + piece + GOLDEN[start + int(rng.integers(0, 9)) :]))
        except ManylabelError as error:
            assert str(error)  # noqa: PT017 - any other exception is the fault
