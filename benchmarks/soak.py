"""What `manylabel serve` is like after half an hour: latency, memory, open files and threads under a steady load.

The load is open-loop (see `load.py`), at 0.7 of the capacity, which is found shortly before or given with `--rate`.
Every five seconds the server and its children are looked at from outside. Connections of clients are no open files
here: how many there are is the client's choice; whether any is left behind shows after the last one is closed. On Linux
only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from load import Client, Load, build_request, send_at_rate, send_in_turn, wait_until_ready
from predict_start import save_untrained
from process import MANYLABEL, report
from serve import find_capacity, load_images

SHARE_OF_CAPACITY = 0.7
SAMPLE_SECONDS = 5.0
WARM_UP_SECONDS = 10.0
WARM_REQUESTS = 5_000
"""After so many requests memory counts: what is kept for reuse has been taken by then."""

_PORT = 8793
_LISTENS = "0A"
"""How /proc/net/tcp calls a socket that waits for connections."""

_QUIET_SECONDS = 7.0
"""After which a server has closed what its clients left open."""


@dataclass(frozen=True)
class Sample:
    """The server and its children at one moment."""

    num_requests: int
    num_files: int
    num_threads: int
    num_bytes: int


class CountingClient(Client):
    """A client that knows how many answers it got."""

    num_answers = 0

    async def ask(self, request: bytes) -> tuple[int, bool, bytes]:
        """Send one request."""
        answer = await super().ask(request)
        self.num_answers += 1
        return answer


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Load an untrained MobileNet with 25 labels for some minutes."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        save_untrained(bundle, "mobilenetv1_100", 160)
        server = subprocess.Popen([*MANYLABEL, "serve", str(bundle), "--port", str(_PORT), "--quiet"])
        try:
            figures = asyncio.run(soak(server.pid, load_images(400), 60 * given.minutes, given.rate))
        finally:
            server.send_signal(signal.SIGTERM)
            exit_code = server.wait(timeout=40)
    return {
        "minutes": given.minutes,
        **figures,
        "exit_code": exit_code,
        "bars": {
            "errors": 0,
            "p99_drift": 0.2,
            "files_change": 2,
            "threads_change": 2,
            "files_left": 2,
            "memory_growth": 0.05,
        },
    }


async def soak(pid: int, images: Sequence[bytes], seconds: float, rate: float | None) -> dict[str, Any]:
    """Return what came of a steady load for so many seconds."""
    client = CountingClient(_PORT)
    await wait_until_ready(client, _PORT)
    family = find_family(pid)
    requests = [build_request(image, _PORT) for image in images]
    idle = (await send_in_turn(client, requests)).percentile(0.5, 200)
    capacity = rate if rate is not None else await find_rate(client, requests, 10 * idle)
    steady = SHARE_OF_CAPACITY * capacity
    await send_at_rate(client, requests, steady, WARM_UP_SECONDS)
    files_before = await count_files_at_rest(client, family)
    samples: list[Sample] = []
    watching = asyncio.create_task(watch(family, lambda: client.num_answers, samples))
    thirds = [await send_at_rate(client, requests, steady, seconds / 3) for _ in range(3)]
    watching.cancel()
    files_after = await count_files_at_rest(client, family)
    return {
        "idle_p50_ms": to_ms(idle),
        "capacity_requests_s": round(capacity, 1),
        "requests_s": round(steady, 1),
        **describe_load(thirds),
        **describe_samples(samples),
        "files_left": files_after - files_before,
        "same_processes": find_family(pid) == family,
    }


def find_family(pid: int) -> list[psutil.Process]:
    """Return the server and its children."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


async def watch(family: list[psutil.Process], count_requests: Callable[[], int], samples: list[Sample]) -> None:
    """Take a sample now and then until this is cancelled."""
    while True:
        samples.append(take_sample(family, count_requests()))
        await asyncio.sleep(SAMPLE_SECONDS)


def take_sample(family: list[psutil.Process], num_requests: int) -> Sample:
    """Look at all processes once."""
    return Sample(
        num_requests,
        sum(count_files(process.pid) for process in family),
        sum(process.num_threads() for process in family),
        sum(process.memory_info().rss for process in family),
    )


def count_files(pid: int) -> int:
    """Return how many files a process has open, connections of clients left out."""
    connected = find_connections(pid)
    links = list(read_links(Path(f"/proc/{pid}/fd")))
    connected |= find_connections(pid)  # connections that came or went meanwhile are in one of both
    return sum(link not in connected for link in links)


def read_links(folder: Path) -> Iterator[str]:
    """Yield what each open file is; one that is closed meanwhile is left out."""
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield str(file.readlink())


async def find_rate(client: Client, requests: list[bytes], limit: float) -> float:
    """Return the capacity, as `serve.find_capacity` finds it."""
    held = await find_capacity(client, requests, limit, WARM_UP_SECONDS)
    if held is None:
        raise SystemExit("the server held no rate: give one with --rate")
    return held[0]


def find_connections(pid: int) -> set[str]:
    """Return the connections to the server's port as links of open files name them."""
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text("utf-8").splitlines()[1:]]
    port = f":{_PORT:04X}"
    return {f"socket:[{row[9]}]" for row in rows if row[1].endswith(port) and row[3] != _LISTENS}


async def count_files_at_rest(client: Client, family: list[psutil.Process]) -> int:
    """Return how many files the processes have open once all connections are closed, connections included."""
    client.close()
    await asyncio.sleep(_QUIET_SECONDS)
    return sum(process.num_fds() for process in family)


def describe_load(thirds: Sequence[Load]) -> dict[str, Any]:
    """Return the answers of all thirds, and how the last third's latency stands to the first's."""
    first, _, last = (third.percentile(0.99, 200) for third in thirds)
    whole = Load()
    for third in thirds:
        for status, seconds in third.seconds_by_status.items():
            whole.seconds_by_status.setdefault(status, []).extend(seconds)
    answers = whole.num_by_status
    return {
        "answers": {str(status): num for status, num in answers.items()},
        "errors": sum(num for status, num in answers.items() if status != 200),
        "p99_ms": to_ms(whole.percentile(0.99, 200)),
        "p99_first_third_ms": to_ms(first),
        "p99_last_third_ms": to_ms(last),
        "p99_drift": round(last / first - 1, 3),
    }


def describe_samples(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return how far files and threads went from the first sample, and what memory grew by once it was warm."""
    first, last = samples[0], samples[-1]
    warm = next((sample for sample in samples if sample.num_requests >= WARM_REQUESTS), first)
    return {
        "num_samples": len(samples),
        "files": first.num_files,
        "files_change": max(abs(sample.num_files - first.num_files) for sample in samples),
        "threads": first.num_threads,
        "threads_change": max(abs(sample.num_threads - first.num_threads) for sample in samples),
        "warm_requests": warm.num_requests,
        "warm_mb": round(warm.num_bytes / 2**20, 1),
        "end_mb": round(last.num_bytes / 2**20, 1),
        "memory_growth": round(last.num_bytes / warm.num_bytes - 1, 4),
    }


def to_ms(seconds: float) -> float:
    """Return milliseconds with one digit."""
    return round(1000 * seconds, 1)


if __name__ == "__main__":
    report(
        "soak",
        run,
        ("--minutes", {"type": float, "default": 30.0}),
        ("--rate", {"type": float, "help": "the capacity in requests per second; found if not given"}),
    )
