from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.checks.images import find_image_findings
from manylabel.data.findings import Finding
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets


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
