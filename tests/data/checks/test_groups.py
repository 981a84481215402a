from __future__ import annotations

from collections.abc import Callable

from manylabel.data.annotations import Annotations
from manylabel.data.checks.groups import find_group_findings


def test_a_group_in_two_parts_is_an_error_with_its_images(build_table: Callable[..., Annotations]) -> None:
    groups = ["cat", "cat", "dog", "dog", None, None, "cat"]
    parts = ["train", "val", "train", "train", "train", "val", None]
    (finding,) = find_group_findings(build_table([[1]] * 7, "a", groups=groups, parts=parts))
    assert (finding.severity, finding.kind, finding.rows) == ("error", "group-in-two-parts", ("0.jpg", "1.jpg"))
    assert finding.message == "Groups whose images stand in several parts: cat (train, val)."


def test_groups_without_parts_do_not_leak(build_table: Callable[..., Annotations]) -> None:
    assert list(find_group_findings(build_table([[1]] * 2, "a", groups=["x", "x"]))) == []
