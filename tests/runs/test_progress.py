"""What a person sees of a run, and a run that goes on where nothing can be shown."""

from __future__ import annotations

import errno
import io

from rich.console import Console

from manylabel.runs.progress import TerminalProgress


class FullDisk(io.StringIO):
    """Takes nothing."""

    num_attempts = 0

    def write(self, text: str) -> int:  # noqa: ARG002 - the signature of a file
        self.num_attempts += 1
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_log_that_cannot_be_written_does_not_end_the_run() -> None:
    disk = FullDisk()
    with TerminalProgress(Console(file=disk)) as progress:
        for epoch in range(3):
            progress("note", {"message": f"epoch {epoch}"})
    assert disk.num_attempts == 1, "nothing more is tried"


def test_a_note_is_one_line_however_long_it_is() -> None:
    lines = io.StringIO()
    with TerminalProgress(Console(file=lines, width=20)) as progress:
        progress("note", {"message": "a sentence that is longer than the terminal is wide"})
        progress("unheard", {})
    assert lines.getvalue() == "a sentence that is longer than the terminal is wide\n"
