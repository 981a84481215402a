"""An open-loop client: requests leave at their time whether or not earlier ones have been answered.

A client that waits for answers before it asks again hides every stall of a server. This one keeps a pool of
connections, opens more where all are in use, and notes for each request how long its answer took from the moment that
it should have left.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote


@dataclass
class Load:
    """What came of a number of requests: seconds by status; status 0 is a connection that failed."""

    wall_seconds: float = 0.0
    seconds_by_status: dict[int, list[float]] = field(default_factory=dict)
    num_without_retry_after: int = 0

    @property
    def num_by_status(self) -> dict[int, int]:
        """How many answers had each status."""
        return dict(sorted(Counter({status: len(all_) for status, all_ in self.seconds_by_status.items()}).items()))

    def percentile(self, share: float, *statuses: int) -> float:
        """Return the seconds within which this share of the answers with these statuses came."""
        seconds = sorted(second for status in statuses for second in self.seconds_by_status.get(status, ()))
        return seconds[min(len(seconds) - 1, int(share * len(seconds)))] if seconds else float("nan")

    def note(self, status: int, seconds: float, has_retry_after: bool) -> None:
        """Count one answer."""
        self.seconds_by_status.setdefault(status, []).append(seconds)
        self.num_without_retry_after += status in (429, 503) and not has_retry_after


def build_request(body: bytes, port: int, name: str = "image", content_type: str = "image/jpeg") -> bytes:
    """Return the bytes of a POST to /predict."""
    head = (
        f"POST /predict?name={quote(name)} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def build_get(path: str, port: int) -> bytes:
    """Return the bytes of a GET."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()


class Connection(asyncio.Protocol):
    """One connection that carries one request at a time."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[tuple[int, bool, bytes]] | None = None
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @property
    def is_open(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes) -> tuple[int, bool, bytes]:
        """Return status, whether there was a Retry-After, and body; status 0 where the connection ended before."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[:end]).lower()
        at = head.find(b"content-length: ") + 16
        length = int(head[at:].split(b"\r\n", 1)[0])
        if len(self._received) < end + 4 + length:
            return
        body = bytes(self._received[end + 4 : end + 4 + length])
        self._received.clear()
        if b"connection: close" in head:
            self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((int(head[9:12]), b"retry-after:" in head, body))

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - the signature of a protocol
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((0, False, b""))

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()


class Client:
    """A pool of connections to one port of this machine."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[Connection] = []
        self.num_lost = 0
        """Requests that were sent and got no whole answer; a connection that was refused has sent nothing."""

    async def ask(self, request: bytes) -> tuple[int, bool, bytes]:
        """Send one request over an idle connection, or a new one."""
        while self._idle and not self._idle[-1].is_open:
            self._idle.pop()
        if self._idle:
            connection = self._idle.pop()
        else:
            try:
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(Connection, "127.0.0.1", self._port)
            except OSError:
                return 0, False, b""
        answer = await connection.ask(request)
        self.num_lost += answer[0] == 0
        if connection.is_open:
            self._idle.append(connection)
        return answer

    def close(self) -> None:
        """Close what is open."""
        for connection in self._idle:
            connection.close()


async def wait_for_answer(client: Client, request: bytes) -> None:
    """Ask again and again until the answer is 200, a minute at most."""
    until = time.monotonic() + 60
    while (await client.ask(request))[0] != 200:
        if time.monotonic() > until:
            raise SystemExit("the server did not become ready")
        await asyncio.sleep(0.02)


async def wait_until_ready(client: Client, port: int) -> None:
    """Wait for our server's own word."""
    await wait_for_answer(client, build_get("/readyz", port))


async def send_at_rate(client: Client, requests: Sequence[bytes], rate: float, seconds: float) -> Load:
    """Send requests at a fixed rate, in turn, for so many seconds, and wait for all answers."""
    load, tasks = Load(), set()
    started = time.perf_counter()

    async def send(request: bytes, due: float) -> None:
        status, has_retry_after, _ = await client.ask(request)
        load.note(status, time.perf_counter() - due, has_retry_after)

    for number in range(int(rate * seconds)):
        due = started + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(send(requests[number % len(requests)], due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    load.wall_seconds = time.perf_counter() - started
    await asyncio.gather(*tasks)
    return load


async def send_in_turn(client: Client, requests: Sequence[bytes], num_at_once: int = 1) -> Load:
    """Send each request once, so many at a time, each as soon as an earlier one is answered."""
    load, waiting = Load(), iter(requests)
    started = time.perf_counter()

    async def send_next() -> None:
        for request in waiting:
            began = time.perf_counter()
            status, has_retry_after, _ = await client.ask(request)
            load.note(status, time.perf_counter() - began, has_retry_after)

    await asyncio.gather(*(send_next() for _ in range(num_at_once)))
    load.wall_seconds = time.perf_counter() - started
    return load
