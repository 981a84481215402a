"""Cells: which of the three states a written value stands for, by the policies of whoever reads.

| written | means |
|---|---|
| 1, 1.0, true | present |
| 0, 0.0, false | absent |
| nothing, NaN, ? | what `blank` says: unknown (nobody looked) or absent |
| -1 | what `uncertain` says: unknown, absent or present (CheXpert writes it where a report is not sure) |
| a number between 0 and 1 | `soft` = (low, high): up to low absent, from high present, between them unknown |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from manylabel.data.formats.format import ReadOptions

PRESENT, ABSENT, UNKNOWN, STRANGE = 1, 0, -1, -2
StateArray = npt.NDArray[np.int8]

STATE_OF_CELL: Mapping[str, int] = {
    "1": PRESENT, "1.0": PRESENT, "true": PRESENT,
    "0": ABSENT, "0.0": ABSENT, "false": ABSENT,
}  # fmt: skip
BLANK_CELLS = ("", "nan", "?")
UNCERTAIN_CELLS = ("-1", "-1.0")
STATE_OF_WORD: Mapping[str, int] = {"present": PRESENT, "absent": ABSENT, "unknown": UNKNOWN}

EXPECTED_CELL = "1, 0, or for unknown: empty, NaN, -1 or ?"


def read_cell(cell: str, options: ReadOptions) -> int:
    """Return PRESENT, ABSENT or UNKNOWN; STRANGE for what is none of them.

    Example:
        >>> read_cell("-1", ReadOptions()), read_cell("-1", ReadOptions(uncertain="present"))
        (-1, 1)
        >>> read_cell("0.8", ReadOptions()), read_cell("0.8", ReadOptions(soft=(0.3, 0.7)))
        (-2, 1)
    """
    word = cell.strip().lower()
    if word in STATE_OF_CELL:
        return STATE_OF_CELL[word]
    if word in BLANK_CELLS:
        return STATE_OF_WORD[options.blank]
    if word in UNCERTAIN_CELLS:
        return STATE_OF_WORD[options.uncertain]
    value = read_soft(word)
    if value is None or options.soft is None:
        return STRANGE
    low, high = options.soft
    return PRESENT if value >= high else ABSENT if value <= low else UNKNOWN


def read_cells(cells: Iterable[str], options: ReadOptions) -> StateArray:
    """Return the state of each cell."""
    return np.array([read_cell(cell, options) for cell in cells], np.int8)


def read_soft(word: str) -> float | None:
    """Return a number between 0 and 1; None for anything else.

    Numbers are written in digits: `1e-3` is one, `infinity` and `1_0` are none.
    """
    if not word or word.strip("0123456789.e-+"):
        return None
    try:
        value = float(word)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None
