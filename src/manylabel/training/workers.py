"""Data workers that die with their run, and a run that says so in one sentence when they die."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb

import torch

from manylabel.errors import RunError, build_message

_LOOK_SECONDS = 1.0

_NO_SHARED_MEMORY = re.compile(
    r"shared memory|Bus error|write to file </torch_|allocate shm|no space left", re.IGNORECASE
)
_DEAD_WORKER = re.compile(r"DataLoader worker .*(killed by signal: [^.]+|exited unexpectedly)", re.DOTALL)
_LOWER_MEMORY = "The system kills what takes too much memory: lower --workers or --batch-size"
_NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory|bad alloc", re.IGNORECASE)


def end_with_parent() -> None:
    """Let a worker end soon after the run that started it, also where that was killed and could not tell it."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_workers(loader: object) -> None:
    """Let the workers of a DataLoader end; torch has no public call for it, and would kill them with the process."""
    iterator = getattr(loader, "_iterator", None)
    # The status is the last that torch sets: where a worker died before, there is nothing to end.
    if iterator is not None and hasattr(iterator, "_workers_status"):
        iterator._shutdown_workers()


@contextmanager
def name_dead_workers() -> Iterator[None]:
    """Turn the death of a data worker, and memory that ran out, into one sentence.

    Raises:
        RunError: with what happened and what to change; the checkpoints are whole.
    """
    with _ignore_deaths_in_destructors():
        try:
            yield
        except (RuntimeError, MemoryError, ConnectionError, EOFError) as error:
            sentence = explain_death(error)
            if not sentence:
                raise
            raise RunError(sentence) from error


@contextmanager
def _ignore_deaths_in_destructors() -> Iterator[None]:
    """Show no traceback where torch notices a death while Python clears something away.

    Torch raises from the signal's handler, wherever that interrupts; in a destructor nobody can catch it. The next
    batch that is waited for tells of the death again.
    """
    before = sys.unraisablehook

    def show_others(unraisable: sys.UnraisableHookArgs) -> None:
        error = unraisable.exc_value
        is_told = isinstance(error, RuntimeError) and _DEAD_WORKER.search(str(error))
        is_cut = isinstance(error, ConnectionError | EOFError) and _came_from_worker(error)
        if not (is_told or is_cut):
            before(unraisable)

    sys.unraisablehook = show_others
    try:
        yield
    finally:
        if sys.unraisablehook is show_others:  # another run of this process may have put its own in place since
            sys.unraisablehook = before


def explain_death(error: Exception) -> str:
    """Return what a failure of torch means for the person who trains; "" where it is something else.

    Example:
        >>> explain_death(RuntimeError("shapes do not fit"))
        ''
        >>> explain_death(MemoryError("12 GiB"))[:46]
        'train: the memory is not enough (12 GiB). Lowe'
    """
    text = str(error)
    resume = "and go on with --resume"
    if _NO_SHARED_MEMORY.search(text):
        problem = "the shared memory (/dev/shm) in which they hand over images is full"
        do = f"Give it more room (docker run --shm-size), lower --workers or --batch-size, or use --workers 0, {resume}"
        return build_message("data workers", problem, do=do)
    if dead := _DEAD_WORKER.search(text):
        problem = f"a process that decodes images is gone ({dead[0]})"
        return build_message("data workers", problem, do=f"{_LOWER_MEMORY}, {resume}")
    if isinstance(error, ConnectionError | EOFError) and _came_from_worker(error):
        problem = f"a process that decodes images is gone ({type(error).__name__})"
        return build_message("data workers", problem, do=f"{_LOWER_MEMORY}, {resume}")
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or _NO_MEMORY.search(text):
        problem = f"the memory is not enough ({text.splitlines()[0] if text else 'MemoryError'})"
        return build_message("train", problem, do=f"Lower --batch-size, --image-size or --workers, {resume}")
    return ""


def _came_from_worker(error: Exception) -> bool:
    """Return whether a connection that broke was one between processes of this machine, and not one of a network."""
    return any(Path(frame.filename).parent.name == "multiprocessing" for frame in extract_tb(error.__traceback__))
