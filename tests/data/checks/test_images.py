from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.checks.images import find_file_findings
from manylabel.data.findings import FINDING_KINDS, Finding
from manylabel.data.images import ImageErrorKind
from manylabel.data.scan import scan_images
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
    findings = {finding.kind: finding for finding in find_file_findings(table, scan_images(table))}
    assert findings.pop("image-tiny").rows == ("good.png",)
    assert {kind: finding.rows for kind, finding in findings.items()} == {
        "image-broken": ("cut.png",),
        "image-empty": ("empty.jpg",),
        "image-unsupported-format": ("text.jpg", "more.jpg"),
        "image-not-a-file": ("folder.jpg",),
        "image-missing": ("gone.jpg",),
    }
    assert {finding.severity for finding in findings.values()} == {"error"}
    assert findings["image-unsupported-format"].message.startswith(
        "Images that cannot be used: 2 (text.jpg, more.jpg). text.jpg: not an image in a supported format"
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_among_the_images_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    record = ImageRecord("pipe.jpg", str(tmp_path / "pipe.jpg"))
    table = Annotations((record,), Targets.from_columns([[0]], 1), LabelSpace(("a",)))
    assert [finding.kind for finding in find_file_findings(table, scan_images(table))] == ["image-not-a-file"]


def test_images_in_memory_are_looked_at_too() -> None:
    records = (ImageRecord("a", pixels=np.zeros((2, 2), np.uint8)), ImageRecord("b", pixels=np.zeros(3, np.uint8)))
    table = Annotations(records, Targets.from_columns([[0], []], 1), LabelSpace(("a",)))
    kinds = {finding.kind: finding.rows for finding in find_file_findings(table, scan_images(table))}
    assert kinds == {"image-broken": ("b",), "image-tiny": ("a",)}


@dataclass(frozen=True)
class Facts:
    image: str
    error: str | None = None
    error_kind: str | None = None
    format: str | None = "JPEG"
    width_px: int = 640
    height_px: int = 480
    orientation: int = 1


def find(*facts: Facts, findings: tuple[Finding, ...] = ()) -> dict[str, tuple[str, str, tuple[str, ...]]]:
    records = tuple(ImageRecord(fact.image, f"/photos/{fact.image}") for fact in facts)
    targets = Targets.from_columns([[0]] * len(records), 1)
    table = Annotations(records, targets, LabelSpace(("a",)), findings=findings)
    return {each.kind: (each.severity, each.message, each.rows) for each in find_file_findings(table, facts)}


def test_files_with_nothing_odd_about_them_have_no_findings() -> None:
    shapes = [Facts("a.jpg"), Facts("b.JPEG", width_px=32, height_px=32), Facts("c.png", format="PNG", orientation=0)]
    assert find(*shapes, Facts("d.jpg", width_px=4000, height_px=2999)) == {}


def test_images_that_cannot_be_used_are_counted_by_kind_with_one_reason() -> None:
    broken = [Facts(f"{place}.jpg", f"{place}.jpg: damaged.", "broken", None, 0, 0, 0) for place in range(10)]
    found = find(*broken, Facts("x.jpg", "x.jpg: a pipe.", "not_a_file", None, 0, 0, 0))
    assert found == {
        "image-broken": (
            "error",
            "Images that cannot be used: 10 (0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg, 5.jpg, 6.jpg, 7.jpg and 2 more). "
            "0.jpg: damaged.",
            tuple(f"{place}.jpg" for place in range(10)),
        ),
        "image-not-a-file": ("error", "Images that cannot be used: 1 (x.jpg). x.jpg: a pipe.", ("x.jpg",)),
    }


def test_an_image_that_the_reader_named_as_missing_is_named_once() -> None:
    noticed = Finding("error", "missing-image", "...", ("gone.jpg",))
    facts = Facts("gone.jpg", "gone.jpg: there is no such file.", "missing", None, 0, 0, 0)
    assert find(facts, Facts("b.jpg"), findings=(noticed,)) == {}
    assert list(find(facts, Facts("b.jpg"))) == ["image-missing"]


def test_images_that_can_be_used_but_look_odd_are_named_with_what_is_odd() -> None:
    found = find(
        Facts("icon.png", format="PNG", width_px=640, height_px=31),
        Facts("wall.jpg", width_px=4000, height_px=3000),
        Facts("shot.jpg", format="PNG"),
        Facts("scan.TIF", format="JPEG"),
        Facts("phone.jpg", orientation=6),
    )
    assert found == {
        "image-tiny": (
            "warning",
            "Images with a side of less than 32 px: 1 (icon.png is 640 x 31).",
            ("icon.png",),
        ),
        "image-huge": (
            "note",
            "Images of 12 million pixels or more: 1 (wall.jpg is 4000 x 3000).",
            ("wall.jpg",),
        ),
        "image-misnamed": (
            "note",
            "Images whose name says another format than their content: 2 (shot.jpg is PNG, scan.TIF is JPEG).",
            ("shot.jpg", "scan.TIF"),
        ),
        "image-turned": (
            "note",
            "Images with a tag that says how they have to be turned: 1 (phone.jpg).",
            ("phone.jpg",),
        ),
    }


def test_pixels_in_memory_have_no_name_that_could_be_wrong() -> None:
    record = ImageRecord("a.png", pixels=np.zeros((40, 40), np.uint8))
    table = Annotations((record,), Targets.from_columns([[0]], 1), LabelSpace(("a",)))
    assert list(find_file_findings(table, [Facts("a.png", format=None, width_px=40, height_px=40)])) == []


def test_every_kind_of_image_error_is_a_kind_of_finding() -> None:
    assert {f"image-{kind.replace('_', '-')}" for kind in get_args(ImageErrorKind)} <= set(FINDING_KINDS)
