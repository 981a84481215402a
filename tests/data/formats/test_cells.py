"""The policies: what a blank, -1 and a soft value mean, in tables with a column per label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manylabel.data.annotations import Annotations
from manylabel.data.formats.cells import read_soft
from manylabel.data.formats.detect import load_data
from manylabel.errors import ConfigError, DataError

Write = Callable[..., Path]
Read = Callable[[Annotations], dict[str, dict[str, int]]]
TABLE = "image,dog,sun\na.jpg,1,\nb.jpg,-1,0\nc.jpg,?,1\n"


@pytest.mark.parametrize(
    ("options", "dog", "sun", "note"),
    [
        pytest.param({}, [1, -1, -1], [-1, 0, 1], None, id="nothing said"),
        pytest.param(
            {"blank": "absent"}, [1, -1, 0], [0, 0, 1], "2 empty cells were read as absent (--blank).", id="blank"
        ),
        pytest.param(
            {"uncertain": "present"},
            [1, 1, -1],
            [-1, 0, 1],
            "1 cells of -1 were read as present (--uncertain).",
            id="CheXpert's ones",
        ),
        pytest.param(
            {"uncertain": "absent"},
            [1, 0, -1],
            [-1, 0, 1],
            "1 cells of -1 were read as absent (--uncertain).",
            id="CheXpert's zeros",
        ),
    ],
)
def test_a_policy_decides_and_says_how_many_cells(
    write_table: Write, read_cells: Read, options: dict[str, Any], dog: list[int], sun: list[int], note: str | None
) -> None:
    table = load_data(write_table(TABLE), **options).annotations
    cells = read_cells(table)
    assert [states["dog"] for states in cells.values()] == dog
    assert [states["sun"] for states in cells.values()] == sun
    assert [finding.message for finding in table.findings if finding.kind == "cells-decided"] == (
        [note] if note else []
    )


SOFT = "image,dog,sun\na.jpg,0.2,1\nb.jpg,0.5,0\nc.jpg,0.9,\n"


def test_soft_labels_are_bounded(write_table: Write, read_cells: Read) -> None:
    table = load_data(write_table(SOFT), soft=(0.3, 0.7)).annotations
    assert [states["dog"] for states in read_cells(table).values()] == [0, -1, 1]
    (finding,) = [finding for finding in table.findings if finding.kind == "cells-decided"]
    assert finding.message == "3 cells between 0 and 1: up to 0.3 absent, from 0.7 present, else unknown (--soft)."


def test_soft_labels_without_bounds_are_no_labels_and_the_message_says_how(write_table: Write) -> None:
    with pytest.raises(DataError, match=r"Give --soft LOW,HIGH such as 0\.3,0\.7: up to LOW absent"):
        load_data(write_table("image,dog,sun\na.jpg,0.2,0.1\nb.jpg,0.5,0.4\n"), layout="one-hot")
    rows = "".join(f"a{row}.jpg,1,0\n" for row in range(30))
    with pytest.raises(DataError, match=r"holds neither 0 nor 1, got '0\.2'.*Give --soft LOW,HIGH"):
        load_data(write_table(f"image,dog,sun\n{rows}a.jpg,0.2,0\n"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"blank": "abscent"}, r"--blank: unknown word 'abscent' \(did you mean 'absent'", id="misspelt"),
        pytest.param({"blank": "present"}, "--blank: unknown word 'present'", id="blank is never present"),
        pytest.param({"soft": (0.7, 0.3)}, "--soft: not two bounds", id="bounds the wrong way round"),
        pytest.param({"soft": (0.5, float("nan"))}, "--soft: not two bounds", id="no number"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(write_table: Write, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_data(write_table(TABLE), **options)


@pytest.mark.parametrize("word", ["", "inf", "nan", "1e999", "1_0", "-0.1", "1.1", "0.5.5", "e", "٠.٥"])
def test_what_is_no_number_between_0_and_1_is_not_soft(word: str) -> None:
    assert read_soft(word) is None
