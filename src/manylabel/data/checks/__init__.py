"""The doctor: what a person should know about a table before an epoch is spent on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from manylabel.data.annotations import Annotations
from manylabel.data.checks.groups import find_group_findings
from manylabel.data.checks.images import find_file_findings
from manylabel.data.checks.labels import find_label_findings
from manylabel.data.checks.names import find_name_findings
from manylabel.data.checks.pairs import find_pair_findings
from manylabel.data.checks.text_columns import find_text_column_findings
from manylabel.data.findings import Finding
from manylabel.data.splits import PART_NAMES

__all__ = ["find_file_findings", "find_findings", "find_table_findings"]


def find_findings(annotations: Annotations, parts: Sequence[str] = PART_NAMES) -> list[Finding]:
    """Return what the reader noticed and what the table alone tells; no image is opened.

    Args:
        parts: the parts that are wanted of a table that has none yet.
    """
    return [*annotations.findings, *find_table_findings(annotations, parts)]


def find_table_findings(annotations: Annotations, parts: Sequence[str] = PART_NAMES) -> Iterator[Finding]:
    """Yield what names, cells, groups and text columns tell."""
    yield from find_group_findings(annotations)
    yield from find_name_findings(annotations)
    yield from find_label_findings(annotations, parts)
    yield from find_pair_findings(annotations)
    yield from find_text_column_findings(annotations)
