"""What `manylabel serve` holds: capacity beside the same engine in process, overload, damaged files, stops.

Everything is open-loop (see `load.py`), with server and client on the same cores. C, the capacity, is the highest rate
tried at which every request is answered with 200 and 99 of 100 within ten times the latency of an idle server.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import math
import os
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from load import Client, Load, build_get, build_request, send_at_rate, send_in_turn, wait_until_ready
from PIL import Image
from predict_start import save_untrained
from process import MANYLABEL, report

from manylabel.inference.predictor import Predictor, load

POSTERS = Path(__file__).resolve().parents[2] / "shared" / "data" / "posters" / "images"
_PORT = 8791


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Measure all of it for an untrained MobileNet with 25 labels: weights do not change what it costs."""
    images = load_images(400)
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        save_untrained(bundle, "mobilenetv1_100", 160)
        in_process = measure_in_process(load(bundle, num_threads=1), images)
        server = subprocess.Popen([*MANYLABEL, "serve", str(bundle), "--port", str(_PORT), "--quiet"])
        try:
            figures = asyncio.run(measure_server(server.pid, images, given.seconds))
        finally:
            server.send_signal(signal.SIGTERM)
            exit_code = server.wait(timeout=40)
        in_process = max(in_process, measure_in_process(load(bundle, num_threads=1), images))
        lost = asyncio.run(stop_under_load(bundle, images, given.stops))
    return {
        "in_process_images_s": round(in_process, 1),
        **figures,
        "capacity_share": round(figures["capacity_requests_s"] / in_process, 3),
        "exit_code": exit_code,
        **lost,
        "bars": {
            "capacity_share": 0.8,
            "goodput_share": 0.9,
            "rejected_p99_ms": 100,
            "health_p99_ms": 200,
            "other_errors": 0,
            "damaged_not_refused": 0,
            "damaged_slowest_s": 1,
            "peak_mb": 1536,
            "lost_at_stops": 0,
            "slowest_stop_s": 30,
        },
    }


def load_images(num: int) -> list[bytes]:
    """Return film posters where they are at hand, else noise of their size and about their weight."""
    paths = sorted(POSTERS.glob("*.jpg"))[:num]
    if paths:
        return [path.read_bytes() for path in paths]
    random = np.random.default_rng(0)
    return [_encode(random.integers(0, 255, (56, 38, 3), np.uint8)) for _ in range(num)]


def _encode(pixels_HWC: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels_HWC).resize((300, 445)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def measure_in_process(predictor: Predictor, images: list[bytes]) -> float:
    """Return images per second of the same engine with as many threads as cores, decoding included, without HTTP."""
    num_threads = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(num_threads) as threads:
        list(threads.map(predictor.predict, images[:100]))
        started = time.perf_counter()
        num = len(list(threads.map(predictor.predict, images * 4)))
        return num / (time.perf_counter() - started)


async def measure_server(pid: int, images: list[bytes], seconds: float) -> dict[str, Any]:
    """Return what the running server holds."""
    client = Client(_PORT)
    await wait_until_ready(client, _PORT)
    requests = [build_request(image, _PORT) for image in images]
    idle = await send_in_turn(client, requests)
    idle_seconds = idle.percentile(0.5, 200)
    held = await find_capacity(client, requests, 10 * idle_seconds, seconds)
    if held is None:
        raise SystemExit("the server held no rate")
    capacity, at_capacity = held
    overload, health = await overload_server(client, requests, 3 * capacity, 2 * seconds)
    after = await send_at_rate(client, requests, 0.7 * capacity, seconds / 2)
    damaged = await send_damaged(client, images)
    peak_mb = sum(process.memory_info().rss for process in _family(pid)) / 2**20
    client.close()
    other = sum(num for status, num in overload.num_by_status.items() if status not in (200, 503))
    return {
        "idle_p50_ms": _to_ms(idle_seconds),
        "capacity_requests_s": round(capacity, 1),
        "capacity_p99_ms": _to_ms(at_capacity.percentile(0.99, 200)),
        "goodput_share": round(overload.num_by_status.get(200, 0) / overload.wall_seconds / capacity, 3),
        "overload_answers": {str(status): num for status, num in overload.num_by_status.items()},
        "accepted_p99_ms": _to_ms(overload.percentile(0.99, 200)),
        "rejected_p99_ms": _to_ms(overload.percentile(0.99, 503)),
        "rejected_without_retry_after": overload.num_without_retry_after,
        "other_errors": other,
        "health_p99_ms": _to_ms(health.percentile(0.99, 200)),
        "health_answers": {str(status): num for status, num in health.num_by_status.items()},
        "after_overload_p99_ms": _to_ms(after.percentile(0.99, 200)),
        **damaged,
        "peak_mb": round(peak_mb),
    }


async def find_capacity(
    client: Client, requests: list[bytes], limit: float, seconds: float
) -> tuple[float, Load] | None:
    """Return the highest rate without an error and with a p99 below the limit, and what came of it; None for none.

    The search comes down from above what the server does with eight requests at once, at its best of some tries: a slow
    moment of the machine must not set where it begins.
    """
    loads = [await send_in_turn(client, requests * 2, num) for num in (8, 16, 8)]
    rate = max(len(requests) * 2 / load_.wall_seconds for load_ in loads)
    for share in (1.06, 1.03, 1.0, 0.97, 0.94, 0.91, 0.88, 0.84, 0.8, 0.75, 0.7, 0.6, 0.5):
        load_ = await send_at_rate(client, requests, share * rate, seconds)
        if set(load_.num_by_status) == {200} and load_.percentile(0.99, 200) <= limit:
            return share * rate, load_
        await asyncio.sleep(0.5)
    return None


async def overload_server(client: Client, requests: list[bytes], rate: float, seconds: float) -> tuple[Load, Load]:
    """Return what came of three times the capacity, and of five probes a second meanwhile."""
    probes = [build_get("/livez", _PORT), build_get("/readyz", _PORT)]
    health = asyncio.create_task(send_at_rate(Client(_PORT), probes, 5, seconds))
    overload = await send_at_rate(client, requests, rate, seconds)
    return overload, await health


async def send_damaged(client: Client, images: list[bytes], num: int = 1500) -> dict[str, Any]:
    """Return what came of damaged files: cut off, bytes overwritten, heads of other formats."""
    random = np.random.default_rng(0)
    files = [_damage(random, images[number % len(images)], number % 5) for number in range(num)]
    requests = [build_request(data, _PORT) for data in files]
    alone = await send_in_turn(client, requests)
    together = await send_in_turn(client, requests, 16)
    answers = alone.num_by_status
    num_refused = sum(num for status, num in answers.items() if 400 <= status < 500)
    slowest = max(load_.percentile(1, *load_.num_by_status) for load_ in (alone, together))
    return {
        "damaged_answers": {str(status): num for status, num in answers.items()},
        "damaged_not_refused": num - num_refused,
        "damaged_together_alike": together.num_by_status == answers,
        "damaged_slowest_s": round(slowest, 3),
    }


def _damage(random: np.random.Generator, data: bytes, way: int) -> bytes:
    if way == 0:
        return data[: int(random.integers(2, len(data) - 2))]
    if way == 1:
        return random.bytes(int(random.integers(1, 2000)))
    if way == 2:
        return (b"%!PS-Adobe", b"8BPS", b"GIF89a", b"BM", b"RIFF\0\0\0\0WEBP")[int(random.integers(5))] + random.bytes(
            500
        )
    if way == 3:  # everything behind the head of the file is noise, and its end is missing
        return data[:20] + random.bytes(len(data) - 20)
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, "PNG")
    broken = bytearray(buffer.getvalue())
    broken[int(random.integers(60, len(broken) - 30))] ^= 0xFF
    return bytes(broken)


async def stop_under_load(bundle: Path, images: list[bytes], num_stops: int) -> dict[str, Any]:
    """Stop a loaded server again and again; return how many sent requests got no whole answer, and the exit codes."""
    num_lost, num_answered, codes, slowest = 0, 0, set(), 0.0
    requests = [build_request(image, _PORT) for image in images]
    for _ in range(num_stops):
        server = subprocess.Popen([*MANYLABEL, "serve", str(bundle), "--port", str(_PORT), "--quiet"])
        client = Client(_PORT)
        await wait_until_ready(client, _PORT)
        traffic = asyncio.create_task(send_at_rate(client, requests, 120, 3))
        await asyncio.sleep(1)
        told = time.perf_counter()
        server.send_signal(signal.SIGTERM)
        codes.add(await asyncio.to_thread(server.wait, 40))
        slowest = max(slowest, time.perf_counter() - told)
        load_ = await traffic
        client.close()
        num_lost += client.num_lost
        num_answered += load_.num_by_status.get(200, 0)
    return {
        "num_stops": num_stops,
        "answered_at_stops": num_answered,
        "lost_at_stops": num_lost,
        "exit_codes_of_stops": sorted(codes),
        "slowest_stop_s": round(slowest, 2),
    }


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _to_ms(seconds: float) -> float:
    return round(1000 * seconds, 1) if math.isfinite(seconds) else seconds


if __name__ == "__main__":
    report("serve", run, ("--seconds", {"type": float, "default": 8.0}), ("--stops", {"type": int, "default": 20}))
