"""Ctrl-C and SIGTERM as a question that the loop asks between two steps, and as an orderly end elsewhere."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

_TERMINATED = 128 + signal.SIGTERM

_SAME_REQUEST_SECONDS = 1.0
"""A launcher passes on the Ctrl-C that a terminal has sent to all, and some send SIGTERM to a process and its group."""


@dataclass
class StopRequest:
    """Which signal asked for an end; None while nobody did."""

    signal_number: int | None = None

    def __call__(self) -> bool:
        """Return whether somebody asked."""
        return self.signal_number is not None

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as a shell expects: 130 for Ctrl-C, 143 for SIGTERM."""
        return 0 if self.signal_number is None else 128 + self.signal_number


@contextmanager
def stop_on_signal(on_request: Callable[[], None] | None = None) -> Iterator[StopRequest]:
    """Turn the first Ctrl-C or SIGTERM into a request, and a second into KeyboardInterrupt or an exit with 143.

    Signals within a second of the first are the same request. Outside the main thread signals cannot be caught, and
    stay what they were.

    Args:
        on_request: called once, in a thread of its own: a handler that prints could meet a print that it interrupted.
    """
    request = StopRequest()
    is_over = threading.Event()
    received_at = 0.0

    def receive(number: int, frame: FrameType | None) -> None:
        nonlocal received_at
        if request.signal_number is None:
            request.signal_number, received_at = number, time.monotonic()
            is_over.set()
        elif time.monotonic() - received_at > _SAME_REQUEST_SECONDS:
            _leave(number, frame)

    def tell() -> None:
        is_over.wait()
        if request() and on_request is not None:
            on_request()

    teller = threading.Thread(target=tell, name="tells of a stop", daemon=True)
    teller.start()
    try:
        with _handle({signal.SIGINT: receive, signal.SIGTERM: receive}):
            yield request
    finally:
        is_over.set()
        teller.join()


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the process as Ctrl-C does, with exit code 143: what is half written is cleared away."""
    with _handle({signal.SIGTERM: _leave}):
        yield


def _leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
    if number == signal.SIGTERM:
        raise SystemExit(_TERMINATED)
    raise KeyboardInterrupt


@contextmanager
def _handle(handlers: Mapping[int, Callable[[int, FrameType | None], None]]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
