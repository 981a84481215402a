"""From settings to a server that runs until it is told to stop: socket, model, signals, drain."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import signal
import socket
import struct
import sys
from collections.abc import Callable, Generator
from dataclasses import replace
from types import FrameType

import uvicorn

from manylabel.errors import ConfigError, build_message
from manylabel.server.app import Service, build_app
from manylabel.server.connections import GuardedConnection
from manylabel.server.counters import Counters
from manylabel.server.model import ModelPlace
from manylabel.server.settings import ServerSettings

log = logging.getLogger("manylabel.server")

NOTICE_SECONDS = 1.0
"""How long a stopping server still takes requests while it says that it is not ready, so that others notice."""

HANDSHAKE_SECONDS = 0.05
"""How long a handshake that has begun may take to end before the port is closed."""

LAST_WORDS_SECONDS = 0.3
"""How long connections that came just before the port was closed may take to send their request."""

DRAIN_SECONDS = 25.0
"""How long a stopping server lets accepted requests finish."""

_BACKLOG = 2048

_SO_ATTACH_FILTER = 26
"""Linux's number; Python has no name for it."""


def run_server(model: str, settings: ServerSettings, quiet: bool = False) -> int:
    """Serve a model until SIGTERM or Ctrl-C; return 0 after a drain, 128 and the signal's number after a second one.

    The port is taken before the model is loaded, so that a busy one is said at once.

    Raises:
        ConfigError: the port is taken, or the address is not this machine's.
        BundleError: the model cannot be served.
    """
    _set_up_log(quiet)
    with open_socket(settings) as listener:
        settings = replace(settings, port=listener.getsockname()[1])
        counters = Counters()
        service = Service(ModelPlace(model, counters, settings.engine), settings, counters)
        return asyncio.run(_serve(service, listener))


def open_socket(settings: ServerSettings) -> socket.socket:
    """Return a socket that holds the address; nobody can connect before it listens.

    Raises:
        ConfigError: the port is taken, or the address is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(_describe_bind_error(settings, error)) from error
    try:
        if sys.platform != "win32":  # there it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(_describe_bind_error(settings, error)) from error
    return listener


def _describe_bind_error(settings: ServerSettings, error: OSError) -> str:
    reason = error.strerror if error.strerror else str(error)
    do = "Stop what listens there, or choose another --port"
    return build_message(f"{settings.host} port {settings.port}", f"cannot be taken ({reason})", do=do)


def _set_up_log(quiet: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    # What is wrong with a form is told to its client: the parser's own lines would let anybody fill the log.
    logging.getLogger("python_multipart").addHandler(logging.NullHandler())


async def _serve(service: Service, listener: socket.socket) -> int:
    config = uvicorn.Config(
        build_app(service),
        http=GuardedConnection,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=int(DRAIN_SECONDS),
    )
    server = _Server(config)
    stop = StopBySignal(server, service)
    with stop.listen():
        await server.serve([listener])
    return stop.exit_code


class _Server(uvicorn.Server):
    """uvicorn's server with the signals left to us: its own end a drained process as if it had been killed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except OSError as error:  # somebody else began to listen while the model was loaded
            await self.lifespan.shutdown()
            raise ConfigError(build_message("", f"the port cannot be taken ({error.strerror})")) from error
        if sockets:
            host, port = sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            log.info("Ready: http://%s:%d/ (Ctrl-C stops, SIGHUP loads the model again)", shown, port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take the last connections that the system has set up for us, close the port, hear them out, and drain."""
        loop = asyncio.get_running_loop()
        last: list[socket.socket] = []
        for listener in sockets or ():
            drop_new_handshakes(listener)
        await asyncio.sleep(HANDSHAKE_SECONDS)
        for listener in sockets or ():
            with contextlib.suppress(OSError):
                while True:
                    last.append(listener.accept()[0])
        for server in self.servers:
            server.close()
        for connection in last:
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(self._build_connection, connection)
        if not self.force_exit:
            await asyncio.sleep(LAST_WORDS_SECONDS)
        await super().shutdown(sockets)

    def _build_connection(self) -> GuardedConnection:
        return GuardedConnection(self.config, self.server_state, self.lifespan.state)


def drop_new_handshakes(listener: socket.socket) -> None:
    """Let the system begin no new connection on a port that closes soon: one that nobody accepts would be cut.

    Who asks now is answered by the closed port a second later, when its system asks again. On Linux only; elsewhere a
    connection may be cut that was set up between the last accept and the close.

    Source: Linux, Documentation/networking/filter.rst: a packet with the SYN flag (byte 13 of its TCP head) is dropped.
    """
    if sys.platform != "linux":
        return
    load_flags, is_syn, drop, keep = (0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 2**32 - 1)
    code = b"".join(struct.pack("HBBI", *step) for step in (load_flags, is_syn, drop, keep))
    program = ctypes.create_string_buffer(code, len(code))
    with contextlib.suppress(OSError):  # a system that forbids filters closes as any other does
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 4, ctypes.addressof(program)))


class StopBySignal:
    """The first SIGTERM or Ctrl-C drains, the second ends; SIGHUP loads the model again."""

    def __init__(self, server: uvicorn.Server, service: Service) -> None:
        self._server = server
        self._service = service
        self._signal_number = 0
        self._is_forced = False
        self._reload: asyncio.Future[bool] | None = None
        self._is_reload_due = False

    @property
    def exit_code(self) -> int:
        """0 after a drain, 128 and the signal's number where the drain was cut short."""
        return 128 + self._signal_number if self._is_forced else 0

    @contextlib.contextmanager
    def listen(self) -> Generator[None, None, None]:
        """Catch the signals while the server runs."""
        loop = asyncio.get_running_loop()
        caught: dict[int, Callable[[int], None]] = {signal.SIGINT: self._stop, signal.SIGTERM: self._stop}
        if hasattr(signal, "SIGHUP"):
            caught[signal.SIGHUP] = self._load_again

        def pass_on(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
            loop.call_soon_threadsafe(caught[number], number)

        # Not loop.add_signal_handler: Windows has none.
        before = {number: signal.signal(number, pass_on) for number in caught}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int) -> None:
        if self._service.is_draining:
            log.warning("Stopping at once; requests that are under way get no answer.")
            self._is_forced, self._signal_number = True, number
            self._server.should_exit = self._server.force_exit = True
            return
        log.info("Stopping: accepted requests are finished first, a second signal ends at once.")
        self._service.is_draining = True
        asyncio.get_running_loop().call_later(NOTICE_SECONDS, self._close)

    def _close(self) -> None:
        self._server.should_exit = True

    def _load_again(self, number: int) -> None:  # noqa: ARG002 - the signature of a reaction
        self._is_reload_due = True
        if self._reload is None:
            self._start_reload()

    def _start_reload(self) -> None:
        if self._service.is_draining:
            return  # nobody would ask the new model
        self._is_reload_due = False
        self._reload = asyncio.get_running_loop().run_in_executor(None, self._service.place.reload)
        self._reload.add_done_callback(self._end_reload)

    def _end_reload(self, _: asyncio.Future[bool]) -> None:
        self._reload = None
        # A signal that came while the model was read may be about files that were written after it.
        if self._is_reload_due:
            self._start_reload()
