"""One run at a time in a folder: a lock that the operating system gives back when its process ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from manylabel.errors import RunError, build_message
from manylabel.files import describe_write_error

LOCK_NAME = "run.lock"
_PATIENCE_SECONDS = 0.5
"""Processes that a launcher starts together look at the lock and let go again, each for a moment."""

_HELD = {errno.EAGAIN, errno.EACCES, errno.EDEADLK}
_FAR = 2**30
"""Windows locks bytes, and lets nobody read them: one that lies behind the text."""

_open_locks: set[int] = set()


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which has to be there.

    Whatever ends the process ends the lock, a kill as well: there is no stale one. Data workers do not inherit it.

    Raises:
        RunError: another run works here; its process and machine are named, and nothing is changed.
    """
    descriptor = _acquire(folder)
    _open_locks.add(descriptor)
    try:
        yield
    finally:
        _open_locks.discard(descriptor)
        with contextlib.suppress(OSError):  # Windows keeps a file that is open
            (folder / LOCK_NAME).unlink()
        os.close(descriptor)


def check_not_running(folder: Path) -> None:
    """Stop where a run works in a folder; nothing is changed, and torch is not imported.

    Raises:
        RunError: another run works here; its process and machine are named.
    """
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR)
    except OSError:
        return  # there is none, or the run itself will say why it cannot work here
    try:
        _lock(descriptor, folder)
    finally:
        os.close(descriptor)


def _acquire(folder: Path) -> int:
    """Return the open lock file, locked and signed."""
    path = folder / LOCK_NAME
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RunError(describe_write_error(path, 0, error)) from error
        try:
            _lock(descriptor, folder)
            # A run that ended in between took the file away: what is locked now is no longer in the folder.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    """Lock an open file; one that stays locked for half a second is held by a run, and not just looked at.

    Raises:
        RunError: somebody else has it, or the file system has no locks.
    """
    until = time.monotonic() + _PATIENCE_SECONDS
    while not _try_lock(descriptor, folder):
        if time.monotonic() > until:
            os.lseek(descriptor, 0, os.SEEK_SET)
            holder = os.read(descriptor, 400).decode("utf-8", "replace").strip()
            who = holder if holder else "a process that has just started"
            do = "Wait until it has ended, stop it, or choose another --out"
            raise RunError(build_message(folder, f"another run works here: {who}", do=do))
        time.sleep(_PATIENCE_SECONDS / 20)


def _try_lock(descriptor: int, folder: Path) -> bool:
    """Lock an open file and return whether that could be done at once.

    Raises:
        RunError: the file system has no locks.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, _FAR, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        reason = error.strerror if error.strerror else str(error)
        problem = f"the folder cannot be locked against other runs ({reason})"
        raise RunError(build_message(folder, problem, do="Choose an --out on another file system")) from error
    return True


def _close_in_child() -> None:
    """Let go of the locks in a forked child: a worker that outlives its run would hold them else."""
    while _open_locks:
        with contextlib.suppress(OSError):
            os.close(_open_locks.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
