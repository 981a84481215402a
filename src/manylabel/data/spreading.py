"""Spreading: swaps between parts that bring a label into a part that has none of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.data.units import IntArray, Units

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_MAX_GIVEN = 64
_MAX_TAKEN = 1024
"""Most units on either side of a swap that are compared, the smallest ones: they are the easiest to move."""

_COST_STEPS = 1000
"""Costs are compared in whole thousandths: sums of whole numbers are the same on every machine."""


def spread_labels(part_U: IntArray, is_free_U: BoolArray, units: Units, wanted_KP: FloatArray) -> None:
    """Swap units, in place, until no swap would bring more labels into parts that have none of them.

    Only labels that at least as many units have as there are parts count: the others cannot be everywhere. A unit
    goes only into a part that has room, as when it was placed. Of the swaps that bring the most labels, the one that
    disturbs the shares least is made.

    Args:
        part_U: the part of every unit.
        is_free_U: which units may move.
        wanted_KP: how many images each part is to have of each label, and in all.

    Shapes: U units, L labels, P parts; K is L + 1, the images themselves being the last column.
    """
    num_parts = wanted_KP.shape[1]
    got_KP = units.count_by_part(part_U, num_parts)
    is_lacking_L = (got_KP[:-1] == 0).any(axis=1)
    if not (is_lacking_L & (got_KP[:-1].sum(axis=1) >= num_parts)).any():
        return
    cover_LP = np.array(
        [np.bincount(part_U[units.find_with_label(label)], minlength=num_parts) for label in range(len(is_lacking_L))]
    )
    tally = _Tally(units, part_U, is_free_U, wanted_KP, got_KP, cover_LP, cover_LP.sum(axis=1) >= num_parts)
    num_brought = 1
    while num_brought:
        num_brought = sum(tally.bring(label, part) for label, part in tally.find_lacking())


@dataclass(frozen=True)
class _Tally:
    """What the parts have while units are swapped: the arrays change.

    Shapes: `cover_LP` holds in how many units of a part a label is, `is_wanted_L` which labels are to be everywhere.
    """

    units: Units
    part_U: IntArray
    is_free_U: BoolArray
    wanted_KP: FloatArray
    got_KP: IntArray
    cover_LP: IntArray
    is_wanted_L: BoolArray

    def find_lacking(self) -> list[tuple[int, int]]:
        """Return the pairs of a label and a part that has none of it, the rarest label first."""
        labels, parts = np.nonzero((self.cover_LP == 0) & self.is_wanted_L[:, None])
        order = np.lexsort((parts, labels, self.got_KP[labels].sum(axis=1)))
        return list(zip(labels[order].tolist(), parts[order].tolist(), strict=True))

    def bring(self, label: int, part: int) -> bool:
        """Bring a label into a part by the best swap; return whether there was one."""
        holders = self.units.find_with_label(label)
        given = holders[self.is_free_U[holders] & (self.part_U[holders] != part)][-_MAX_GIVEN:]
        taken = np.flatnonzero(self.is_free_U & (self.part_U == part))[-_MAX_TAKEN:]
        if self.cover_LP[label, part] or not len(given):
            return False  # an earlier swap brought it along, or nothing may move
        given_DK = self.units.count(given)
        taken_CK = np.vstack([self.units.count(taken), np.zeros_like(given_DK[:1])])  # the last gives nothing back
        from_D = self.part_U[given]
        gain_DC = self._count_gains(given_DK[:, :-1], taken_CK[:, :-1], from_D, part)
        gain_DC[~self._find_room(given_DK[:, -1], taken_CK[:, -1], from_D, part)] = 0
        if gain_DC.max() < 1:
            return False
        cost_DC = self._sum_costs(given_DK, taken_CK, from_D, part)
        cost_DC[gain_DC < gain_DC.max()] = np.iinfo(cost_DC.dtype).max
        best, back = np.unravel_index(cost_DC.argmin(), cost_DC.shape)
        self._move(int(given[best]), given_DK[best], part)
        if back < len(taken):
            self._move(int(taken[back]), taken_CK[back], int(from_D[best]))
        return True

    def _move(self, unit: int, counts_K: IntArray, part: int) -> None:
        for sign, place in ((-1, self.part_U[unit]), (1, part)):
            self.got_KP[:, place] += sign * counts_K
            self.cover_LP[:, place] += sign * (counts_K[:-1] > 0)
        self.part_U[unit] = part

    def _count_gains(self, given_DL: IntArray, taken_CL: IntArray, from_D: IntArray, part: int) -> IntArray:
        """Return how many more pairs of a label and a part that has it there are after each swap.

        Shapes: D units that may be given to the part, from the parts `from_D`; C units that may go back.
        """
        has_DL, has_CL = given_DL[:, self.is_wanted_L] > 0, taken_CL[:, self.is_wanted_L] > 0
        cover_PL = self.cover_LP[self.is_wanted_L].T
        lacks_DL, is_single_DL = cover_PL[from_D] == 0, (cover_PL[from_D] == 1) & has_DL
        brought_D = (has_DL & (cover_PL[part] == 0)).sum(axis=1) - is_single_DL.sum(axis=1)
        # What goes back brings what is lacking there, or has just been given away, and takes what is single here.
        back_DL = (lacks_DL | is_single_DL).astype(np.int64) - ((cover_PL[part] == 1) & ~has_DL)
        return np.asarray(brought_D[:, None] + back_DL @ has_CL.T.astype(np.int64))

    def _find_room(self, given_D: IntArray, taken_C: IntArray, from_D: IntArray, part: int) -> BoolArray:
        """Return which swaps the sizes of the parts allow, by the number of images of each unit."""
        got_P, wanted_P = self.got_KP[-1], self.wanted_KP[-1]
        has_room_C = got_P[part] - taken_C < wanted_P[part]
        has_room_D = got_P[from_D] - given_D < wanted_P[from_D]
        keeps_some_D = got_P[from_D] > given_D
        return np.asarray(has_room_C & np.where(taken_C > 0, has_room_D[:, None], keeps_some_D[:, None]))

    def _sum_costs(self, given_DK: IntArray, taken_CK: IntArray, from_D: IntArray, part: int) -> IntArray:
        """Return how much each swap adds to the sum of (got - wanted)^2 / wanted, in thousandths."""
        excess_PK = 2 * (self.got_KP - self.wanted_KP).T / self.wanted_KP.T
        slope_DK = np.rint(_COST_STEPS * (excess_PK[part] - excess_PK[from_D])).astype(np.int64)
        curve_DK = np.rint(_COST_STEPS * (1 / self.wanted_KP.T[part] + 1 / self.wanted_KP.T[from_D])).astype(np.int64)
        # With x = given - taken, the sum over the columns of slope x + curve x^2.
        alone_D = (given_DK * (slope_DK + curve_DK * given_DK)).sum(axis=1)
        return np.asarray(
            alone_D[:, None] - (slope_DK + 2 * curve_DK * given_DK) @ taken_CK.T + curve_DK @ (taken_CK**2).T
        )
