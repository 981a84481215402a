"""How long things take around `manylabel serve`: starts, stops, slow clients, killed decoders; and if its memory grows.

Beside `serve.py`, which measures what it holds. A small model, so that the faults and not the network take the time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from load import Client, Load, build_get, build_request, send_at_rate, send_in_turn, wait_until_ready
from PIL import Image
from predict_start import save_untrained
from process import MANYLABEL, report

_PORT = 8792
_RATE = 60.0


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Measure all of it."""
    images = draw_images(200)
    requests = [build_request(image, _PORT) for image in images]
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        save_untrained(bundle, "test_resnet", 64)
        return {
            **measure_starts(bundle),
            **asyncio.run(ask_beside_slow(bundle, requests)),
            **asyncio.run(kill_decoders(bundle, requests)),
            **asyncio.run(force_stop(bundle)),
            **asyncio.run(watch_memory(bundle, requests, given.requests)),
            "bars": {
                "slowest_start_s": 15,
                "busy_port_s": 2,
                "slow_p99_ratio": 2,
                "slow_last_cut_s": 30,
                "lost_at_kills": 10,
                "slowest_recovery_s": 5,
                "second_signal_s": 2,
                "memory_growth": 0.05,
            },
        }


def draw_images(num: int) -> list[bytes]:
    """Return small photograph-like JPEGs that all differ."""
    random = np.random.default_rng(0)
    images = []
    for _ in range(num):
        coarse = Image.fromarray(random.integers(0, 255, (9, 6, 3), np.uint8))
        buffer = io.BytesIO()
        coarse.resize((200, 300), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
        images.append(buffer.getvalue())
    return images


@contextlib.contextmanager
def serve(bundle: Path, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server; what is left of it in the end is killed."""
    server = subprocess.Popen(
        [*MANYLABEL, "serve", str(bundle), "--port", str(_PORT), "--quiet", *flags], stderr=subprocess.DEVNULL
    )
    try:
        yield server
    finally:
        server.kill()
        server.wait()


def measure_starts(bundle: Path, num: int = 10) -> dict[str, Any]:
    """Return the slowest of several starts, and how fast a busy port is said."""
    seconds = []
    for _ in range(num):
        started = time.perf_counter()
        with serve(bundle):
            asyncio.run(wait_until_ready(Client(_PORT)))
            seconds.append(time.perf_counter() - started)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", _PORT))
        other.listen()
        started = time.perf_counter()
        with serve(bundle) as server:
            code = server.wait(30)
            busy = time.perf_counter() - started
    return {
        "num_starts": num,
        "slowest_start_s": round(max(seconds), 2),
        "busy_port_s": round(busy, 2),
        "busy_port_exit_code": code,
    }


async def ask_beside_slow(bundle: Path, requests: list[bytes]) -> dict[str, Any]:
    """Ask at a fixed rate, first alone and then beside 200 clients that stop in the middle of a body."""
    with serve(bundle):
        client = Client(_PORT)
        await wait_until_ready(client, _PORT)
        await send_in_turn(client, requests)
        alone = await send_at_rate(client, requests, _RATE, 10)
        started = time.perf_counter()
        slow = [asyncio.create_task(_dawdle(_build_half())) for _ in range(200)]
        beside = await send_at_rate(client, requests, _RATE, 10)
        ended = [second - started for second in await asyncio.gather(*slow)]
        client.close()
    p99_alone, p99_beside = alone.percentile(0.99, 200), beside.percentile(0.99, 200)
    return {
        "p99_alone_ms": round(1000 * p99_alone, 1),
        "p99_beside_slow_ms": round(1000 * p99_beside, 1),
        "slow_p99_ratio": round(p99_beside / p99_alone, 2),
        "slow_other_than_200": _count_others(beside),
        "slow_last_cut_s": round(max(ended), 1),
    }


def _build_half() -> bytes:
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{_PORT}\r\nContent-Type: image/jpeg\r\n"
    return head.encode() + b"Content-Length: 90000\r\n\r\nabc"


async def _dawdle(half: bytes) -> float:
    """Send half a request, and a byte a second as long as it is taken; return when the server ended it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", _PORT)
    writer.write(half)
    ended = asyncio.create_task(reader.read())
    while not ended.done():
        await asyncio.wait([ended], timeout=1)
        if not ended.done():
            writer.write(b"x")
    with contextlib.suppress(ConnectionError):  # cut while it still sent
        await ended
    writer.close()
    return time.perf_counter()


async def kill_decoders(bundle: Path, requests: list[bytes], num: int = 10) -> dict[str, Any]:
    """Kill a decoder every twenty seconds under load; return what was lost, and after how long nothing was any more."""
    kinds: Counter[str] = Counter()
    slowest = 0.0
    with serve(bundle) as server:
        client = Client(_PORT)
        await wait_until_ready(client, _PORT)
        for _ in range(num):
            killed = time.perf_counter()
            psutil.Process(server.pid).children()[0].kill()
            until, number = killed + 6, 0
            while time.perf_counter() < until:
                answers = await asyncio.gather(*(client.ask(requests[number % len(requests)]) for _ in range(4)))
                for status, _, body in answers:
                    kinds["200" if status == 200 else str(json.loads(body)["error"]["kind"])] += 1
                if any(status != 200 for status, _, _ in answers):
                    slowest = max(slowest, time.perf_counter() - killed)
                number += 1
            await asyncio.sleep(15)  # more than three deaths a minute make it say that it is not ready
        client.close()
    return {
        "num_kills": num,
        "answers_at_kills": dict(kinds),
        "lost_at_kills": kinds.total() - kinds["200"],
        "slowest_recovery_s": round(slowest, 2),
    }


async def force_stop(bundle: Path) -> dict[str, Any]:
    """Stop a server that waits for a request that never ends, and tell it a second time; return how long that took."""
    with serve(bundle) as server:
        await wait_until_ready(Client(_PORT))
        dawdler = asyncio.create_task(_dawdle(_build_half()))
        await asyncio.sleep(0.2)
        server.send_signal(signal.SIGTERM)
        await asyncio.sleep(1.5)
        started = time.perf_counter()
        server.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(server.wait, 40)
        seconds = time.perf_counter() - started
        dawdler.cancel()
    return {"second_signal_s": round(seconds, 2), "second_signal_exit_code": code}


async def watch_memory(bundle: Path, requests: list[bytes], num: int) -> dict[str, Any]:
    """Return by how much the memory of all processes grows between the first tenth of many requests and the last."""
    with serve(bundle) as server:
        client = Client(_PORT)
        await wait_until_ready(client, _PORT)
        rounds = num // len(requests)
        early = 0.0
        for number in range(rounds):
            await send_in_turn(client, requests, 8)
            if number == rounds // 10:
                early = _measure_mb(server.pid)
        late = _measure_mb(server.pid)
        status = (await client.ask(build_get("/readyz", _PORT)))[0]
        client.close()
    return {
        "num_requests": rounds * len(requests),
        "early_mb": round(early),
        "late_mb": round(late),
        "memory_growth": round(late / early - 1, 3),
        "ready_in_the_end": status == 200,
    }


def _measure_mb(pid: int) -> float:
    process = psutil.Process(pid)
    return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)]) / 2**20


def _count_others(load: Load) -> int:
    return sum(num for status, num in load.num_by_status.items() if status != 200)


if __name__ == "__main__":
    report("serve_faults", run, ("--requests", {"type": int, "default": 50_000}))
