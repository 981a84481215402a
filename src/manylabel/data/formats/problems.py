"""Problems: what is wrong with one file, collected and told at once."""

from __future__ import annotations

from typing import Any

from manylabel.errors import MAX_LISTED, DataError, build_message, join_problems

_SHOWN_CHARACTERS = 60


class Problems:
    """The problems of one file; the first are listed, all are counted."""

    def __init__(self) -> None:
        self._messages: list[str] = []
        self._total = 0

    def __len__(self) -> int:
        return self._total

    def add(self, where: object, what: str, *, got: Any = None, expected: str = "", do: str = "") -> None:
        """Note one problem; see `build_message`."""
        self._total += 1
        if len(self._messages) < MAX_LISTED:
            shown = None if got is None else _shorten(got)
            self._messages.append(build_message(where, what, got=shown, expected=expected, do=do))

    def stop_if_any(self) -> None:
        """Raise a DataError if anything was noted."""
        if self._total:
            raise DataError(join_problems(self._messages, total=self._total))


def _shorten(value: Any) -> Any:
    text = repr(value)
    return value if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."
