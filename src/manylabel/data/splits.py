"""Splits: parts in which every label has its share, relatives stay together and the seed decides the rest."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.data.annotations import Annotations
from manylabel.errors import ConfigError, DataError, build_message, join_names

PART_NAMES = ("train", "val", "test")


def split(
    annotations: Annotations, parts: Mapping[str, float], *, seed: int = 0, group: str | None = None
) -> dict[str, Annotations]:
    """Divide a table into parts in which every label has its share, as far as whole images allow.

    Images with the same `group` (or the same value in the extra column `group` names) stay in one part. The same
    table, parts and seed give the same split on every machine.

    Args:
        annotations: what to divide.
        parts: the share of each part, such as `{"train": 0.7, "val": 0.15, "test": 0.15}`; shares sum to 1.
        seed: decides between images that are equally good for a part.
        group: the column that names relatives; None uses the records' own groups, where there are any.

    Returns: a table per part, in the order of `parts`, images in the order of the table.

    Raises:
        ConfigError: shares that are not positive or do not sum to 1.
        DataError: fewer groups of images than parts, or no such column.

    Source: Sechidis, Tsoumakas and Vlahavas 2011, "On the stratification of multi-label data", algorithm 1; here
        whole groups are placed, and images without a label are placed last.
    """
    shares = _check_parts(parts)
    unit_N = _find_units(annotations, group)
    num_units = int(unit_N.max()) + 1 if len(unit_N) else 0
    if num_units < len(shares):
        unit_name = "image" if num_units == len(annotations) else "group of images"
        raise DataError(
            build_message(
                annotations.name,
                f"{num_units} {unit_name}{'s' if num_units != 1 else ''} cannot be divided into {len(shares)} parts",
                expected=f"at least {len(shares)}",
                do="Add images or ask for fewer parts",
            )
        )
    counts_UL = _count_units(annotations, unit_N, num_units)
    part_U = _place_units(counts_UL, np.bincount(unit_N, minlength=num_units), shares, seed)
    part_N = part_U[unit_N]
    names = list(parts)
    labelled = annotations.with_parts(
        {record.id: names[part] for record, part in zip(annotations.records, part_N, strict=True)}
    )
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


def _find_units(annotations: Annotations, column: str | None) -> npt.NDArray[np.int64]:
    """Number the units that are placed whole: images with the same group, and every image without one."""
    if column is None or column == "group":
        groups = [record.group for record in annotations.records]
    else:
        groups = [record.extras.get(column) for record in annotations.records]
    if column is not None and not any(groups):
        known = sorted({name for record in annotations.records[:1] for name in record.extras})
        raise DataError(
            build_message(
                annotations.name,
                f"no column {column!r} to group by",
                expected=join_names(known) if known else "a column beside the labels",
            )
        )
    unit_of: dict[tuple[str, str], int] = {}
    return np.array(
        [
            unit_of.setdefault(("group", group) if group else ("image", record.id), len(unit_of))
            for group, record in zip(groups, annotations.records, strict=True)
        ],
        np.int64,
    )


def _count_units(annotations: Annotations, unit_N: npt.NDArray[np.int64], num_units: int) -> npt.NDArray[np.int32]:
    counts_UL = np.zeros((num_units, len(annotations.label_space)), np.int32)
    step = 65_536
    for start in range(0, len(unit_N), step):
        rows = slice(start, start + step)
        np.add.at(counts_UL, unit_N[rows], annotations.targets.present_NL(rows))
    return counts_UL


def _place_units(
    counts_UL: npt.NDArray[np.int32], sizes_U: npt.NDArray[np.int64], shares_P: npt.NDArray[np.float64], seed: int
) -> npt.NDArray[np.int64]:
    """Place each unit where its rarest label is missed most; ties go to the emptiest part, then to the seed."""
    rng = np.random.default_rng(seed)
    missed_LP = counts_UL.sum(axis=0)[:, None] * shares_P
    room_P = sizes_U.sum() * shares_P
    part_U = np.full(len(counts_UL), -1, np.int64)
    order_U = rng.permutation(len(counts_UL))
    # Large groups first within a label: they are hard to place late.
    order_U = order_U[np.argsort(-sizes_U[order_U], kind="stable")]

    def place(unit: int, missed_P: npt.NDArray[np.float64]) -> None:
        best_P = np.flatnonzero(missed_P >= missed_P.max() - 1e-9)
        if len(best_P) > 1:
            room_best_P = room_P[best_P]
            best_P = best_P[room_best_P >= room_best_P.max() - 1e-9]
        part = int(best_P[0] if len(best_P) == 1 else rng.choice(best_P))
        part_U[unit] = part
        missed_LP[:, part] -= counts_UL[unit]
        room_P[part] -= sizes_U[unit]

    for label, units in _rarest_first(counts_UL, order_U, part_U):
        for unit in units:
            place(int(unit), missed_LP[label])
    for unit in order_U[part_U[order_U] < 0]:
        place(int(unit), room_P)
    _fill_empty_parts(part_U, sizes_U, len(shares_P))
    return part_U


def _rarest_first(counts_UL, order_U, part_U):  # type: ignore[no-untyped-def]
    """Yield (label, units not placed yet that have it), always the label with the fewest images left."""
    has_UL = counts_UL > 0
    done: set[int] = set()
    heap = [(int(count), label) for label, count in enumerate(counts_UL.sum(axis=0)) if count > 0]
    heapq.heapify(heap)
    while heap:
        count, label = heapq.heappop(heap)
        units = order_U[has_UL[order_U, label] & (part_U[order_U] < 0)]
        left = int(counts_UL[units, label].sum())
        if label in done or left == 0:
            continue
        if left < count and heap and left > heap[0][0]:
            heapq.heappush(heap, (left, label))
            continue
        done.add(label)
        yield label, units


def _fill_empty_parts(part_U: npt.NDArray[np.int64], sizes_U: npt.NDArray[np.int64], num_parts: int) -> None:
    """Give every part at least one unit: tables of a few images would else leave one empty."""
    for part in range(num_parts):
        if not (part_U == part).any():
            largest = int(np.bincount(part_U, minlength=num_parts).argmax())
            donors = np.flatnonzero(part_U == largest)
            part_U[donors[sizes_U[donors].argmin()]] = part
