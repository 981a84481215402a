"""Splits: parts in which every label has its share, relatives stay together and the seed decides the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from manylabel.data.annotations import Annotations
from manylabel.data.placing import place_units
from manylabel.data.units import Units, name_units
from manylabel.errors import ConfigError, DataError, build_message, join_names, suggest_name

PART_NAMES = ("train", "val", "test")


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
    units = Units.build(annotations.targets, name_units(annotations.images, groups), seed)
    if len(units) < len(shares_P):
        raise DataError(_describe_too_few(annotations, len(units), len(shares_P)))
    part_N = place_units(units, shares_P)[units.unit_N]
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
