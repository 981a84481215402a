"""What happens to an exchange between processes when one of them is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from manylabel.errors import RunError, build_message, find_reason


class LostProcessError(RunError):
    """Another process of the run has ended without a word, as when the system kills it, or cannot be reached."""


@contextmanager
def notice_lost_process() -> Iterator[None]:
    """Turn what the network says of an exchange that failed into a sentence.

    Raises:
        LostProcessError: another process has ended, or cannot be reached.
    """
    try:
        yield
    except RuntimeError as error:
        reason = find_reason(error)
        raise LostProcessError(
            build_message(
                "train",
                f"another process of this run has ended or cannot be reached ({reason})",
                do="Look above for its own message, then go on from the last checkpoint with --resume",
            )
        ) from error
