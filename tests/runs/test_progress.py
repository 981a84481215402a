"""What a person sees of a run, and a run that goes on where nothing can be shown."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from manylabel.runs.progress import TerminalProgress


class FullDisk(io.StringIO):
    """Takes nothing."""

    num_attempts = 0

    def write(self, text: str) -> int:  # noqa: ARG002 - the signature of a file
        self.num_attempts += 1
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_log_that_cannot_be_written_does_not_end_the_run(is_terminal: bool) -> None:
    disk = FullDisk()
    with TerminalProgress(Console(file=disk, force_terminal=is_terminal)) as progress:
        for epoch in range(3):
            progress("note", {"message": f"epoch {epoch}"})
            progress("stage", {"name": "Training"})
    assert disk.num_attempts == 1, "nothing more is tried"


@pytest.mark.skipif(os.name == "nt", reason="a pipe without a reader is another error there")
def test_a_log_that_nobody_reads_any_more_does_not_end_the_run() -> None:
    program = (
        "from manylabel.runs.progress import TerminalProgress\n"
        "with TerminalProgress() as progress:\n"
        "    for _ in range(3): progress('note', {'message': 'a line'})\n"
        "print('done')\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=writer, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stdout.split()) == (0, [b"done"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("is_buffered", [True, False])
def test_results_that_cannot_be_written_are_one_sentence(is_buffered: bool) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    if not is_buffered:
        environment["PYTHONUNBUFFERED"] = "1"
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "manylabel", "--version"]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, env=environment, encoding="utf-8", check=False
        )
        both = subprocess.run(command, stdout=full, stderr=full, env=environment, check=False)
    assert done.stderr == (
        "Error: standard output: what the command prints cannot be written (no space left). "
        "Free space, or let it go elsewhere.\n"
    )
    assert (done.returncode, both.returncode) == (2, 2)


def test_a_note_is_one_line_however_long_it_is() -> None:
    lines = io.StringIO()
    with TerminalProgress(Console(file=lines, width=20, force_terminal=False)) as progress:
        progress("note", {"message": "a sentence that is longer than the terminal is wide"})
        progress("unheard", {})
    assert lines.getvalue() == "a sentence that is longer than the terminal is wide\n"
