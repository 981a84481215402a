"""Guard: who may ask, and what every answer carries. It stands in front of all routes and decides on the raw path."""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from manylabel.server.counters import Counters
from manylabel.server.limits import RequestError
from manylabel.server.settings import ServerSettings

log = logging.getLogger("manylabel.server")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFETY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""What every answer carries, errors included."""

BUG = "The server failed in a way that is a bug; its log says more."
"""All that is told of one."""

OPEN_PATHS = frozenset({"/", "/livez", "/readyz", "/favicon.ico"})
"""What needs no token: the page, which asks for it, and what a supervisor probes. Nothing there tells of the model."""

_OPEN_PREFIX = "/static/"

MAX_WRONG_TOKENS = 10
"""How many wrong tokens of one address are answered as such in a minute; further ones are told to wait.

What keeps guesses out is the length of the token, which the right one needs to have by chance."""


class Guard:
    """The application behind Host, Origin and token, with the safety headers on whatever it answers."""

    def __init__(
        self, app: Application, settings: ServerSettings, counters: Counters, is_draining: Callable[[], bool]
    ) -> None:
        self._app = app
        self._settings = settings
        self._counters = counters
        self._is_draining = is_draining
        self._wrong_tokens = WrongTokens()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def send_safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *SAFETY_HEADERS]
                if self._is_draining() and not any(name == b"connection" for name, _ in message["headers"]):
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            headers = _read_headers(scope)
            self._check(scope, headers)
            await self._app(scope, receive, send_safely)
        except RequestError as refusal:
            await send_error(refusal, send_safely)
        except Exception:
            log.exception("A bug: the request to %s failed.", scope["path"])
            if status == 0:
                await send_error(RequestError(500, "internal", BUG), send_safely)
        finally:
            self._counters.requests.add(str(status))
            if scope["path"] == "/predict":
                self._counters.request_seconds.add(time.perf_counter() - started)

    def _check(self, scope: Scope, headers: dict[str, list[str]]) -> None:
        hosts = headers.get("host", [])
        if len(hosts) != 1 or not self._settings.answers_to(hosts[0]):
            raise RequestError(
                421, "wrong_host", "The Host header is not one of this server's names; start it with --allow-host NAME."
            )
        self._check_origin(headers, hosts[0])
        if self._settings.token is not None and not _is_open(scope["path"]):
            self._check_token(headers, scope["client"][0] if scope.get("client") else "")

    def _check_origin(self, headers: dict[str, list[str]], host: str) -> None:
        """Refuse what a page of another site sent: programs send no Origin, our own page sends this server's."""
        own = {f"http://{host.lower()}", f"https://{host.lower()}"}
        is_foreign = any(origin.lower() not in own for origin in headers.get("origin", []))
        sites = headers.get("sec-fetch-site", [])
        if is_foreign or any(site not in ("same-origin", "none") for site in sites):
            raise RequestError(403, "foreign_page", "A page of another site may not use this server.")

    def _check_token(self, headers: dict[str, list[str]], peer: str) -> None:
        assert self._settings.token is not None
        scheme, _, given = headers.get("authorization", [""])[0].partition(" ")
        # The right one passes whoever else tried: behind a proxy all have one address.
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._settings.token.encode()):
            return
        if given and self._wrong_tokens.are_too_many(peer):
            raise RequestError(429, "too_many_tries", "Too many wrong tokens; wait a minute.", {"Retry-After": "60"})
        if given:
            self._wrong_tokens.note(peer)
        message = "A token is needed: send the header 'Authorization: Bearer TOKEN'."
        raise RequestError(401, "no_token", message, {"WWW-Authenticate": "Bearer"})


class WrongTokens:
    """Who tried wrong tokens in the last minute; bounded, the oldest are forgotten first."""

    _MAX_PEERS = 10_000

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: dict[str, list[float]] = {}

    def note(self, peer: str) -> None:
        """Remember one wrong token."""
        times = self._times.pop(peer, [])
        self._times[peer] = [*times[-MAX_WRONG_TOKENS:], self._clock()]
        if len(self._times) > self._MAX_PEERS:
            del self._times[next(iter(self._times))]

    def are_too_many(self, peer: str) -> bool:
        """Tell whether an address has used up its tries."""
        since = self._clock() - 60
        return sum(tried > since for tried in self._times.get(peer, ())) >= MAX_WRONG_TOKENS


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(_OPEN_PREFIX)


def _read_headers(scope: Scope) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return headers


async def send_error(refusal: RequestError, send: Send) -> None:
    """Answer with the JSON of an error."""
    body = encode_error(refusal.kind, str(refusal))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in refusal.headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def encode_error(kind: str, message: str) -> bytes:
    """Return the JSON of an error of a whole request."""
    return json.dumps({"error": {"kind": kind, "message": message}}, ensure_ascii=False).encode()
