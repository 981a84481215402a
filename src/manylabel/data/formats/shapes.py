"""Shapes as JSON files write them: boxes, polygons and run lengths, checked before they become regions."""

from __future__ import annotations

from typing import Any

from manylabel.data.formats.problems import Problems
from manylabel.data.regions import Mask

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels."""

_LARGEST = 1e12
"""No coordinate and no count is as large; NaN is not below it either, and JSON's whole numbers have no limit."""


def are_numbers(values: Any) -> bool:
    """Tell whether a value is a list of finite numbers of a sensible size; true and false are none."""
    return isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST for value in values
    )


def read_box(where: str, value: Any, problems: Problems) -> Box | None:
    """Return a box; None where there is none, or where a problem was noted."""
    if value is None or value == []:
        return None
    if not are_numbers(value) or len(value) != 4 or value[2] < 0 or value[3] < 0:
        problems.add(where, "no box", got=value, expected="[left, top, width, height] in pixels")
        return None
    left, top, width, height = map(float, value)
    return left, top, width, height


def read_polygons(where: str, value: Any, problems: Problems) -> tuple[tuple[float, ...], ...]:
    """Return polygons of three corners or more; none of them where a problem was noted."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(are_numbers(points) for points in value):
        problems.add(where, "no list of polygons", got=value, expected="[[x1, y1, x2, y2, ...]]")
        return ()
    if any(len(points) < 6 or len(points) % 2 for points in value):
        problems.add(where, "a polygon with less than three corners", got=value, expected="[[x1, y1, x2, y2, ...]]")
        return ()
    return tuple(tuple(map(float, points)) for points in value)


def read_mask(where: str, value: Any, problems: Problems) -> Mask | None:
    """Return a mask of run lengths, plain or compressed; None where there is none, or where a problem was noted."""
    if value is None:
        return None
    size = value.get("size") if isinstance(value, dict) else None
    counts = value.get("counts") if isinstance(value, dict) else None
    counts = decompress_counts(counts) if isinstance(counts, str) else counts
    if isinstance(size, list) and isinstance(counts, list) and len(size) == 2 and are_numbers([*size, *counts]):
        are_whole = all(number == int(number) and number >= 0 for number in (*size, *counts))
        if are_whole and size[0] * size[1] > 0 and sum(counts) == size[0] * size[1]:
            return Mask(int(size[0]), int(size[1]), tuple(map(int, counts)))
    expected = '{"size": [height, width], "counts": ...} whose counts add up to all pixels'
    problems.add(where, "no mask", got=value, expected=expected)
    return None


def decompress_counts(text: str) -> list[int] | None:
    """Return the run lengths that a compressed text stands for; None where it is none.

    Five bits per character, the sixth says that more follow; from the fourth number on what stands there is the
    difference to the number two before.

    Example:
        >>> decompress_counts("13203ON2")
        [1, 3, 2, 3, 5, 2, 3, 4]
    """
    counts: list[int] = []
    number, shift = 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 50:
            return None
        number |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            number -= 1 << shift
        counts.append(number + counts[-2] if len(counts) > 2 else number)
        number, shift = 0, 0
    return counts if shift == 0 else None
