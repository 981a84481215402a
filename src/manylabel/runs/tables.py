"""The tables of a run: brought to one label space, checked, and kept as one table with parts."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from manylabel.data.annotations import Annotations
from manylabel.data.checks import find_findings
from manylabel.data.splits import split
from manylabel.errors import DataError, build_message, join_names
from manylabel.training.events import OnEvent

_AUTOMATIC_VAL_SHARE = 0.15


@dataclass(frozen=True)
class Tables:
    """The tables of a run, over one label space."""

    train: Annotations
    val: Annotations
    test: Annotations | None

    @property
    def by_part(self) -> dict[str, Annotations]:
        """The tables by the name of their part."""
        parts = {"train": self.train, "val": self.val}
        return parts | ({"test": self.test} if self.test is not None else {})

    def merge(self) -> Annotations:
        """Return one table of all images, each in the first part that has it."""
        merged: Annotations | None = None
        for name, table in self.by_part.items():
            seen = set(merged.images) if merged is not None else set()
            fresh = table.select([row for row, image in enumerate(table.images) if image not in seen])
            labelled = fresh.with_parts(dict.fromkeys(fresh.images, name))
            merged = labelled if merged is None else merged.merge(labelled)
        assert merged is not None
        return merged


def prepare_tables(
    train: Annotations, val: Annotations | None, test: Annotations | None, seed: int, tell: OnEvent
) -> Tables:
    """Bring all tables to the union of their labels, and say what is wrong with them before an epoch is spent.

    A label that only validation or test knows is a label too. Without `val`, a stratified part of `train` is taken.

    Raises:
        DataError: a part without an image, or training images without any label.
    """
    if val is None:
        shares = {"train": 1 - _AUTOMATIC_VAL_SHARE, "val": _AUTOMATIC_VAL_SHARE}
        parts = split(train, shares, seed=seed)
        train, val = parts["train"], parts["val"]
        message = f"No validation images were given: {len(val)} of the training images are kept for it."
        tell("note", {"message": message})
    space = train.label_space.union(val.label_space)
    space = space if test is None else space.union(test.label_space)
    tables = Tables(train.align(space), val.align(space), None if test is None else test.align(space))
    for name, table in tables.by_part.items():
        if not len(table):
            raise DataError(build_message(table.name, f"the {name} part has no image", do="Split the table again"))
    check_some_present(tables.train)
    _tell_findings(tables, tell)
    return tables


def check_some_present(annotations: Annotations) -> None:
    """Stop where no image has any label: there is nothing to learn."""
    if not annotations.targets.num_present_L.any():
        raise DataError(
            build_message(
                annotations.name,
                f"no image has any of the {len(annotations.label_space)} labels "
                f"({join_names(annotations.label_space.names)})",
                expected="at least one present cell",
                do="Check which columns hold the labels with 'manylabel inspect'",
            )
        )


def _tell_findings(tables: Tables, tell: OnEvent) -> None:
    for (first, table), (second, other) in combinations(tables.by_part.items(), 2):
        overlap = sorted(set(table.images) & set(other.images))
        if overlap:
            message = f"Warning: {len(overlap)} images stand in {first} and in {second}: {join_names(overlap)}."
            tell("note", {"message": message})
    for finding in find_findings(tables.train, parts=("train",)):
        if finding.severity != "note":  # what `inspect` calls an error did not end this run, so it is no error here
            tell("note", {"message": f"Warning: {finding.message}"})
