"""Files written whole or not at all: beside their place first, then moved there."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

from manylabel.errors import RunError, build_message

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def write_bytes_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that a reader, a crash or a full disk leaves the old one or the new one, never half of one.

    Raises:
        RunError: the disk is full or the place cannot be written; what stood there before stands there still.
    """
    target = Path(path)
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise RunError(describe_write_error(target, len(data), error)) from error
    finally:
        # Once it has its place there is none; else it is half a file, also where the user interrupted.
        with contextlib.suppress(OSError):
            partial.unlink()


def sync_folder(folder: Path) -> None:
    """Bring the names of a folder to the disk, so that a power cut does not undo a move; not every system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems do not know it; the file itself is written
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_partial_files(folder: Path) -> None:
    """Remove what killed writers left below a folder: call it only where nobody writes now."""
    for partial in folder.rglob("*.partial"):
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                partial.unlink()


def write_text_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text with the line ends it has, as `write_bytes_atomically` does."""
    write_bytes_atomically(path, text.encode("utf-8"))


def describe_write_error(path: str | os.PathLike[str], num_bytes: int, error: OSError) -> str:
    """Return the sentence for a write that failed, with the space that was needed."""
    reason = error.strerror if error.strerror else str(error)
    do = "Free space" if error.errno in _FULL else "See that it can be made and written there"
    return build_message(
        path,
        f"cannot write {num_bytes:,} bytes ({reason})" if num_bytes else f"cannot be written ({reason})",
        do=f"{do} or choose another folder; what was there before is unchanged",
    )
