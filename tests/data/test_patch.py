"""Single cells set anew by a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from manylabel.data.annotations import Annotations, annotations_from_arrays
from manylabel.data.patch import apply_patch, load_patch
from manylabel.errors import DataError


@pytest.fixture
def table() -> Annotations:
    """Two images; the first has dog, the second sun."""
    return annotations_from_arrays(np.zeros((2, 4, 4), np.uint8), [["dog"], ["sun"]], ("dog", "sun"), "t")


def write(folder: Path, text: str) -> Path:
    (folder / "patch.csv").write_text(text, "utf-8")
    return folder / "patch.csv"


def test_cells_are_set_and_what_changed_is_said(table: Annotations, tmp_path: Path) -> None:
    text = "image,label,state\nt/00000,sun,present\nt/00000,dog,unknown\nt/00001,sun,present\n"
    patched, applied = apply_patch(table, load_patch(write(tmp_path, text)))
    assert patched.labels_of(0) == ["sun"]
    assert patched.targets.unknown_columns(0) == [0]
    assert patched.labels_of(1) == ["sun"]
    assert applied.describe() == "2 cells changed (1 now present, 1 now unknown); 1 were so already"
    assert table.labels_of(0) == ["dog"]


def test_the_queue_of_find_errors_is_a_patch(table: Annotations, tmp_path: Path) -> None:
    text = "image,label,given,probability,suggestion,rank\nt/00001,dog,absent,0.9,present,1\n"
    patched, applied = apply_patch(table, load_patch(write(tmp_path, text)))
    assert patched.labels_of(1) == ["dog", "sun"]
    assert applied.num_changed == {"present": 1, "absent": 0, "unknown": 0}


def test_no_change_at_all_leaves_the_table_as_it_is(table: Annotations) -> None:
    patched, applied = apply_patch(table, [])
    assert patched.digest == table.digest
    assert applied.describe() == "0 cells changed; 0 were so already"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param("t/000,dog,absent", r"line 2: unknown image 't/000' \(did you mean 't/0000[01]'\?\)", id="image"),
        pytest.param("t/00000,dgo,absent", r"line 2: unknown label 'dgo' \(did you mean 'dog'\?\)", id="label"),
        pytest.param("t/00000,dog,gone", r"line 2: unknown state, got 'gone', expected present, absent", id="state"),
        pytest.param(
            "t/00000,dog,absent\nt/00000,dog,unknown",
            r"line 3: this cell becomes unknown here and absent in .*patch\.csv line 2\. Keep one of the rows\.",
            id="two states",
        ),
    ],
)
def test_rows_that_say_nothing_are_named_and_nothing_is_changed(
    table: Annotations, tmp_path: Path, rows: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        apply_patch(table, load_patch(write(tmp_path, f"image,label,state\n{rows}\n")))


def test_a_file_that_is_no_patch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a patch, got 'image, labels', expected the columns image"):
        load_patch(write(tmp_path, "image,labels\na,b\n"))
    with pytest.raises(DataError, match=r"none\.csv: there is no such file\. Check the path"):
        load_patch(tmp_path / "none.csv")
    with pytest.raises(DataError, match="the patch cannot be read"):
        load_patch(tmp_path)
