"""Words for a person on standard error: whole words at the width of a terminal, whole lines in a file."""

from __future__ import annotations

import shutil
import sys
import textwrap


def say(text: str) -> None:
    """Print to standard error."""
    print(fit(text), file=sys.stderr)


def fit(text: str) -> str:
    """Return text as standard error shows it best; what is longer than a line and has no blank stays whole."""
    if not sys.stderr.isatty():
        return text
    width = shutil.get_terminal_size().columns
    lines = text.split("\n")
    return "\n".join(
        textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False) if len(line) > width else line
        for line in lines
    )
