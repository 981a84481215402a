from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from manylabel.data.annotations import Annotations
from manylabel.data.checks import find_findings
from manylabel.data.findings import Finding


def test_what_the_reader_noticed_comes_first(build_table: Callable[..., Annotations]) -> None:
    noticed = Finding("note", "repeated-image", "...", ("0.jpg",))
    findings = find_findings(replace(build_table([[1], [0]], "a"), findings=(noticed,)))
    assert findings[0] is noticed
    assert [finding.kind for finding in findings[1:]] == ["label-too-rare", "image-without-label"]


def test_every_check_is_asked(build_table: Callable[..., Annotations]) -> None:
    states = [[1, 0, -1], [1, 1, -1], [0, 1, -1]] * 4
    table = build_table(
        states,
        "dog",
        "Dog",
        "N/A",
        groups=["g"] * 12,
        parts=["train", "val", "test"] * 4,
        extras=[{"words": "dog"}] * 12,
    )
    assert [finding.kind for finding in find_findings(table)] == [
        "group-in-two-parts",
        "label-named-missing",
        "same-label",
        "label-without-positive",
        "label-missing-in-part",
        "unknown-cells",
        "contradicting-column",
    ]
