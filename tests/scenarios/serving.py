"""`manylabel serve` as a process on a free port of this machine, ended with the test."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil


@dataclass
class Served:
    """A running server: its process, its port, and what it has said so far."""

    process: subprocess.Popen[str]
    port: int
    said: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def children(self) -> list[psutil.Process]:
        """The processes that decode."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def count_said(self, text: str) -> int:
        """Return how many lines of the log have these words."""
        return sum(text in line for line in self.said)

    def wait_until_said(self, text: str, seconds: float = 30, num: int = 1) -> None:
        """Wait for words in the log, or for so many lines that have them."""
        until = time.monotonic() + seconds
        while self.count_said(text) < num:
            assert time.monotonic() < until, self.said
            time.sleep(0.02)


@contextlib.contextmanager
def serve(model: Path, *flags: str) -> Iterator[Served]:
    """Start a server and wait until it is ready; what is left of it afterwards is killed."""
    command = [sys.executable, "-m", "manylabel", "serve", str(model), "--port", "0", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8", env={**os.environ, "NO_COLOR": "1"})
    served = Served(process, 0)
    assert process.stderr is not None
    lines = iter(process.stderr)

    def listen() -> None:
        served.said.extend(iter(lambda: next(lines, None), None))  # type: ignore[arg-type]

    try:
        for line in lines:
            served.said.append(line)
            if ready := re.search(r"Ready: http://127\.0\.0\.1:(\d+)/", line):
                served.port = int(ready[1])
                break
        assert served.port, served.said
        threading.Thread(target=listen, daemon=True).start()
        yield served
    finally:
        for child in served.children if process.poll() is None else []:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.kill()
        process.wait()


def ask_once(port: int, image: bytes) -> str:
    """Post an image over a connection of its own; return the status, or what became of it."""
    return ask_for_answer(port, image)[0]


def ask_for_answer(port: int, image: bytes) -> tuple[str, bytes]:
    """Post an image over a connection of its own; return the status, or what became of it, and the body.

    `refused`: nobody listens, so the request was never accepted. `lost`: it was sent, and no whole answer came.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.connect()
    except OSError:
        return "refused", b""
    try:
        connection.request("POST", "/predict", image, {"Content-Type": "image/png"})
        response = connection.getresponse()
        return str(response.status), response.read()
    except (OSError, http.client.HTTPException):
        return "lost", b""
    finally:
        connection.close()


class Traffic:
    """Threads that ask again and again until they are told to stop, or nobody listens any more."""

    def __init__(self, port: int, image: bytes, num_threads: int = 4, pause_seconds: float = 0.0) -> None:
        self.outcomes: Counter[str] = Counter()
        self.bodies: Counter[bytes] = Counter()
        self._pause_seconds = pause_seconds
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(port, image)) for _ in range(num_threads)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *given: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, num: int, outcome: str = "200") -> None:
        """Wait until there were so many more of an outcome."""
        until, before = time.monotonic() + 60, self.outcomes[outcome]
        while self.outcomes[outcome] < before + num:
            assert time.monotonic() < until, self.outcomes
            time.sleep(0.01)

    def _ask(self, port: int, image: bytes) -> None:
        while not self._stop.is_set():
            outcome, body = ask_for_answer(port, image)
            self.outcomes[outcome] += 1
            self.bodies[body] += 1
            if outcome == "refused":
                return
            self._stop.wait(self._pause_seconds)


def stop(served: Served, number: int = signal.SIGTERM, seconds: float = 30) -> int:
    """Send a signal and return the exit code."""
    served.process.send_signal(number)
    return served.process.wait(timeout=seconds)
