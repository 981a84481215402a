"""From the DATA of a command to the tables of train, val and test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from manylabel.data.annotations import Annotations
from manylabel.data.formats.detect import load_annotations
from manylabel.data.splits import PART_NAMES, split
from manylabel.errors import DataError, build_message, join_names

AUTOMATIC_PARTS = {"train": 0.7, "val": 0.15, "test": 0.15}


@dataclass(frozen=True)
class Reading:
    """How tables are to be read: the flags that every command with DATA has."""

    images: str | None = None
    layout: str | None = None
    image_column: str | None = None
    label_column: str | None = None

    def load(self, data: str) -> Annotations:
        """Read one table or folder."""
        return load_annotations(
            data, self.images, layout=self.layout, image_column=self.image_column, label_column=self.label_column
        )


def load_parts(
    reading: Reading, data: str, val: str | None, test: str | None, seed: int
) -> tuple[dict[str, Annotations], str]:
    """Return the tables by part, and a sentence for the user where something was decided for them.

    The parts are the tables that were named; else what the part column says; else a stratified split.

    Raises:
        DataError: DATA has parts, but none is called train.
    """
    annotations = reading.load(data)
    named = {name: reading.load(path) for name, path in (("val", val), ("test", test)) if path is not None}
    parts = annotations.parts()
    if parts and "train" not in parts:
        raise DataError(
            build_message(
                data,
                f"its parts are {join_names(list(parts))}",
                expected="a part called train",
                do="Split it with 'manylabel split'; of folds, write one turn with --folds K --fold N",
            )
        )
    if parts:
        used = {name: part for name, part in parts.items() if name in PART_NAMES and name not in named}
        return {**used, **named}, _describe_unused(annotations, used)
    if named:
        return {"train": annotations, **named}, ""
    sentence = "DATA has no part column: 70 % of the images train, 15 % choose epoch and thresholds, 15 % judge."
    return split(annotations, AUTOMATIC_PARTS, seed=seed), sentence


def _describe_unused(annotations: Annotations, used: Mapping[str, Annotations]) -> str:
    num_unused = len(annotations) - sum(len(part) for part in used.values())
    if num_unused == 0:
        return ""
    return f"Images of DATA that are in none of the parts used ({join_names(list(used))}): {num_unused}."
