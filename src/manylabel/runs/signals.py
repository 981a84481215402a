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
    """Which signal asked for an end; None while nobody did.

    `on_notice` is called by the first question that is answered with yes: not by the handler, which may interrupt a
    print.
    """

    on_notice: Callable[[], None] | None = None
    signal_number: int | None = None
    _received_at: float = 0.0
    _is_told: bool = False
    _is_closed: bool = False

    def __call__(self) -> bool:
        """Return whether somebody asked."""
        if self.signal_number is not None and not self._is_told:
            self._is_told = True
            if self.on_notice is not None:
                self.on_notice()
        return self.signal_number is not None

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as a shell expects: 130 for Ctrl-C, 143 for SIGTERM."""
        return 0 if self.signal_number is None else 128 + self.signal_number

    def close(self) -> None:
        """Let a first signal leave at once from here on: nobody asks any more. One that is waiting is told now."""
        self._is_closed = True
        self()

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Take a signal: a request, the same one again, or the end."""
        if self.signal_number is None and not self._is_closed:
            self.signal_number, self._received_at = number, time.monotonic()
        elif self.signal_number is None or time.monotonic() - self._received_at > _SAME_REQUEST_SECONDS:
            _leave(number, frame)


@contextmanager
def stop_on_signal(on_notice: Callable[[], None] | None = None) -> Iterator[StopRequest]:
    """Turn the first Ctrl-C or SIGTERM into a request, and a second into KeyboardInterrupt or an exit with 143.

    Signals within a second of the first are the same request, also after `close`. Outside the main thread signals
    cannot be caught, and stay what they were.
    """
    request = StopRequest(on_notice)
    with _handle({signal.SIGINT: request.receive, signal.SIGTERM: request.receive}):
        yield request


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
