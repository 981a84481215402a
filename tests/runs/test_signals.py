"""Signals become a question; a second one, a while later, leaves at once."""

from __future__ import annotations

import signal
import time

import pytest

from manylabel.runs.signals import stop_on_signal


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, to be set by hand."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_the_first_signal_asks_and_is_told_once_by_who_is_asked(clock: list[float]) -> None:
    told: list[str] = []
    with stop_on_signal(lambda: told.append("stop")) as request:
        assert not request()
        signal.raise_signal(signal.SIGTERM)
        assert told == [], "a handler may have interrupted a print"
        assert [request(), request()] == [True, True]
        clock[0] += 0.9
        signal.raise_signal(signal.SIGINT)  # passed on by a launcher: the same request
    assert request.exit_code == 143
    assert told == ["stop"]


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
@pytest.mark.parametrize("is_closed", [False, True], ids=["asked", "closed"])
def test_a_second_signal_after_a_second_leaves(
    clock: list[float], number: int, error: type[BaseException], is_closed: bool
) -> None:
    with stop_on_signal() as request:
        signal.raise_signal(signal.SIGINT)
        if is_closed:
            request.close()
        signal.raise_signal(number)  # at once: the same request, also where nobody asks any more
        clock[0] += 1.1
        with pytest.raises(error):
            signal.raise_signal(number)


def test_a_first_signal_leaves_where_nobody_asks_any_more() -> None:
    with stop_on_signal() as request:
        request.close()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert not request()


@pytest.mark.usefixtures("clock")
def test_a_request_that_came_after_the_last_question_is_told_when_nobody_asks_any_more() -> None:
    told: list[str] = []
    with stop_on_signal(lambda: told.append("stop")) as request:
        assert not request()
        signal.raise_signal(signal.SIGINT)
        request.close()
    assert told == ["stop"]
