"""The two consoles of a command: results on standard output, everything else on standard error."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console

OnEvent = Callable[[str, Mapping[str, Any]], None]


def build_results_console() -> Console:
    """Return the console for results; off a terminal it is 100 columns wide, whatever reads it."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=100)


def _show_nothing(event: str, facts: Mapping[str, Any]) -> None:
    """Show no event."""


@contextlib.contextmanager
def show_progress(quiet: bool) -> Iterator[OnEvent]:
    """Give what is told of a run's events: bars and lines on standard error, or nothing."""
    if quiet:
        yield _show_nothing
        return
    from manylabel.runs.progress import TerminalProgress

    with TerminalProgress() as progress:
        yield progress
