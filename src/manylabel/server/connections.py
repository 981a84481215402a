"""Connections: uvicorn's protocol with the limits it lacks, on time, on size and on number."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from manylabel.server.guard import SAFETY_HEADERS
from manylabel.server.limits import GIVE_UP_SECONDS, HEAD_SECONDS, MAX_CONNECTIONS, MAX_HEAD_BYTES, RETRY_AFTER_SECONDS

_REASONS = {400: "Bad Request", 431: "Request Header Fields Too Large", 503: "Service Unavailable"}


class JoinedWrites:
    """A transport that sends head and body of an answer at once: each call of the system waits for the interpreter."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._blocks: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send this with whatever else is written before the event loop has its turn."""
        if not self._blocks:
            self._loop.call_soon(self.flush)
        self._blocks.append(data)

    def flush(self) -> None:
        """Send what waits."""
        if self._blocks:
            self._transport.write(b"".join(self._blocks))
            self._blocks.clear()

    def close(self) -> None:
        """Send what waits and close the connection."""
        self.flush()
        self._transport.close()


class GuardedConnection(HttpToolsProtocol):
    """One client: cut where it dawdles over a head, a body or an answer, and told so where there are too many."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._timer: asyncio.TimerHandle | None = None
        self._num_head_bytes = 0
        self._is_in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = JoinedWrites(transport, self.loop)  # type: ignore[assignment]
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(503, "busy", "There are too many connections; try again soon.")
        else:
            self._set_timer(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._set_timer(None)

    def data_received(self, data: bytes) -> None:
        if self._is_in_head:
            self._num_head_bytes += len(data)
        if self.parser is not None and not self.transport.is_closing():
            super().data_received(data)
        # Counted after parsing: a body may have come with the end of its head.
        if self._is_in_head and self._num_head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, "too_large", f"The head of the request is larger than {MAX_HEAD_BYTES:,} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True
        self._set_timer(HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        self._is_in_head, self._num_head_bytes = False, 0
        self._set_timer(GIVE_UP_SECONDS)
        super().on_headers_complete()
        self.scope["state"]["is_gone"] = self.transport.is_closing

    def on_message_complete(self) -> None:
        self._set_timer(None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.transport.flush()  # type: ignore[attr-defined]
        if self.transport.get_write_buffer_size() > 0:
            self._set_timer(GIVE_UP_SECONDS)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(400, "bad_request", msg)

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self.transport.abort) if seconds is not None else None

    def _refuse(self, status: int, kind: str, message: str) -> None:
        body = json.dumps({"error": {"kind": kind, "message": message}}).encode()
        headers = [
            *SAFETY_HEADERS,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if status == 503:
            headers.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
        head = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(f"HTTP/1.1 {status} {_REASONS[status]}\r\n".encode() + head + b"\r\n" + body)
        self.transport.close()
