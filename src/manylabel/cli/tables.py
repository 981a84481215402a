"""From the DATA of a command to the tables of train, val and test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import cast

from manylabel.data.annotations import Annotations
from manylabel.data.formats.detect import LoadedData, load_data
from manylabel.data.formats.format import Blank, Uncertain
from manylabel.data.splits import PART_NAMES, split
from manylabel.errors import ConfigError, DataError, build_message, join_names
from manylabel.runs.tables import check_some_present

AUTOMATIC_PARTS = {"train": 0.7, "val": 0.15, "test": 0.15}


@dataclass(frozen=True)
class Reading:
    """How DATA is to be read: the flags that every command with DATA has."""

    images: str | None = None
    layout: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    blank: str = "unknown"
    uncertain: str = "unknown"
    soft: str | None = None

    def load(self, data: str) -> Annotations:
        """Read one file or folder."""
        return self.load_data(data).annotations

    def load_data(self, data: str) -> LoadedData:
        """Read one file or folder, and say what layout it had."""
        return load_data(
            data,
            self.images,
            layout=self.layout,
            image_column=self.image_column,
            label_column=self.label_column,
            blank=cast(Blank, self.blank),  # checked where it is used
            uncertain=cast(Uncertain, self.uncertain),
            soft=None if self.soft is None else parse_bounds(self.soft),
        )

    def build_flags(self) -> list[str]:
        """Return the flags that were given, as words of a command."""
        return [
            word
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
            for word in ("--" + field.name.replace("_", "-"), value)
        ]


def parse_bounds(text: str) -> tuple[float, float]:
    """Read `LOW,HIGH`, or one number that is both.

    Raises:
        ConfigError: not one or two numbers.

    Example:
        >>> parse_bounds("0.3,0.7"), parse_bounds("0.5")
        ((0.3, 0.7), (0.5, 0.5))
    """
    try:
        numbers = [float(piece) for piece in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise ConfigError(build_message("--soft", "not two bounds", got=text, expected="LOW,HIGH such as 0.3,0.7"))
    return numbers[0], numbers[-1]


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
    check_some_present(annotations)  # before it is divided: nothing else is worth saying of such a table
    sentence = "DATA has no part column: 70 % of the images train, 15 % choose epoch and thresholds, 15 % judge."
    return split(annotations, AUTOMATIC_PARTS, seed=seed), sentence


def _describe_unused(annotations: Annotations, used: Mapping[str, Annotations]) -> str:
    num_unused = len(annotations) - sum(len(part) for part in used.values())
    if num_unused == 0:
        return ""
    return f"Images of DATA that are in none of the parts used ({join_names(list(used))}): {num_unused}."
