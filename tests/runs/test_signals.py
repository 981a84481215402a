"""Signals become a question; a second one, a while later, leaves at once."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from manylabel.runs.signals import stop_on_signal


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, to be set by hand."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_the_first_signal_asks_and_is_told_once_by_another_thread(clock: list[float]) -> None:
    told: list[str] = []
    with stop_on_signal(lambda: told.append(threading.current_thread().name)) as request:
        assert not request()
        signal.raise_signal(signal.SIGTERM)
        assert request()
        clock[0] += 0.9
        signal.raise_signal(signal.SIGINT)  # passed on by a launcher: the same request
    assert request.exit_code == 143
    assert told == ["tells of a stop"]


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_second_signal_after_a_second_leaves(clock: list[float], number: int, error: type[BaseException]) -> None:
    with stop_on_signal():
        signal.raise_signal(signal.SIGINT)
        clock[0] += 1.1
        with pytest.raises(error):
            signal.raise_signal(number)


def test_without_a_signal_nothing_is_told_and_no_thread_is_left() -> None:
    told: list[str] = []
    before = threading.active_count()
    with stop_on_signal(lambda: told.append("stop")):
        assert threading.active_count() == before + 1
    assert (told, threading.active_count()) == ([], before)
