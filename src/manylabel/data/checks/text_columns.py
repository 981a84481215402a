"""Text columns that list the labels once more, beside a column per label: whether the two agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from manylabel.data.annotations import Annotations
from manylabel.data.checks.names import fold_name
from manylabel.data.findings import Finding, build_finding
from manylabel.data.formats.delimited import split_label_cells
from manylabel.errors import join_names

MIN_SHARE_OF_LABELS = 0.8
"""Which share of the names in a text column have to be labels of the table for it to be a list of them."""


def find_text_column_findings(annotations: Annotations) -> Iterator[Finding]:
    """Yield extra columns that list labels of the table, and the images for which they say something else."""
    for column in dict.fromkeys(name for record in annotations.records for name in record.extras):
        yield from _compare_column(annotations, column)


def _compare_column(annotations: Annotations, column: str) -> Iterator[Finding]:
    cells = [record.extras.get(column, "") for record in annotations.records]
    distinct = list(dict.fromkeys(cells))
    named_in = dict(zip(distinct, split_label_cells(distinct), strict=True))
    column_of = {fold_name(label): place for place, label in enumerate(annotations.label_space)}
    mentions = Counter(name for cell in cells for name in named_in[cell])
    others = [name for name in mentions if fold_name(name) not in column_of]
    num_mentions = mentions.total()
    if not num_mentions or num_mentions - sum(mentions[name] for name in others) < MIN_SHARE_OF_LABELS * num_mentions:
        return
    columns_in = {cell: {column_of.get(fold_name(name)) for name in named} for cell, named in named_in.items()}
    disagreeing = [
        record.id
        for row, (record, cell) in enumerate(zip(annotations.records, cells, strict=True))
        if named_in[cell] and not _agrees(annotations, row, columns_in[cell])
    ]
    where = f"Column {column!r} is text that lists the labels again: it was not read, but kept as an extra"
    unknown = f" It also names {join_names(others)}, which have no column." if others else ""
    if disagreeing:
        message = f"{where}. They disagree for {len(disagreeing):,} images: {join_names(disagreeing)}.{unknown}"
        yield build_finding("contradicting-column", message, disagreeing)
    else:
        yield build_finding("text-column", f"{where}. The two agree for every image.{unknown}", (column,))


def _agrees(annotations: Annotations, row: int, listed: set[int | None]) -> bool:
    """Tell whether all that a cell lists is present or unknown, and all that is present is listed."""
    present = set(annotations.targets.present_columns(row))
    return present <= listed and listed <= {None, *present, *annotations.targets.unknown_columns(row)}
