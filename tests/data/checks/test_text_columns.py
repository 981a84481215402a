from __future__ import annotations

from collections.abc import Callable

import pytest

from manylabel.data.annotations import Annotations
from manylabel.data.checks.text_columns import find_text_column_findings

Build = Callable[..., Annotations]


def build(build_table: Build, *cells: str) -> Annotations:
    states = [[1, 0], [1, 1], [0, -1], [0, 0]]
    return build_table(states, "Sci-Fi", "War", extras=[{"Genre": cell, "year": "1999"} for cell in cells])


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param(("['Sci-Fi']", "['War', 'Sci-Fi']", "['War']", "[]"), id="Python lists"),
        pytest.param(('["Sci-Fi"]', '["War", "Sci-Fi"]', "[]", "[]"), id="JSON lists"),
        pytest.param(("sci fi", "SCI FI|war", "war", ""), id="joined and spelt otherwise"),
    ],
)
def test_a_text_column_that_says_the_same_is_noted(cells: tuple[str, ...], build_table: Build) -> None:
    (finding,) = find_text_column_findings(build(build_table, *cells))
    assert (finding.severity, finding.kind, finding.rows) == ("note", "text-column", ("Genre",))
    assert finding.message == (
        "Column 'Genre' is text that lists the labels again: it was not read, but kept as an extra. "
        "The two agree for every image."
    )


def test_images_for_which_the_text_says_something_else_are_named(build_table: Build) -> None:
    (finding,) = find_text_column_findings(build(build_table, "War", "War|Sci-Fi", "Sci-Fi", "War"))
    assert (finding.severity, finding.kind) == ("warning", "contradicting-column")
    assert finding.rows == ("0.jpg", "2.jpg", "3.jpg")
    assert "They disagree for 3 images: 0.jpg, 2.jpg, 3.jpg." in finding.message


def test_an_empty_cell_says_nothing_and_a_name_without_a_column_is_told(build_table: Build) -> None:
    cells = ("Sci-Fi", "War|Sci-Fi|Western", "War", "")
    (finding,) = find_text_column_findings(build(build_table, *cells))
    assert finding.message.endswith("The two agree for every image. It also names Western, which have no column.")


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param(("", "", "", ""), id="empty"),
        pytest.param(("Jaws", "Alien", "War", "Up"), id="titles, one of them a label"),
        pytest.param(("1", "2", "3", "4"), id="numbers"),
    ],
)
def test_other_text_is_no_finding(cells: tuple[str, ...], build_table: Build) -> None:
    assert list(find_text_column_findings(build(build_table, *cells))) == []
