"""ServerSettings: what `manylabel serve` can be told, checked before anything is opened."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import cached_property

from manylabel.cores import count_cores
from manylabel.errors import ConfigError, build_message, join_problems

MIN_TOKEN_LENGTH = 22
"""Letters that a random token needs for 128 bits, at six bits each."""

_TOKEN = re.compile(r"[\x21-\x7e]+")
_HOST_NAME = re.compile(r"[a-z0-9_.-]+|\[[0-9a-f:.]+\]")


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Where the server listens, who may ask, and how much it takes on at once.

    Raises:
        ConfigError: an address that is not loopback without a token, a token that can be guessed, a port or a number
            that makes no sense. All problems are listed.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    num_workers: int = 0
    max_queue: int = 64
    deadline_seconds: float = 30.0
    engine: str = "onnxruntime"

    def __post_init__(self) -> None:
        if self.num_workers == 0:
            object.__setattr__(self, "num_workers", count_cores())
        problems = [*_find_access_problems(self), *_find_number_problems(self)]
        if problems:
            raise ConfigError(join_problems(problems))

    def answers_to(self, host: str) -> bool:
        """Tell whether the value of a Host header is one of this server's names.

        Its own names need its own port. A name from `allowed_hosts` without a port stands for any port, since what
        stands in front of the server may listen elsewhere.
        """
        host = host.lower()
        name, port = _split_port(host)
        is_allowed = name in self._allowed and (port is None or port.isdecimal())
        return is_allowed or host in self._allowed or host in self._own_hosts

    @cached_property
    def _allowed(self) -> frozenset[str]:
        return frozenset(name.lower() for name in self.allowed_hosts)

    @cached_property
    def _own_hosts(self) -> frozenset[str]:
        names = {"127.0.0.1", "localhost", "[::1]"}
        if not is_any_address(self.host):
            names.add(f"[{self.host}]" if ":" in self.host else self.host.lower())
        ports = (f":{self.port}", "") if self.port == 80 else (f":{self.port}",)
        return frozenset(name + port for name in names for port in ports)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach the address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_any_address(host: str) -> bool:
    """Tell whether the address stands for all of the machine's own."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return not host


def _find_access_problems(settings: ServerSettings) -> list[str]:
    problems = []
    if not is_loopback(settings.host) and settings.token is None:
        problems.append(
            build_message(
                f"--host {settings.host}",
                "other machines could use the model without a password",
                do="Set MANYLABEL_TOKEN to a secret, such as what this prints: "
                'python -c "import secrets; print(secrets.token_urlsafe())"',
            )
        )
    token = settings.token
    if token is not None and (len(token) < MIN_TOKEN_LENGTH or not _TOKEN.fullmatch(token)):
        problems.append(
            build_message(
                "--token",
                f"a token of {len(token)} characters that others may guess or a header cannot carry",
                expected=f"at least {MIN_TOKEN_LENGTH} visible ASCII characters without spaces",
                do='Take what this prints: python -c "import secrets; print(secrets.token_urlsafe())"',
            )
        )
    for name in settings.allowed_hosts:
        host, port = _split_port(name.lower())
        if not _HOST_NAME.fullmatch(host) or not (port is None or port.isdecimal()):
            expected = "a host name such as models.example.org or models.example.org:8443"
            problems.append(build_message("--allow-host", "not a host name", got=name, expected=expected))
    return problems


def _split_port(name: str) -> tuple[str, str | None]:
    host, colon, port = name.rpartition(":")
    return (host, port) if colon and not name.endswith("]") else (name, None)


def _find_number_problems(settings: ServerSettings) -> list[str]:
    bounds = (
        ("--port", settings.port, 0, 65535),
        ("--workers", settings.num_workers, 0, 256),
        ("--max-queue", settings.max_queue, 1, 100_000),
        ("--deadline", settings.deadline_seconds, 0.1, 3600),
    )
    return [
        build_message(name, "outside what makes sense", got=value, expected=f"{lowest:g} to {highest:g}")
        for name, value, lowest, highest in bounds
        if not lowest <= value <= highest
    ]
