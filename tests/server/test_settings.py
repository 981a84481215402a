"""ServerSettings: a server that others can reach has a secret, and every problem is said at once."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.conftest import TOKEN

from manylabel.cores import count_cores
from manylabel.errors import ConfigError
from manylabel.server.settings import ServerSettings


def test_by_default_only_this_machine_is_answered_with_as_many_workers_as_cores() -> None:
    settings = ServerSettings()
    assert (settings.host, settings.num_workers) == ("127.0.0.1", count_cores())


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LocalHost"])
def test_loopback_needs_no_token(host: str) -> None:
    assert ServerSettings(host=host).token is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_another_address_needs_one(host: str) -> None:
    with pytest.raises(ConfigError, match="other machines could use the model without a password"):
        ServerSettings(host=host)
    assert ServerSettings(host=host, token=TOKEN).token == TOKEN


@pytest.mark.parametrize("token", ["", "short", "x" * 21, "with a space in the middle", "ü" * 30])
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match=r"^--token: a token of \d+ characters that others may guess") as raised:
        ServerSettings(token=token)
    assert not token or token not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"port": 70000}, "--port: outside what makes sense, got 70000, expected 0 to 65535."),
        ({"num_workers": -1}, "--workers: outside what makes sense, got -1, expected 0 to 256."),
        ({"max_queue": 0}, "--max-queue: outside what makes sense, got 0, expected 1 to 100000."),
        ({"deadline_seconds": float("nan")}, "--deadline: outside what makes sense, got nan, expected 0.1 to 3600."),
        ({"allowed_hosts": ("http://x",)}, "--allow-host: not a host name, got 'http://x'"),
        ({"allowed_hosts": ("*",)}, "--allow-host: not a host name, got '*'"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        ServerSettings(**given)
    assert str(raised.value).startswith(message)


def test_all_problems_are_said_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        ServerSettings(host="0.0.0.0", port=-1)
    assert [line.split(":")[0] for line in str(raised.value).splitlines()] == ["--host 0.0.0.0", "--port"]


def test_the_default_port_of_http_may_be_left_out() -> None:
    assert ServerSettings(port=80).answers_to("localhost")
    assert not ServerSettings(port=80).answers_to("localhost:8000")
    assert not ServerSettings().answers_to("localhost")


def test_an_address_of_this_machine_is_one_of_its_names_but_not_all_of_them() -> None:
    assert ServerSettings(host="192.168.1.5", token=TOKEN).answers_to("192.168.1.5:8000")
    assert ServerSettings(host="fe80::1", token=TOKEN).answers_to("[fe80::1]:8000")
    assert not ServerSettings(host="0.0.0.0", token=TOKEN).answers_to("0.0.0.0:8000")
