"""Splits: parts in which every label has its share, relatives stay together and the seed decides the rest."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from manylabel.data.annotations import Annotations
from manylabel.data.placing import place_units
from manylabel.data.units import Units, name_units, unit_to_group
from manylabel.errors import ConfigError, DataError, build_message, join_names, suggest_name

PART_NAMES = ("train", "val", "test")

_IGNORE = ", or let duplicates part with --near-duplicates ignore"


def split(
    annotations: Annotations,
    parts: Mapping[str, float],
    *,
    seed: int = 0,
    group: str | None = None,
    relatives: Sequence[Collection[str]] = (),
    keep_parts: bool = False,
) -> dict[str, Annotations]:
    """Divide a table into parts in which every label has its share, as far as whole images allow.

    Images with the same `group` (or the same value in the extra column `group` names) stay in one part, and carry
    that group in the result; so do `relatives`, of which those without a group get one. The same images, parts and
    seed give the same split on every machine and in any order of rows. No part is larger than its share of images by
    more than one image, or one group. A label that enough images have is in every part, wherever swapping two images
    or groups can bring it there.

    Args:
        annotations: what to divide.
        parts: the share of each part, such as `{"train": 0.7, "val": 0.15, "test": 0.15}`; shares sum to 1.
        seed: decides between images that are equally good for a part.
        group: the column that names relatives; None uses the records' own groups, where there are any.
        relatives: sets of ids of images that stay together besides, such as near duplicates.
        keep_parts: whether an image that has a part keeps it, so that only the others are placed, each where its
            relatives are or where most is lacking.

    Returns: a table per part, in the order of `parts`, images in the order of the table.

    Raises:
        ConfigError: shares that are not positive or do not sum to 1, or parts of images that are not among them.
        DataError: fewer groups of images than parts, no such column, relatives that the table lacks, or relatives
            whose parts are to be kept but differ.

    Source: Sechidis, Tsoumakas and Vlahavas 2011, "On the stratification of multi-label data", algorithm 1. Here all
        labels of an image choose its part, not only the rarest, each by the share it still lacks there; whole groups
        are placed, and a part that is full gets nothing more.
    """
    shares_P = _check_parts(parts)
    names = list(parts)
    groups = _find_groups(annotations, group)
    _check_relatives(annotations, relatives)
    unit_names = name_units(annotations.images, groups, relatives)
    groups = _name_relatives(groups, unit_names)
    units = Units.build(annotations.targets, unit_names, seed)
    kept_U = np.full(len(units), -1, np.int64)
    if keep_parts:
        kept_U = _find_kept_parts(annotations, names, groups, units, bool(relatives))
    _check_enough(annotations, names, units, kept_U, bool(relatives))
    part_N = place_units(units, shares_P, kept_U)[units.unit_N]
    records = tuple(
        replace(record, part=names[part], group=group_name)
        for record, part, group_name in zip(annotations.records, part_N.tolist(), groups, strict=True)
    )
    labelled = replace(annotations, records=records)
    return {name: labelled.select(np.flatnonzero(part_N == position)) for position, name in enumerate(names)}


def split_folds(
    annotations: Annotations,
    num_folds: int,
    *,
    seed: int = 0,
    group: str | None = None,
    relatives: Sequence[Collection[str]] = (),
    keep_parts: bool = False,
) -> dict[str, Annotations]:
    """Divide a table into `fold0`, `fold1`, ... of equal shares; see `split`."""
    if num_folds < 2:
        raise ConfigError(build_message("--folds", "too few folds", got=num_folds, expected="2 or more"))
    shares = {f"fold{fold}": 1 / num_folds for fold in range(num_folds)}
    return split(annotations, shares, seed=seed, group=group, relatives=relatives, keep_parts=keep_parts)


def choose_fold(folds: Mapping[str, Annotations], fold: int) -> dict[str, Annotations]:
    """Return the tables of one turn of a cross-validation: this fold is `test`, all others together are `train`.

    Raises:
        ConfigError: there is no such fold.
    """
    names = list(folds)
    if not 0 <= fold < len(names):
        raise ConfigError(build_message("--fold", "no such fold", got=fold, expected=f"0 to {len(names) - 1}"))
    others = functools.reduce(Annotations.merge, [folds[name] for name in names if name != names[fold]])
    tables = {"train": others, "test": folds[names[fold]]}
    return {part: table.with_parts(dict.fromkeys(table.images, part)) for part, table in tables.items()}


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


def describe_absent_labels(parts: Mapping[str, Annotations]) -> list[str]:
    """Return a sentence for each reason why labels are absent from a part, with the labels and the parts."""
    counts = {name: part.targets.num_present_L for name, part in parts.items()}
    labels_of: dict[str, list[str]] = {}
    for column, label in enumerate(next(iter(parts.values())).label_space):
        absent = [name for name, count_L in counts.items() if not count_L[column]]
        num_images = sum(int(count_L[column]) for count_L in counts.values())
        if not num_images:
            labels_of.setdefault("No image has these labels", []).append(label)
        elif absent:
            reason = _explain_absence(parts, column, num_images)
            shown = f"{label} ({num_images}, none in {join_names(absent, limit=3)})"
            labels_of.setdefault(reason, []).append(shown)
    return [f"{reason}: {join_names(labels)}." for reason, labels in labels_of.items()]


def _explain_absence(parts: Mapping[str, Annotations], column: int, num_images: int) -> str:
    if num_images < len(parts):
        return "Labels of fewer images than there are parts, so absent from some"
    holders = [
        (part.records[row].group, part.records[row].id if part.records[row].group is None else "")
        for part in parts.values()
        for row in part.targets.present_rows(column)
    ]
    if len(set(holders)) < len(parts):
        return "Labels of fewer groups than there are parts, so absent from some"
    return "Labels of which a part has none, for want of room or because images keep their parts"


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


def _name_relatives(groups: Sequence[str | None], unit_names: Sequence[str]) -> list[str | None]:
    """Return the groups, with one for the images without that share their unit with others: that of the unit."""
    size_of = Counter(unit_names) if len(set(unit_names)) < len(unit_names) else {}
    return [
        unit_to_group(unit) if group is None and size_of.get(unit, 1) > 1 else group
        for group, unit in zip(groups, unit_names, strict=True)
    ]


def _check_relatives(annotations: Annotations, relatives: Sequence[Collection[str]]) -> None:
    surplus = sorted({image for family in relatives for image in family} - set(annotations.images)) if relatives else []
    if surplus:
        message = f"relatives that are not in the table: {join_names(surplus)}"
        raise DataError(build_message(annotations.name, message, expected="ids of its images"))


def _find_kept_parts(
    annotations: Annotations, names: list[str], groups: Sequence[str | None], units: Units, has_relatives: bool
) -> npt.NDArray[np.int64]:
    """Return the part of every unit of which some image has one already, -1 for the others."""
    position_of: dict[str | None, int] = {name: position for position, name in enumerate(names)}
    surplus = sorted({record.part for record in annotations.records if record.part} - set(names))
    if surplus:
        message = f"images are in parts that are not asked for: {join_names(surplus)}"
        do = "Name every part in --parts, give the --folds it was made with, or divide anew with --fresh"
        raise ConfigError(build_message(annotations.name, message, expected=join_names(names), do=do))
    part_N = np.array([position_of.get(record.part, -1) for record in annotations.records], np.int64)
    has_part = np.flatnonzero(part_N >= 0)
    kept_U = np.full(len(units), -1, np.int64)
    kept_U[units.unit_N[has_part]] = part_N[has_part]
    torn = has_part[kept_U[units.unit_N[has_part]] != part_N[has_part]]
    if len(torn):
        torn_units = np.unique(units.unit_N[torn])
        torn_groups = sorted(str(groups[units.rows_N[units.starts[unit]]]) for unit in torn_units)
        noun = "group of images sits" if len(torn_units) == 1 else "groups of images sit"
        message = f"{len(torn_units):,} {noun} in several parts: {join_names(torn_groups)}"
        do = "Correct the part column, or divide anew with --fresh" + _IGNORE * has_relatives
        raise DataError(build_message(annotations.name, message, expected="relatives in one part", do=do))
    return kept_U


def _check_enough(
    annotations: Annotations, names: Sequence[str], units: Units, kept_U: npt.NDArray[np.int64], has_relatives: bool
) -> None:
    """Stop where some part would have no image."""
    if len(units) < len(names):
        raise DataError(_describe_too_few(annotations, len(units), len(names), has_relatives))
    empty = [name for position, name in enumerate(names) if not (kept_U == position).any()]
    if (kept_U < 0).sum() < len(empty):
        message = f"too few images without a part to fill the parts that have none: {join_names(empty)}"
        do = "Ask for the parts that DATA has, or divide anew with --fresh"
        raise DataError(build_message(annotations.name, message, do=do))


def _describe_too_few(annotations: Annotations, num_units: int, num_parts: int, has_relatives: bool) -> str:
    singular, plural = ("image", "images") if num_units == len(annotations) else ("group of images", "groups of images")
    return build_message(
        annotations.name,
        f"{num_units} {singular if num_units == 1 else plural} cannot be divided into {num_parts} parts",
        expected=f"at least {num_parts}",
        do="Add images or ask for fewer parts" + _IGNORE * has_relatives,
    )
