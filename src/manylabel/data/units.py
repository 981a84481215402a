"""Units: what a split places whole, images of one group and their relatives together, every other image alone."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.labels.targets import Targets

IntArray = npt.NDArray[np.int64]

_CHUNK_CELLS = 2**24
"""Most cells of the table of labels that are unpacked at once."""


@dataclass(frozen=True)
class Units:
    """The units of a table, numbered in the order in which they are placed: the largest first, then by chance.

    The chance of a unit depends on the seed and on its name only, so neither the order of the rows nor the version
    of a library changes it.

    Shapes: N images, U units, L labels; K is L + 1, the images themselves being the last column. The rows of unit u
    are `rows_N[starts[u]:starts[u + 1]]`.
    """

    targets: Targets
    unit_N: IntArray
    rows_N: IntArray
    starts: IntArray
    ranks_U: npt.NDArray[np.uint64]

    @classmethod
    def build(cls, targets: Targets, names: Sequence[str], seed: int) -> Units:
        """Return the units of a table: images with the same name are one.

        Args:
            names: the unit of every image.
        """
        unit_of: dict[str, int] = {}
        found_N = np.fromiter((unit_of.setdefault(name, len(unit_of)) for name in names), np.int64, len(names))
        sizes_U = np.bincount(found_N, minlength=len(unit_of))
        ranks_U = np.fromiter((_rank(seed, name) for name in unit_of), np.uint64, len(unit_of))
        order_U = np.lexsort((ranks_U, -sizes_U))
        number_U = np.empty_like(order_U)
        number_U[order_U] = np.arange(len(order_U))
        unit_N = number_U[found_N]
        starts = np.concatenate([[0], np.cumsum(sizes_U[order_U])])
        return cls(targets, unit_N, np.argsort(unit_N, kind="stable"), starts, ranks_U[order_U])

    def __len__(self) -> int:
        return len(self.ranks_U)

    @property
    def sizes_U(self) -> IntArray:
        """How many images each unit has."""
        return np.diff(self.starts)

    def find_with_label(self, column: int) -> IntArray:
        """Return the units in which some image has the label, in order; the column after the labels means any."""
        if column == self.targets.num_labels:
            return np.arange(len(self))
        has_U = np.zeros(len(self), bool)
        has_U[self.unit_N[self.targets.present_rows(column)]] = True
        return np.flatnonzero(has_U)

    def count(self, chosen: IntArray) -> IntArray:
        """Return for each chosen unit how many of its images have each label, and how many images it has.

        Shapes: [chosen, K].
        """
        sizes = self.sizes_U[chosen]
        counts = np.zeros((len(chosen), self.targets.num_labels + 1), np.int64)
        counts[:, -1] = sizes
        owner = np.repeat(np.arange(len(chosen)), sizes)
        # The rows of the chosen units, one unit after another.
        rows = self.rows_N[np.arange(len(owner)) + np.repeat(self.starts[chosen] - np.cumsum(sizes) + sizes, sizes)]
        step = max(1, _CHUNK_CELLS // counts.shape[1])
        for start in range(0, len(rows), step):
            owners = owner[start : start + step]
            firsts = np.flatnonzero(np.diff(owners, prepend=-1))
            present = self.targets.present_NL(rows[start : start + step])
            counts[owners[firsts], :-1] += np.add.reduceat(present, firsts, axis=0, dtype=np.int64)
        return counts

    def count_by_part(self, part_U: IntArray, num_parts: int) -> IntArray:
        """Return how many images with each label, and how many images, the parts have; -1 is no part.

        Shapes: [K, parts].
        """
        part_N = part_U[self.unit_N]
        tables = [self.targets.select(np.flatnonzero(part_N == part)) for part in range(num_parts)]
        return np.array([[*table.num_present_L.tolist(), len(table)] for table in tables], np.int64).T


def name_units(
    images: Sequence[str], groups: Sequence[str | None], relatives: Sequence[Collection[str]] = ()
) -> list[str]:
    """Return the name of each image's unit: that of its group or its own, and of united ones the smallest.

    Args:
        images: the ids, each once.
        groups: the group of every image, None for an image without one.
        relatives: sets of ids of the table that belong together besides.
    """
    names = [
        f"image {image}" if group is None else f"group {group}" for image, group in zip(images, groups, strict=True)
    ]
    row_of = {image: row for row, image in enumerate(images)} if relatives else {}
    leader_of: dict[str, str] = {}

    def find_leader(name: str) -> str:
        while name in leader_of:
            leader = leader_of[name]
            leader_of[name] = leader_of.get(leader, leader)  # each visit shortens the way of the next one
            name = leader
        return name

    for family in relatives:
        leaders = sorted({find_leader(names[row_of[image]]) for image in family})
        leader_of.update((other, leaders[0]) for other in leaders[1:])
    return [find_leader(name) for name in names] if leader_of else names


def unit_to_group(name: str) -> str:
    """Return what the group column says of a unit; one that is named after an image reads `like IMAGE`.

    Example:
        >>> unit_to_group("group film 3"), unit_to_group("image a.jpg")
        ('film 3', 'like a.jpg')
    """
    kind, _, rest = name.partition(" ")
    return rest if kind == "group" else f"like {rest}"


def _rank(seed: int, unit: str) -> int:
    """Return a number from the seed and a name: chance that no version of a library and no order of rows changes."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {unit}".encode(), digest_size=8).digest(), "big")
