"""Splits: parts in which every label has its share, relatives stay together and the seed decides the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from manylabel.data.annotations import Annotations
from manylabel.errors import ConfigError, DataError, build_message, join_names, suggest_name

PART_NAMES = ("train", "val", "test")

_CHUNK_ROWS = 65_536
_ROUNDING = 1e-9
"""Shares are no exact binary numbers: parts whose need differs by less are equally good."""


def split(
    annotations: Annotations, parts: Mapping[str, float], *, seed: int = 0, group: str | None = None
) -> dict[str, Annotations]:
    """Divide a table into parts in which every label has its share, as far as whole images allow.

    Images with the same `group` (or the same value in the extra column `group` names) stay in one part, and carry
    that group in the result. The same images, parts and seed give the same split on every machine and in any order of
    rows. No part is larger than its share of images by more than one image, or one group.

    Args:
        annotations: what to divide.
        parts: the share of each part, such as `{"train": 0.7, "val": 0.15, "test": 0.15}`; shares sum to 1.
        seed: decides between images that are equally good for a part.
        group: the column that names relatives; None uses the records' own groups, where there are any.

    Returns: a table per part, in the order of `parts`, images in the order of the table.

    Raises:
        ConfigError: shares that are not positive or do not sum to 1.
        DataError: fewer groups of images than parts, or no such column.

    Source: Sechidis, Tsoumakas and Vlahavas 2011, "On the stratification of multi-label data", algorithm 1. Here all
        labels of an image choose its part, not only the rarest, each by the share it still lacks there; whole groups
        are placed, and a part that is full gets nothing more.
    """
    shares_P = _check_parts(parts)
    groups = _find_groups(annotations, group)
    units = _Units.build(annotations, groups, seed)
    if len(units.sizes_U) < len(shares_P):
        raise DataError(_describe_too_few(annotations, len(units.sizes_U), len(shares_P)))
    part_N = _place_units(units, shares_P)[units.unit_N]
    names = list(parts)
    records = tuple(
        replace(record, part=names[part], group=group_name)
        for record, part, group_name in zip(annotations.records, part_N, groups, strict=True)
    )
    labelled = replace(annotations, records=records)
    return {name: labelled.select(np.flatnonzero(part_N == position)) for position, name in enumerate(names)}


def split_folds(
    annotations: Annotations, num_folds: int, *, seed: int = 0, group: str | None = None
) -> dict[str, Annotations]:
    """Divide a table into `fold0`, `fold1`, ... of equal shares; see `split`."""
    if num_folds < 2:
        raise ConfigError(build_message("--folds", "too few folds", got=num_folds, expected="2 or more"))
    return split(annotations, {f"fold{fold}": 1 / num_folds for fold in range(num_folds)}, seed=seed, group=group)


@dataclass(frozen=True)
class LabelShare:
    """How many images with a label a part was to get and got."""

    label: str
    part: str
    wanted: float
    got: int


def describe_split(parts: Mapping[str, Annotations], shares: Mapping[str, float]) -> list[LabelShare]:
    """Return for every label and part how many images with the label were wanted and how many it has."""
    space = next(iter(parts.values())).label_space
    counts = {name: part.targets.num_present_L for name, part in parts.items()}
    total_L = np.sum(list(counts.values()), axis=0)
    return [
        LabelShare(label, name, float(total_L[column] * shares[name]), int(counts[name][column]))
        for column, label in enumerate(space)
        for name in parts
    ]


def _check_parts(parts: Mapping[str, float]) -> npt.NDArray[np.float64]:
    shares = np.array(list(parts.values()), np.float64)
    if not len(shares) or not (shares > 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise ConfigError(
            build_message(
                "--parts",
                "shares have to be positive and sum to 1",
                got=dict(parts),
                expected="train=0.7,val=0.15,test=0.15",
            )
        )
    return shares


def _find_groups(annotations: Annotations, column: str | None) -> list[str | None]:
    """Return the group of every image, None for an image without relatives."""
    if column is None or column == "group":
        groups = [record.group for record in annotations.records]
    else:
        groups = [record.extras.get(column) for record in annotations.records]
    if column is not None and not any(groups):
        known = sorted({name for record in annotations.records for name in record.extras})
        raise DataError(
            build_message(
                annotations.name,
                f"no column {column!r} to group by{suggest_name(column, known)}",
                expected=f"one of {join_names(known)}" if known else "a column beside the labels",
            )
        )
    return [group if group else None for group in groups]


def _describe_too_few(annotations: Annotations, num_units: int, num_parts: int) -> str:
    singular, plural = ("image", "images") if num_units == len(annotations) else ("group of images", "groups of images")
    return build_message(
        annotations.name,
        f"{num_units} {singular if num_units == 1 else plural} cannot be divided into {num_parts} parts",
        expected=f"at least {num_parts}",
        do="Add images or ask for fewer parts",
    )


@dataclass(frozen=True)
class _Units:
    """What is placed whole: the images of a group together, and every other image alone.

    Shapes: N images, U units, L labels. `ranks_U` are numbers that depend on the seed and on the unit's name only.
    """

    unit_N: npt.NDArray[np.int64]
    sizes_U: npt.NDArray[np.int64]
    counts_UL: npt.NDArray[np.int32]
    ranks_U: npt.NDArray[np.uint64]

    @classmethod
    def build(cls, annotations: Annotations, groups: list[str | None], seed: int) -> _Units:
        unit_of: dict[str, int] = {}
        unit_N = np.array(
            [
                unit_of.setdefault(f"group {group}" if group is not None else f"image {record.id}", len(unit_of))
                for group, record in zip(groups, annotations.records, strict=True)
            ],
            np.int64,
        )
        counts_UL = np.zeros((len(unit_of), len(annotations.label_space)), np.int32)
        for start in range(0, len(unit_N), _CHUNK_ROWS):
            rows = slice(start, start + _CHUNK_ROWS)
            np.add.at(counts_UL, unit_N[rows], annotations.targets.present_NL(rows))
        ranks_U = np.array([_rank(seed, unit) for unit in unit_of], np.uint64)
        return cls(unit_N, np.bincount(unit_N, minlength=len(unit_of)), counts_UL, ranks_U)


def _rank(seed: int, unit: str) -> int:
    """Return a number from the seed and a name: chance that no version of a library and no order of rows changes."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {unit}".encode(), digest_size=8).digest(), "big")


def _place_units(units: _Units, shares_P: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the part of each unit: label by label, the rarest first, each goes to the part that needs it most.

    What a part needs of a label is the share of its wanted images that it still lacks; its size counts like one more
    label that every image has. Each choice lowers the sum of (got - wanted)^2 / wanted the most. Within a label
    large groups come first: they are hard to place late.

    Shapes: U units, L labels, P parts; K is L + 1, the images themselves being the last column.
    """
    counts_UK = np.column_stack([units.counts_UL, units.sizes_U])
    left_K = counts_UK.sum(axis=0)
    wanted_KP = np.maximum(left_K, 1)[:, None] * shares_P
    need_KP = np.ones_like(wanted_KP)
    part_U = np.full(len(counts_UK), -1, np.int64)
    order_U = np.lexsort((units.ranks_U, -units.sizes_U))
    # The images themselves are the most frequent column, so units without a label come last.
    while left_K.any():
        rarest = int(np.where(left_K > 0, left_K, np.iinfo(left_K.dtype).max).argmin())
        placed = order_U[(part_U[order_U] < 0) & (counts_UK[order_U, rarest] > 0)]
        for unit in placed:
            columns = np.flatnonzero(counts_UK[unit])
            counts_k = counts_UK[unit, columns, None]
            filled_kP = counts_k / wanted_KP[columns]
            # Half of what it fills is taken off: what counts is the need on the way, not before or after.
            gain_P = (counts_k * (need_KP[columns] - filled_kP / 2)).sum(axis=0)
            part = _choose_part(gain_P, need_KP[-1], int(units.ranks_U[unit]))
            need_KP[columns, part] -= filled_kP[:, part]
            part_U[unit] = part
        left_K -= counts_UK[placed].sum(axis=0)
    _fill_empty_parts(part_U, units, len(shares_P))
    return part_U


def _choose_part(gain_P: npt.NDArray[np.float64], room_P: npt.NDArray[np.float64], rank: int) -> int:
    """Return the part with the largest gain among those that are not full; of equal ones chance decides."""
    open_gain_P = np.where(room_P > _ROUNDING, gain_P, -np.inf)
    best_P = np.flatnonzero(open_gain_P >= open_gain_P.max() - _ROUNDING)
    return int(best_P[rank % len(best_P)])


def _fill_empty_parts(part_U: npt.NDArray[np.int64], units: _Units, num_parts: int) -> None:
    """Give every part at least one unit: tables of a few images would else leave one empty."""
    for part in range(num_parts):
        if not (part_U == part).any():
            largest = int(np.bincount(part_U, minlength=num_parts).argmax())
            donors = np.flatnonzero(part_U == largest)
            part_U[donors[np.lexsort((units.ranks_U[donors], units.sizes_U[donors]))[0]]] = part
