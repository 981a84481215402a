from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from manylabel.data.annotations import Annotations
from manylabel.data.checks.labels import count_places, find_label_findings
from manylabel.data.findings import Finding

Build = Callable[..., Annotations]


def find(annotations: Annotations, *parts: str) -> dict[str, tuple[str, str, tuple[str, ...]]]:
    wanted = parts if parts else ("train", "val", "test")
    return {
        finding.kind: (finding.severity, finding.message, finding.rows)
        for finding in find_label_findings(annotations, wanted)
    }


def test_a_table_with_nothing_wrong_has_no_findings(build_table: Build) -> None:
    assert find(build_table([[1, 0]] * 5 + [[0, 1]] * 5, "a", "b")) == {}


def test_labels_never_always_and_rarely_present_are_named(build_table: Build) -> None:
    findings = find(build_table([[0, 1, 1, 1], [0, 1, 0, 1], [0, -1, 0, 0]] * 2, "never", "always", "two", "four"))
    assert findings["label-without-positive"] == (
        "warning",
        "Labels that no image has: never. They cannot be learnt or judged.",
        ("never",),
    )
    assert findings["label-without-negative"] == (
        "warning",
        "Labels that every image has for which they are known: always.",
        ("always",),
    )
    assert findings["label-too-rare"] == (
        "warning",
        "Labels in fewer than 3 images: two (2). They cannot be in each of train, val, test.",
        ("two",),
    )
    assert findings["rare-label"] == (
        "warning",
        "Labels that fewer than 5 images have: always (4), four (4).",
        ("always", "four"),
    )


def test_a_label_in_two_groups_cannot_be_in_three_parts_however_many_images_it_has(build_table: Build) -> None:
    states = [[1, 1]] * 6 + [[0, 1]] * 6 + [[0, 0]] * 2
    groups = ["a", "a", "a", "b", "b", "b", *"cdefgh", None, None]
    assert find(build_table(states, "x", "y", groups=groups)) == {
        "label-too-rare": (
            "warning",
            "Labels in fewer than 3 groups of images: x (6). They cannot be in each of train, val, test.",
            ("x",),
        ),
        "image-without-label": (
            "note",
            "Images without any label: 2 (12.jpg, 13.jpg). The empty set is an answer, if it is meant.",
            ("12.jpg", "13.jpg"),
        ),
    }


def test_places_are_groups_and_images_without_one(build_table: Build) -> None:
    states = [[1, 0], [1, 1], [1, 0], [-1, 1], [1, 1]]
    table = build_table(states, "x", "y", groups=["3.jpg", "3.jpg", None, None, ""])
    assert count_places(table).tolist() == [3, 3]  # x: group, 2.jpg, 4.jpg; y: group, 3.jpg (no group), 4.jpg


def test_with_one_part_no_label_is_too_rare_for_the_parts(build_table: Build) -> None:
    table = build_table([[1, 0]] * 2 + [[0, 1]] * 6, "a", "b")
    assert find(table, "train") == {"rare-label": ("warning", "Labels that fewer than 5 images have: a (2).", ("a",))}


def test_a_table_with_parts_is_judged_by_its_own(build_table: Build) -> None:
    states = [[1, 0, 1], [1, 1, 1], [0, 1, 1], [1, 1, 0], [0, 1, 0], [1, 0, 1], [1, 1, 1], [1, 1, 0]]
    parts = ["train", "train", "val", "train", "test", "train", "train", "train"]
    assert find(build_table(states, "a", "b", "c", parts=parts)) == {
        "label-missing-in-part": (
            "warning",
            "Labels without an image in some part: val lacks a; test lacks a, c.",
            ("a", "c"),
        )
    }


def test_images_without_a_label_are_those_known_to_have_none(build_table: Build) -> None:
    findings = find(build_table([[1, 0], [0, 0], [0, -1]], "a", "b"))
    assert findings["image-without-label"] == (
        "note",
        "Images without any label: 1 (1.jpg). The empty set is an answer, if it is meant.",
        ("1.jpg",),
    )


def test_images_of_which_nothing_is_known_are_named_unless_the_reader_did(build_table: Build) -> None:
    table = build_table([[1, 0], [-1, -1], [-1, -1]], "a", "b")
    assert find(table)["image-without-known-label"] == (
        "warning",
        "Images of which no label is known: 2 (1.jpg, 2.jpg). They count nowhere.",
        ("1.jpg", "2.jpg"),
    )
    told = replace(table, findings=(Finding("warning", "outside-label-folder", "...", ("1.jpg", "2.jpg")),))
    assert "image-without-known-label" not in find(told)


def test_unknown_cells_are_counted_by_label(build_table: Build) -> None:
    severity, message, rows = find(build_table([[1, -1, -1], [0, -1, 1]], "a", "b", "c"))["unknown-cells"]
    assert (severity, rows) == ("note", ("b", "c"))
    assert message == (
        "3 cells (50.0%) are unknown: they count neither in training nor in a metric. By label: b (2), c (1)."
    )
