"""The two consoles of a command: results on standard output, everything else on standard error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console

from manylabel.training.events import OnEvent, tell_nobody


def build_results_console() -> Console:
    """Return the console for results; off a terminal it is 80 columns wide, whatever reads it."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=80)


@contextlib.contextmanager
def show_progress(quiet: bool) -> Iterator[OnEvent]:
    """Give what is told of a run's events: bars and lines on standard error, or nothing."""
    if quiet:
        yield tell_nobody
        return
    from manylabel.runs.progress import TerminalProgress

    with TerminalProgress() as progress:
        yield progress
