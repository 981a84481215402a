"""What differs between two tables of the same images: used to say what a layout could not hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.errors import join_names

_SHOWN = 3

_FIELDS: Mapping[str, Callable[[ImageRecord], object]] = {
    "groups": lambda record: record.group,
    "parts": lambda record: record.part,
    "extra columns": lambda record: {name: value for name, value in record.extras.items() if value},
    "regions": lambda record: record.regions,
}


def find_differences(before: Annotations, after: Annotations) -> dict[str, str]:
    """Return what `after` has otherwise than `before`, by the name of what differs, as a sentence each.

    The order of rows does not matter, nor does where the files lie. Names: `images`, `labels` (names or their order),
    `cells`, `groups`, `parts`, `extra columns`, `regions`. Cells are compared for the images and labels that both
    have, an empty extra is none.

    Example:
        >>> from manylabel.data.annotations import annotations_from_arrays
        >>> table = annotations_from_arrays(np.zeros((2, 8, 8), np.uint8), [["cat"], []])
        >>> find_differences(table, table), find_differences(table, table.select([1]))["images"]
        ({}, 'images that only one of the two has: arrays/00000')
    """
    row_of = {image: row for row, image in enumerate(after.images)}
    lost = [image for image in before.images if image not in row_of]
    new = set(after.images) - set(before.images)
    differences: dict[str, str] = {}
    if lost or new:
        shown = join_names([*lost, *sorted(new)])
        differences["images"] = f"images that only one of the two has: {shown}"
    if before.label_space.names != after.label_space.names:
        one_sided = sorted(set(before.label_space.names) ^ set(after.label_space.names))
        differences["labels"] = (
            f"labels that only one of the two has: {join_names(one_sided)}" if one_sided else "the order of the labels"
        )
    rows = [row for row, image in enumerate(before.images) if image in row_of]
    others = [row_of[before.images[row]] for row in rows]
    num_cells = _count_different_cells(before, after, rows, others)
    if num_cells:
        differences["cells"] = f"cells whose state differs: {num_cells:,}"
    for name, value_of in _FIELDS.items():
        differing = [
            before.images[row]
            for row, other in zip(rows, others, strict=True)
            if value_of(before.records[row]) != value_of(after.records[other])
        ]
        if differing:
            differences[name] = f"{name} of {len(differing):,} images: {join_names(differing, _SHOWN)}"
    return differences


def _count_different_cells(before: Annotations, after: Annotations, rows: list[int], others: list[int]) -> int:
    shared = [name for name in before.label_space if name in after.label_space]
    first = before.targets.select(rows).select_labels([before.label_space.index(name) for name in shared])
    second = after.targets.select(others).select_labels([after.label_space.index(name) for name in shared])
    different = (first.present_bits ^ second.present_bits) | (first.known_bits ^ second.known_bits)
    return int(np.bitwise_count(different).sum())
