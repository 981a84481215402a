"""Relatives in two parts: what a model has seen while it trained is no test of it."""

from __future__ import annotations

from collections.abc import Iterator

from manylabel.data.annotations import Annotations
from manylabel.data.findings import Finding, build_finding
from manylabel.errors import join_names


def find_group_findings(annotations: Annotations) -> Iterator[Finding]:
    """Yield the groups of which some images stand in one part and some in another."""
    parts_of: dict[str, set[str]] = {}
    for record in annotations.records:
        if record.group and record.part:
            parts_of.setdefault(record.group, set()).add(record.part)
    leaking = {group: sorted(parts) for group, parts in parts_of.items() if len(parts) > 1}
    if leaking:
        shown = join_names([f"{group} ({', '.join(parts)})" for group, parts in leaking.items()])
        images = (record.id for record in annotations.records if record.part and record.group in leaking)
        yield build_finding("group-in-two-parts", f"Groups whose images stand in several parts: {shown}.", images)
