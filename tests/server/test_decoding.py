"""DecoderPool: an image that crashes or stalls its decoder costs one request, and another decoder takes its place."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.conftest import RED

from manylabel.data.images import ImageError
from manylabel.data.preprocess import Preprocess
from manylabel.server import decoding
from manylabel.server.counters import Counters
from manylabel.server.decoding import MAX_DEATHS_PER_MINUTE, DecoderPool
from manylabel.server.limits import Admission, RequestError, Ticket

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the ways to die are those of POSIX")

PREPROCESS = Preprocess(height_px=4, width_px=6, mean=(0, 0, 0), std=(1, 1, 1))

STUB = """
import os, signal, sys, time
from manylabel.server import decoder
read, write = sys.stdin.buffer, sys.stdout.buffer
decoder._limit_seconds()
decoder.write_frame(write, b"{}", b"")
while (frame := decoder.read_frame(read)) is not None:
    what = frame[1].decode()
    if what == "spin":
        import resource
        resource.setrlimit(resource.RLIMIT_CPU, (1, resource.RLIM_INFINITY))
        while True: pass
    if what == "hang": time.sleep(60)
    if what == "exit": sys.exit(3)
    if what.startswith("SIG"): os.kill(os.getpid(), getattr(signal, what))
    if what == "lie": write.write(b"\\xff" * 64); write.flush(); time.sleep(60)
    if what == "list": decoder.write_frame(write, b"[1]", b"")
    elif what == "empty": decoder.write_frame(write, b"{}", b"")
    else: decoder.write_frame(write, b"{}", bytes(72))
"""


def ticket(seconds: float = 60, is_gone: bool = False) -> Ticket:
    return Ticket(Admission(8), time.monotonic() + seconds, lambda: is_gone)


def run_pool(use: Callable[[DecoderPool], Awaitable[Any]], program: str | None = STUB, num: int = 1) -> Any:
    """Start a pool, use it, and stop it; without a program its children are the real ones."""

    async def run() -> Any:
        command = (sys.executable, "-c", program) if program is not None else decoding._COMMAND
        pool = DecoderPool(num, Counters(), command)
        await pool.start()
        try:
            return await use(pool)
        finally:
            await pool.stop()
            assert pool.process_ids == []

    return asyncio.run(run())


def test_a_child_gives_the_pixels_that_this_process_would_see() -> None:
    async def use(pool: DecoderPool) -> Any:
        return await pool.decode(RED, "red.png", PREPROCESS, ticket())

    pixels_HWC = run_pool(use, None)
    assert pixels_HWC.shape == (4, 6, 3)
    assert np.array_equal(PREPROCESS.normalise(pixels_HWC), PREPROCESS.load(RED))


def test_an_error_comes_back_with_its_kind_and_name_and_the_child_lives_on() -> None:
    async def use(pool: DecoderPool) -> Any:
        before = pool.process_ids
        with pytest.raises(ImageError, match=r"^bad\.png: damaged image") as raised:
            await pool.decode(RED[:60], "bad.png", PREPROCESS, ticket())
        assert pool.process_ids == before
        return raised.value.kind

    assert run_pool(use, None) == "broken"


@pytest.mark.parametrize(
    ("what", "status", "kind"),
    [
        pytest.param("SIGSEGV", 422, "crashed", id="a crash"),
        pytest.param("SIGABRT", 422, "crashed", id="an abort"),
        pytest.param("exit", 422, "crashed", id="an end of its own"),
        pytest.param("SIGKILL", 503, "decoder_ended", id="killed from outside"),
        pytest.param("spin", 422, "too_slow", id="too much processor time"),
        pytest.param("hang", 422, "too_slow", id="too long by the clock"),
        pytest.param("lie", 422, "crashed", id="lengths that cannot be"),
        pytest.param("list", 422, "crashed", id="an answer of another shape"),
        pytest.param("empty", 422, "crashed", id="an answer without pixels"),
    ],
)
def test_whatever_ends_a_decoder_costs_one_request(
    what: str, status: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if what == "hang":
        monkeypatch.setattr(decoding, "DECODE_SECONDS", 0.2)

    async def use(pool: DecoderPool) -> Any:
        before = pool.process_ids
        with pytest.raises(RequestError) as raised:
            await pool.decode(what.encode(), "x.png", PREPROCESS, ticket())
        pixels_HWC = await pool.decode(b"fine", "y.png", PREPROCESS, ticket())
        assert pixels_HWC.shape == (4, 6, 3)
        assert pool.process_ids != before
        return raised.value

    error = run_pool(use)
    assert (error.status, error.kind) == (status, kind)


def test_a_decoder_that_dies_idle_is_replaced_and_no_request_meets_it() -> None:
    async def use(pool: DecoderPool) -> None:
        (before,) = pool.process_ids
        os.kill(before, signal.SIGKILL)
        while pool.process_ids in ([before], []):
            await asyncio.sleep(0.01)
        await pool.decode(b"fine", "y.png", PREPROCESS, ticket())

    run_pool(use)


def test_starts_that_fail_are_tried_again_after_pauses_which_are_forgotten_once_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The second and the third child end before they say that they are there.
    program = f"""
import sys
from pathlib import Path
number = len(list(Path({str(tmp_path)!r}).iterdir()))
Path({str(tmp_path)!r}, str(number)).touch()
if number in (1, 2): sys.exit(1)
{STUB}"""
    pauses, sleep = [], asyncio.sleep

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async def use(pool: DecoderPool) -> None:
        for _ in range(2):
            (before,) = pool.process_ids
            os.kill(before, signal.SIGKILL)
            while pool.process_ids in ([before], []):
                await sleep(0.01)
            await pool.decode(b"fine", "y.png", PREPROCESS, ticket())

    monkeypatch.setattr(asyncio, "sleep", note)
    run_pool(use, program)
    assert pauses == [0, 0.5, 1.5, 0]


def test_too_many_deaths_make_the_pool_unhealthy_but_not_unusable(caplog: pytest.LogCaptureFixture) -> None:
    async def use(pool: DecoderPool) -> None:
        for number in range(MAX_DEATHS_PER_MINUTE + 1):
            assert pool.is_healthy, number
            with pytest.raises(RequestError):
                await pool.decode(b"SIGSEGV", "x.png", PREPROCESS, ticket())
            await pool.decode(b"fine", "y.png", PREPROCESS, ticket())
        assert not pool.is_healthy

    run_pool(use)
    assert "A decoder died (SIGSEGV); another one takes its place." in caplog.text
    assert "the server says that it is not ready" in caplog.text


def test_images_that_take_too_long_do_not_make_it_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "DECODE_SECONDS", 0.01)

    async def use(pool: DecoderPool) -> bool:
        for _ in range(MAX_DEATHS_PER_MINUTE + 1):
            with pytest.raises(RequestError):
                await pool.decode(b"hang", "x.png", PREPROCESS, ticket())
        return pool.is_healthy

    assert run_pool(use)


@pytest.mark.parametrize("given", [ticket(seconds=-1), ticket(is_gone=True)], ids=["too late", "client gone"])
def test_nothing_is_decoded_that_nobody_waits_for(given: Ticket) -> None:
    async def use(pool: DecoderPool) -> None:
        with pytest.raises(RequestError) as raised:
            await pool.decode(b"SIGSEGV", "x.png", PREPROCESS, given)
        assert (raised.value.status, raised.value.kind) == (503, "late")
        assert pool.is_healthy

    run_pool(use)


def test_a_child_that_cannot_be_started_is_an_error() -> None:
    with pytest.raises(asyncio.IncompleteReadError):
        run_pool(lambda _: asyncio.sleep(0), "raise SystemExit(1)")


def test_children_do_not_know_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANYLABEL_TOKEN", "x")
    assert "MANYLABEL_TOKEN" not in decoding._build_environment()


def test_a_child_ends_when_its_parent_closes_the_pipe_and_ignores_the_signals_of_a_terminal() -> None:
    child = subprocess.Popen(decoding._COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.read(10)[8:] == b"{}"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        child.send_signal(number)
    child.stdin.close()
    assert child.wait(timeout=30) == 0
    child.stdout.close()


def test_memory_has_a_limit_in_the_child() -> None:
    program = (
        "from manylabel.server import decoder\ndecoder._limit_memory()\n"
        "try: bytearray(2 * decoder.MEMORY_BYTES)\nexcept MemoryError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ("refused\n" if sys.platform == "linux" else "")
