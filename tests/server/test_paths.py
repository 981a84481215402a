"""Sixty paths that try to leave the few files of the page, sent as they are: a client's library would tidy them up."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.server.test_connections import Streams, run_server

import manylabel.server

UP = {
    "plain": "../",
    "encoded": "%2e%2e%2f",
    "encoded twice": "%252e%252e%252f",
    "half encoded": "..%2f",
    "backslash": "..\\",
    "backslash encoded": "..%5c",
    "overlong UTF-8": "%c0%ae%c0%ae%c0%af",
    "overlong slash": "..%c0%af",
    "doubled": "....//",
    "behind a file": "page.css/../../",
    "behind a NUL": "%00../",
    "with a parameter": "..;/",
    "full-width dots": "%ef%bc%8e%ef%bc%8e/",
    "trailing dot": ".././",
}
TARGETS = (1, "app.py"), (3, "pyproject.toml"), (8, "etc/passwd"), (8, "proc/self/environ")
"""How many folders up from the page's own a file lies, and its path from there."""

WHOLE = (
    "/etc/passwd",
    "//etc/passwd",
    "/static//etc/passwd",
    "/static/C:/windows/win.ini",
    "file:///etc/passwd",
)
"""Targets of a request that name a file from its root."""

PROBES = [f"/static/{up * depth}{name}" for up, (depth, name) in itertools.product(UP.values(), TARGETS)]
PROBES += list(WHOLE[: 60 - len(PROBES)])


def test_no_path_gives_a_byte_of_a_file_outside_the_page(model_folder: Path) -> None:
    assert len(set(PROBES)) == 60
    secrets = [
        Path(manylabel.server.__file__).with_name("app.py").read_bytes()[:200],
        b"[build-system]",
        b"root:x:0:0",
        b"PATH=",
    ]

    async def use(connect: Callable[[], Awaitable[Streams]]) -> dict[str, bytes]:
        answers = {}
        for probe in PROBES:
            reader, writer = await connect()
            writer.write(f"GET {probe} HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nConnection: close\r\n\r\n".encode())
            answers[probe] = await asyncio.wait_for(reader.read(), 10)
            writer.close()
        return answers

    answers: dict[str, bytes] = run_server(model_folder, use)
    assert {answer.split(b" ")[1] for answer in answers.values()} <= {b"400", b"404"}
    leaks = [probe for probe, answer in answers.items() if any(secret in answer for secret in secrets)]
    assert leaks == []


def test_the_page_itself_is_there(model_folder: Path) -> None:
    async def use(connect: Callable[[], Awaitable[Streams]]) -> bytes:
        reader, writer = await connect()
        writer.write(b"GET /static/page.css HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nConnection: close\r\n\r\n")
        return await reader.read()

    assert run_server(model_folder, use).startswith(b"HTTP/1.1 200 ")
