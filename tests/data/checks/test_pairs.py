from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from manylabel.data.annotations import Annotations
from manylabel.data.checks import pairs
from manylabel.data.checks.pairs import find_pair_findings

Build = Callable[..., Annotations]


def find(annotations: Annotations) -> dict[str, tuple[str, str, tuple[str, ...]]]:
    return {
        finding.kind: (finding.severity, finding.message, finding.rows) for finding in find_pair_findings(annotations)
    }


def at(*rows: int, of: int = 100, unknown: tuple[int, ...] = ()) -> list[int]:
    """Return the column of a label: present in these rows, unknown in those, absent in the others."""
    column = np.zeros(of, int)
    column[list(rows)] = 1
    column[list(unknown)] = -1
    return column.tolist()


def build(build_table: Build, **column_of: list[int]) -> Annotations:
    return build_table(np.array(list(column_of.values())).T.tolist(), *column_of)


def test_identical_columns_are_named_once_per_column(build_table: Build) -> None:
    table = build(build_table, a=at(*range(8)), other=at(*range(20, 30)), b=at(*range(8)), c=at(*range(8)))
    assert find(table) == {
        "identical-labels": (
            "warning",
            "Labels that stand in the same images: a = b (8 images), a = c (8 images).",
            ("a", "b", "a", "c"),
        )
    }


def test_columns_that_are_identical_where_both_are_known_are_named(build_table: Build) -> None:
    table = build(build_table, a=at(*range(8), unknown=(30,)), b=at(*range(7), unknown=(7,)))
    assert find(table)["identical-labels"][2] == ("a", "b")
    differ = build(build_table, a=at(*range(8)), b=at(*range(7)))
    assert "identical-labels" not in find(differ)


def test_a_label_that_never_stands_without_another_implies_it(build_table: Build) -> None:
    table = build(build_table, poodle=at(*range(6)), dog=at(*range(9)), cat=at(*range(5, 15)))
    assert find(table)["implied-label"] == (
        "note",
        "Labels that never stand without another: poodle -> dog (6 images).",
        ("poodle", "dog"),
    )


@pytest.mark.parametrize(
    ("poodle", "dog"),
    [
        pytest.param(at(*range(4)), at(*range(9)), id="in four images"),
        pytest.param(at(*range(6)), at(*range(99)), id="of a label that nearly every image has"),
        pytest.param(at(*range(6)), at(*range(100)), id="of a label that every image has"),
        pytest.param(at(*range(6)), at(*range(1, 9)), id="all but once"),
        pytest.param(at(*range(6)), at(*range(4), unknown=(4, 5)), id="known in four images"),
    ],
)
def test_no_implication(poodle: list[int], dog: list[int], build_table: Build) -> None:
    assert "implied-label" not in find(build(build_table, poodle=poodle, dog=dog))


def test_labels_that_mostly_stand_together_are_named_the_closest_first(build_table: Build) -> None:
    table = build(
        build_table, a=at(*range(10)), b=at(*range(5, 15)), c=at(*range(6, 15), 39), d=at(*range(4), *range(20, 26))
    )
    assert find(table) == {
        "co-occurring-labels": (
            "note",
            "Labels that mostly stand together: b + c (9 of the 11 images with either).",
            ("b", "c"),
        )
    }


def test_labels_that_are_frequent_meet_by_chance(build_table: Build) -> None:
    table = build(build_table, a=at(*range(90)), b=at(*range(9, 99)))
    assert find(table) == {}  # 81 of the 99 images with either, but 81 are expected


def test_counts_over_chunks_are_those_of_a_plain_count(monkeypatch: pytest.MonkeyPatch, build_table: Build) -> None:
    state_NL = np.random.default_rng(0).integers(-1, 2, (50, 9))
    monkeypatch.setattr(pairs, "_CHUNK_ROWS", 7)
    counts = pairs.PairCounts.build(build_table(state_NL.tolist(), *"abcdefghi").targets)
    present_NL, known_NL = (state_NL == 1).astype(int), (state_NL >= 0).astype(int)
    assert counts.columns_K.tolist() == list(range(9))
    assert counts.both_KK.tolist() == (present_NL.T @ present_NL).tolist()
    assert counts.met_KK.tolist() == (present_NL.T @ known_NL).tolist()


def test_of_very_many_labels_the_most_frequent_are_compared(
    monkeypatch: pytest.MonkeyPatch, build_table: Build
) -> None:
    monkeypatch.setattr(pairs, "MAX_COMPARED_LABELS", 2)
    table = build(build_table, a=at(*range(5)), b=at(*range(9)), c=at(*range(7)))
    assert pairs.PairCounts.build(table.targets).columns_K.tolist() == [1, 2]
