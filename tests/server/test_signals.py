"""Signals that load the model again: none is lost, however close together they come."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

import pytest
import uvicorn
from tests.server.conftest import build_service

from manylabel.server import model
from manylabel.server.run import StopBySignal


async def wait_until(condition: threading.Event) -> None:
    """Let the loop run until another thread says so."""
    assert await asyncio.to_thread(condition.wait, 10)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
def test_signals_during_a_load_load_once_more_after_it(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = build_service(model_folder)
    has_begun, may_end, is_over = threading.Event(), threading.Event(), threading.Event()
    loads: list[int] = []

    def reload() -> bool:
        loads.append(len(loads))
        if len(loads) == 1:
            has_begun.set()
            assert may_end.wait(10)
        else:
            is_over.set()
        return True

    monkeypatch.setattr(service.place, "reload", reload)

    async def signal_thrice() -> None:
        with StopBySignal(uvicorn.Server(uvicorn.Config("")), service).listen():
            os.kill(os.getpid(), signal.SIGHUP)
            await wait_until(has_begun)
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0.05)
            may_end.set()
            await wait_until(is_over)
            await asyncio.sleep(0.05)

    asyncio.run(signal_thrice())
    assert loads == [0, 1]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
def test_a_load_that_fails_in_an_unforeseen_way_is_said_and_the_next_signal_still_loads(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = build_service(model_folder)
    loads: list[threading.Event] = [threading.Event(), threading.Event()]
    waiting = iter(loads)

    def load(_: str, __: str) -> None:
        next(waiting).set()
        raise MemoryError("no room")

    monkeypatch.setattr(model, "load_checked", load)

    async def signal_twice() -> None:
        with StopBySignal(uvicorn.Server(uvicorn.Config("")), service).listen():
            for load in loads:
                os.kill(os.getpid(), signal.SIGHUP)
                await wait_until(load)
                await asyncio.sleep(0.05)

    asyncio.run(signal_twice())
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "The model stays as it was: no room"
    ] * 2
    assert service.counters.reloads.read("failed") == 2
