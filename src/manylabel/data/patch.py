"""A patch: single cells of a table set anew, from a CSV file that a person has looked through."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from manylabel.data.annotations import Annotations
from manylabel.errors import DataError, build_message, join_names, join_problems, suggest_name
from manylabel.labels.targets import Targets

STATES = ("present", "absent", "unknown")
STATE_COLUMNS = ("state", "suggestion")
"""The column that says what a cell becomes; `suggestion` is that of the queue of `find-errors`."""


@dataclass(frozen=True)
class CellChange:
    """What one cell becomes, and where the patch says so."""

    image: str
    label: str
    state: str
    where: str


@dataclass(frozen=True)
class Applied:
    """How many cells became what, and how many were so already."""

    num_changed: dict[str, int]
    num_same: int

    def describe(self) -> str:
        """Return what was changed, in one sentence.

        Example:
            >>> Applied({"present": 2, "absent": 0, "unknown": 1}, 4).describe()
            '3 cells changed (2 now present, 1 now unknown); 4 were so already'
        """
        changed = [f"{number:,} now {state}" for state, number in self.num_changed.items() if number]
        total = sum(self.num_changed.values())
        listed = f" ({', '.join(changed)})" if changed else ""
        return f"{total:,} {'cell' if total == 1 else 'cells'} changed{listed}; {self.num_same:,} were so already"


def load_patch(path: str | os.PathLike[str]) -> list[CellChange]:
    """Read a CSV file with the columns image, label and state (or suggestion); other columns are left out.

    Raises:
        DataError: the file is missing, is not text, lacks a column, or has rows that say nothing; all rows are named.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            rows = [(reader.line_num, row) for row in reader]
            names = reader.fieldnames if reader.fieldnames is not None else []
    except FileNotFoundError as error:
        raise DataError(build_message(path, "there is no such file", do="Check the path")) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(build_message(path, f"the patch cannot be read ({error})", expected="CSV in UTF-8")) from error
    column = next((name for name in STATE_COLUMNS if name in names), None)
    if column is None or not {"image", "label"} <= set(names):
        raise DataError(
            build_message(path, "not a patch", got=join_names(names), expected="the columns image, label and state")
        )
    problems, changes = [], []
    for line, row in rows:
        where, state = f"{path} line {line}", str(row[column]).strip()
        if state not in STATES:
            problems.append(
                build_message(
                    where, f"unknown state{suggest_name(state, STATES)}", got=state, expected=join_names(STATES)
                )
            )
        changes.append(CellChange(str(row["image"]), str(row["label"]), state, where))
    if problems:
        raise DataError(join_problems(problems))
    return changes


def apply_patch(annotations: Annotations, changes: Sequence[CellChange]) -> tuple[Annotations, Applied]:
    """Return the table with the cells of a patch set anew, and how many that changed.

    Raises:
        DataError: an image or a label that the table does not have, or one cell that is to become two things; nothing
            is changed then, and all such rows are named.
    """
    row_of = {image: row for row, image in enumerate(annotations.images)}
    space = annotations.label_space
    problems = []
    state_of: dict[tuple[int, int], CellChange] = {}
    for change in changes:
        if change.image not in row_of:
            problem = f"unknown image {change.image!r}{suggest_name(change.image, row_of)}"
            problems.append(build_message(change.where, problem, expected=f"an image of {annotations.name}"))
        elif change.label not in space:
            problem = f"unknown label {change.label!r}{suggest_name(change.label, space)}"
            problems.append(build_message(change.where, problem, expected=f"one of the {len(space)} labels"))
        else:
            before = state_of.setdefault((row_of[change.image], space.index(change.label)), change)
            if before.state != change.state:
                problem = f"this cell becomes {change.state} here and {before.state} in {before.where}"
                problems.append(build_message(change.where, problem, do="Keep one of the rows"))
    if problems:
        raise DataError(join_problems(problems))
    present_NL, known_NL = annotations.targets.present_NL(), annotations.targets.known_NL()
    num_changed, num_same = dict.fromkeys(STATES, 0), 0
    for cell, change in state_of.items():
        is_present, is_known = change.state == "present", change.state != "unknown"
        if (present_NL[cell], known_NL[cell]) == (is_present, is_known):
            num_same += 1
        else:
            num_changed[change.state] += 1
        present_NL[cell], known_NL[cell] = is_present, is_known
    targets = Targets.from_dense(present_NL, known_NL)
    return replace(annotations, targets=targets), Applied(num_changed, num_same)
