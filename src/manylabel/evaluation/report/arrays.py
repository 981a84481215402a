"""Arrays for the page's script: the bytes of numbers as text, a third of the size of the same numbers in JSON."""

from __future__ import annotations

import base64
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

_NARROWEST_UNSIGNED = (np.uint8, np.uint16, np.uint32)


class PackedArray(TypedDict):
    """A flat array: `kind` is the element type as the script names it, `bytes` its little-endian bytes in base64."""

    kind: str
    bytes: str


def pack_counts(counts: npt.NDArray[np.integer[Any]]) -> PackedArray:
    """Return counts from 0 up in the narrowest type that holds them all.

    Example:
        >>> pack_counts(np.array([0, 255]))
        {'kind': 'u1', 'bytes': 'AP8='}
    """
    largest = int(counts.max(initial=0))
    kind = next(kind for kind in _NARROWEST_UNSIGNED if largest <= np.iinfo(kind).max)
    return _pack(np.asarray(counts), np.dtype(kind))


def pack_numbers(numbers: npt.NDArray[np.floating[Any]]) -> PackedArray:
    """Return numbers as 32-bit floats; NaN stays NaN.

    Example:
        >>> pack_numbers(np.array([1.0]))
        {'kind': 'f4', 'bytes': 'AACAPw=='}
    """
    return _pack(numbers, np.dtype(np.float32))


def _pack(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> PackedArray:
    little = np.ascontiguousarray(array, dtype.newbyteorder("<"))
    return {"kind": dtype.str[1:], "bytes": base64.b64encode(little.tobytes()).decode("ascii")}
