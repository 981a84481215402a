from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.checks import find_findings, find_image_findings, find_label_findings
from manylabel.data.findings import Finding
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets


def build(state_NL: list[list[int]], *names: str) -> Annotations:
    records = tuple(ImageRecord(f"{row}.jpg") for row in range(len(state_NL)))
    return Annotations(records, Targets.from_dense(np.array(state_NL)), LabelSpace(names))


def find(state_NL: list[list[int]], *names: str) -> dict[str, tuple[str, str, tuple[str, ...]]]:
    return {
        finding.kind: (finding.severity, finding.message, finding.rows)
        for finding in find_label_findings(build(state_NL, *names))
    }


def test_a_table_with_nothing_wrong_has_no_findings() -> None:
    assert find([[1, 0]] * 5 + [[0, 1]] * 5, "a", "b") == {}


def test_labels_never_always_and_rarely_present_are_named() -> None:
    findings = find([[0, 1, 1], [0, 1, 0], [0, -1, 0]] * 2, "never", "always", "rare")
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
    assert findings["rare-label"] == (
        "warning",
        "Labels that fewer than 5 images have: always (4), rare (2).",
        ("always", "rare"),
    )


def test_images_without_a_label_are_those_known_to_have_none() -> None:
    findings = find([[1, 0], [0, 0], [0, -1]], "a", "b")
    assert findings["image-without-label"] == (
        "note",
        "Images without any label: 1. The empty set is an answer, if it is meant.",
        ("1.jpg",),
    )


def test_unknown_cells_are_counted() -> None:
    severity, message, rows = find([[1, -1], [0, -1]], "a", "b")["unknown-cells"]
    assert (severity, rows) == ("note", ())
    assert message == "2 cells (50.0%) are unknown: they count neither in training nor in a metric."


def test_what_the_reader_noticed_comes_first() -> None:
    noticed = Finding("note", "repeated-image", "...", ("0.jpg",))
    findings = find_findings(replace(build([[1], [0]], "a"), findings=(noticed,)))
    assert findings[0] is noticed
    assert [finding.kind for finding in findings[1:]] == ["rare-label", "image-without-label"]


def test_a_finding_is_a_dictionary_of_the_interface() -> None:
    assert Finding("error", "missing-image", "a is missing.", ("a",), "Add it").to_dict() == {
        "severity": "error",
        "kind": "missing-image",
        "message": "a is missing.",
        "rows": ["a"],
        "fix": "Add it",
    }


def test_images_that_cannot_be_opened_are_named_by_kind(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:20])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not an image", encoding="utf-8")
    (tmp_path / "more.jpg").write_text("not an image", encoding="utf-8")
    (tmp_path / "folder.jpg").mkdir()
    names = ["good.png", "cut.png", "empty.jpg", "text.jpg", "more.jpg", "folder.jpg", "listed.jpg", "gone.jpg"]
    records = tuple(ImageRecord(name, str(tmp_path / name)) for name in names)
    listed = Finding("error", "missing-image", "...", ("listed.jpg",))
    table = Annotations(records, Targets.from_columns([[0]] * 8, 1), LabelSpace(("a",)), findings=(listed,))
    told: list[int] = []
    findings = {finding.kind: finding for finding in find_image_findings(table, lambda: told.append(1))}
    assert {kind: finding.rows for kind, finding in findings.items()} == {
        "image-broken": ("cut.png",),
        "image-empty": ("empty.jpg",),
        "image-unsupported-format": ("text.jpg", "more.jpg"),
        "image-not-a-file": ("folder.jpg",),
        "image-missing": ("gone.jpg",),
    }
    assert {finding.severity for finding in findings.values()} == {"error"}
    assert findings["image-unsupported-format"].message.startswith(
        f"Images that cannot be opened: text.jpg, more.jpg. {tmp_path / 'text.jpg'}: "
    )
    assert len(told) == 8


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_among_the_images_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    record = ImageRecord("pipe.jpg", str(tmp_path / "pipe.jpg"))
    table = Annotations((record,), Targets.from_columns([[0]], 1), LabelSpace(("a",)))
    assert [finding.kind for finding in find_image_findings(table)] == ["image-not-a-file"]


def test_images_in_memory_are_looked_at_too() -> None:
    records = (ImageRecord("a", pixels=np.zeros((2, 2), np.uint8)), ImageRecord("b", pixels=np.zeros(3, np.uint8)))
    table = Annotations(records, Targets.from_columns([[0], []], 1), LabelSpace(("a",)))
    assert [finding.rows for finding in find_image_findings(table)] == [("b",)]
