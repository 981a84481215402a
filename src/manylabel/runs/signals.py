"""Ctrl-C and SIGTERM as a question that the loop asks between two steps, and as an orderly end elsewhere."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

_TERMINATED = 128 + signal.SIGTERM


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

    Outside the main thread signals cannot be caught, and stay what they were.
    """
    request = StopRequest()

    def receive(number: int, frame: FrameType | None) -> None:
        if request.signal_number is not None:
            _leave(number, frame)
        request.signal_number = number
        if on_request is not None:
            on_request()

    with _handle({signal.SIGINT: receive, signal.SIGTERM: receive}):
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
