"""Connections are cut where a client dawdles, sends too much, or is one too many; here over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import uvicorn
from tests.server.conftest import build_service

from manylabel.server import connections
from manylabel.server.app import build_app
from manylabel.server.connections import GuardedConnection, JoinedWrites
from manylabel.server.limits import MAX_HEAD_BYTES

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
HEAD = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n"


def run_server(folder: Path, use: Callable[[Callable[[], Awaitable[Streams]]], Awaitable[Any]]) -> Any:
    """Serve on a free port of this machine while `use` connects to it."""

    async def run() -> Any:
        config = uvicorn.Config(
            build_app(build_service(folder)), http=GuardedConnection, ws="none", lifespan="off", log_config=None
        )
        config.load()
        server = uvicorn.Server(config)
        listener = await asyncio.get_running_loop().create_server(
            lambda: GuardedConnection(config, server.server_state, {}), "127.0.0.1", 0
        )
        port = listener.sockets[0].getsockname()[1]
        async with listener:
            return await asyncio.wait_for(use(lambda: asyncio.open_connection("127.0.0.1", port)), 60)

    return asyncio.run(run())


def send(folder: Path, data: bytes) -> bytes:
    """Return everything that the server sends until it closes the connection."""

    async def use(connect: Callable[[], Awaitable[Streams]]) -> bytes:
        reader, writer = await connect()
        writer.write(data)
        answer = await reader.read()
        writer.close()
        return answer

    return run_server(folder, use)  # type: ignore[no-any-return]


def test_a_connection_is_kept_for_the_next_request_and_closed_when_asked(model_folder: Path) -> None:
    answer = send(model_folder, HEAD + b"\r\n" + HEAD + b"Connection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing at all"),
        pytest.param(b"GET /livez HT", id="half a line"),
        pytest.param(HEAD, id="half a head"),
        pytest.param(HEAD + b"\r\nGET", id="half a second head"),
    ],
)
def test_a_client_that_dawdles_over_a_head_is_cut(
    model_folder: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    answer = send(model_folder, data)
    assert answer.count(b"200 OK") == data.count(b"\r\n\r\n")


def test_a_client_that_dawdles_over_the_body_of_an_answered_request_is_cut(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "GIVE_UP_SECONDS", 0.2)
    answer = send(model_folder, HEAD.replace(b"GET", b"POST") + b"Content-Length: 10\r\n\r\nabc")
    assert b"405 Method Not Allowed" in answer


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"400 Bad Request", id="TLS"),
        pytest.param(b"HELLO\r\n\r\n", b"400 Bad Request", id="another protocol"),
        pytest.param(HEAD + b"Content-Length: -1\r\n\r\n", b"400 Bad Request", id="a negative length"),
        pytest.param(
            HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"400 Bad Request",
            id="two lengths",
        ),
        pytest.param(HEAD + b"X: " + b"x" * MAX_HEAD_BYTES, b"431 Request Header Fields Too Large", id="a long head"),
    ],
)
def test_what_is_no_request_is_refused_with_the_safety_headers(model_folder: Path, data: bytes, status: bytes) -> None:
    answer = send(model_folder, data)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"content-security-policy: default-src 'none'" in answer
    assert b"server:" not in answer.lower()
    assert answer.endswith(b'"}}')


def test_one_connection_too_many_is_told_to_come_later(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 1)

    async def use(connect: Callable[[], Awaitable[Streams]]) -> bytes:
        first, second = await connect(), await connect()
        answer = await second[0].read()
        for _, writer in (first, second):
            writer.close()
        return answer

    answer = run_server(model_folder, use)
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable")
    assert b"retry-after: 1" in answer


def test_a_body_that_is_said_to_be_too_large_is_refused_before_it_comes(model_folder: Path) -> None:
    head = (
        HEAD.replace(b"GET /livez", b"POST /predict") + b"Content-Type: image/png\r\nContent-Length: 20000001\r\n\r\n"
    )
    answer = send(model_folder, head + b"x" * 100_000)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer.lower()


def test_head_and_body_of_an_answer_are_sent_at_once() -> None:
    class Transport:
        sent: ClassVar[list[bytes]] = []

        def write(self, data: bytes) -> None:
            self.sent.append(data)

        def close(self) -> None:
            self.sent.append(b"closed")

    async def run() -> None:
        joined = JoinedWrites(Transport(), asyncio.get_running_loop())  # type: ignore[arg-type]
        joined.write(b"head")
        joined.write(b"body")
        await asyncio.sleep(0)
        joined.write(b"last")
        joined.close()
        await asyncio.sleep(0)

    asyncio.run(run())
    assert Transport.sent == [b"headbody", b"last", b"closed"]
