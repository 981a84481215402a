"""Placing: the part of every unit, so that each label has its share in each part.

The arithmetic that decides is done on Python's own numbers, one at a time: they are the same on every machine, and
for the few labels of an image they are faster than arrays.
"""

from __future__ import annotations

import numpy as np

from manylabel.data.spreading import BoolArray, FloatArray, spread_labels
from manylabel.data.units import IntArray, Units

_BLOCK_UNITS = 8192
_ROUNDING = 1e-9
"""Shares are no exact binary numbers: parts whose need differs by less are equally good."""


def place_units(units: Units, shares_P: FloatArray, kept_U: IntArray | None = None) -> IntArray:
    """Return the part of each unit: label by label, the rarest first, each goes to the part that needs it most.

    What a part needs of a label is the share of its wanted images that it still lacks; its size counts like one more
    label that every image has. Each choice lowers the sum of (got - wanted)^2 / wanted the most. Within a label
    large groups come first: they are hard to place late. At the end, swaps bring each label into every part.

    Args:
        kept_U: the parts of units that have one already, -1 for the others; None where none has.

    Shapes: U units, L labels, P parts; K is L + 1, the images themselves being the last column.
    """
    part_U = np.full(len(units), -1, np.int64) if kept_U is None else kept_U.copy()
    is_free_U = part_U < 0
    total_K = np.append(units.targets.num_present_L, len(units.targets))
    wanted_KP = np.maximum(total_K, 1)[:, None] * shares_P
    got_KP = units.count_by_part(part_U, len(shares_P))
    left_K = total_K - got_KP.sum(axis=1)
    wanted, need = wanted_KP.tolist(), (1 - got_KP / wanted_KP).tolist()
    # The images themselves are the most frequent column, so units without a label come last.
    while left_K.any():
        rarest = int(np.where(left_K > 0, left_K, np.iinfo(left_K.dtype).max).argmin())
        chosen = units.find_with_label(rarest)
        chosen = chosen[part_U[chosen] < 0]
        for start in range(0, len(chosen), _BLOCK_UNITS):
            block = chosen[start : start + _BLOCK_UNITS]
            counts_BK = units.count(block)
            part_U[block] = _place_block(counts_BK, units.ranks_U[block].tolist(), wanted, need)
            left_K -= counts_BK.sum(axis=0)
    _fill_empty_parts(part_U, is_free_U, units, len(shares_P))
    spread_labels(part_U, is_free_U, units, wanted_KP)
    return part_U


def _place_block(
    counts_BK: IntArray, ranks: list[int], wanted: list[list[float]], need: list[list[float]]
) -> list[int]:
    """Return the part of each unit of a block, one after another, and take off `need` what each fills."""
    owners, columns = np.nonzero(counts_BK)
    counts = counts_BK[owners, columns].tolist()
    ends = np.cumsum(np.bincount(owners, minlength=len(counts_BK))).tolist()
    flat_columns: list[int] = columns.tolist()
    room, parts = need[-1], range(len(need[-1]))
    placed, start = [], 0
    for rank, end in zip(ranks, ends, strict=True):
        gain = [0.0] * len(room)
        for position in range(start, end):
            column, count = flat_columns[position], counts[position]
            column_need, column_wanted = need[column], wanted[column]
            for part in parts:
                # Half of what it fills is taken off: what counts is the need on the way, not before or after.
                gain[part] += count * (column_need[part] - count / column_wanted[part] / 2)
        part = _choose_part(gain, room, rank)
        for position in range(start, end):
            column = flat_columns[position]
            need[column][part] -= counts[position] / wanted[column][part]
        placed.append(part)
        start = end
    return placed


def _choose_part(gain: list[float], room: list[float], rank: int) -> int:
    """Return the part with the largest gain among those that are not full; of equal ones chance decides."""
    open_parts = [part for part, left in enumerate(room) if left > _ROUNDING]
    least = max([gain[part] for part in open_parts]) - _ROUNDING
    best = [part for part in open_parts if gain[part] >= least]
    return best[rank % len(best)]


def _fill_empty_parts(part_U: IntArray, is_free_U: BoolArray, units: Units, num_parts: int) -> None:
    """Give every part at least one unit: tables of a few images would else leave one empty."""
    for part in range(num_parts):
        size_P = np.bincount(part_U, minlength=num_parts)
        if not size_P[part]:
            donors = np.flatnonzero(is_free_U & (size_P[part_U] > 1))
            donors = donors[size_P[part_U[donors]] == size_P[part_U[donors]].max()]
            donors = donors[part_U[donors] == part_U[donors].min()]
            part_U[donors[units.sizes_U[donors].argmin()]] = part
