"""LabelSpace: the ordered names of the labels, and the columns they stand for."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from manylabel.errors import DataError, build_message, join_names, suggest_name


@dataclass(frozen=True)
class LabelSpace:
    """Unique, ordered, non-empty label names; position in `names` is the column in every array.

    Names are compared exactly: `Dog` and `dog` are two labels, and `N/A` is a name like any other.

    Raises:
        DataError: no name at all, a name that is not text, is empty, has blanks around it or a line break in it, or
            stands twice.

    Example:
        >>> space = LabelSpace(("beach", "dog"))
        >>> space.index("dog"), len(space), "cat" in space
        (1, 2, False)
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if not self.names:
            raise DataError(build_message("label space", "there is no label", expected="at least one name"))
        for name in self.names:
            _check_name(name)
        if len(set(self.names)) < len(self.names):
            repeated = sorted(name for name, count in Counter(self.names).items() if count > 1)
            raise DataError(
                build_message("label space", f"names stand twice: {join_names(repeated)}", expected="unique names")
            )

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {name: column for column, name in enumerate(self.names)}

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that identify the names and their order in files."""
        text = json.dumps(self.names, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def index(self, name: str) -> int:
        """Return the column of a name.

        Raises:
            DataError: the name is not in the space; the message suggests the nearest one.
        """
        column = self._columns.get(name)
        if column is None:
            raise DataError(
                build_message(
                    "label space",
                    f"unknown label {name!r}{suggest_name(name, self.names)}",
                    expected=f"one of its {len(self)} names ({join_names(self.names)})",
                )
            )
        return column

    def subset(self, names: Iterable[str]) -> LabelSpace:
        """Return a space of these names in the given order; each has to be in this one."""
        chosen = tuple(names)
        for name in chosen:
            self.index(name)
        return LabelSpace(chosen)

    def rename(self, new_names: Mapping[str, str]) -> LabelSpace:
        """Return a space in which the keys of `new_names` are replaced by their values, order kept."""
        for name in new_names:
            self.index(name)
        return LabelSpace(tuple(new_names.get(name, name) for name in self.names))

    def union(self, other: LabelSpace) -> LabelSpace:
        """Return this space followed by the names that only `other` has, in its order."""
        return LabelSpace(self.names + tuple(name for name in other.names if name not in self))

    def align(self, other: LabelSpace) -> list[int | None]:
        """Return for every name of this space its column in `other`, None where `other` lacks it."""
        return [other._columns.get(name) for name in self.names]


def _check_name(name: object) -> None:
    # A lone surrogate comes from a file name that is no text: it could be written to no file.
    if not isinstance(name, str) or any("\ud800" <= character <= "\udfff" for character in name):
        raise DataError(build_message("label space", "a label is not text", got=name, do="Write names as text"))
    if not name or name != name.strip() or any(mark in name for mark in "\n\r\0"):
        raise DataError(
            build_message(
                "label space",
                "a label is empty, has blanks around it or a line break in it",
                got=name,
                expected="a name such as 'dog' or 'New York'",
            )
        )
