"""Who may ask: Host, Origin, Sec-Fetch-Site and token, before anything else happens."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.server.conftest import TOKEN, build_service, connect

from manylabel.server.counters import Counters
from manylabel.server.guard import MAX_WRONG_TOKENS, Guard, Message, Receive, Scope, Send, WrongTokens
from manylabel.server.settings import ServerSettings

HOSTS = {
    "127.0.0.1:8000": True,
    "localhost:8000": True,
    "LOCALHOST:8000": True,
    "[::1]:8000": True,
    "127.0.0.1": False,
    "127.0.0.1:8001": False,
    "localhost:80000": False,
    "evil.example": False,
    "evil.example:8000": False,
    "127.0.0.1.evil.example:8000": False,
    "localhost:8000@evil.example": False,
    "": False,
}
ORIGINS = {
    None: True,
    "http://{host}": True,
    "https://{host}": True,
    "null": False,
    "http://evil.example": False,
    "http://localhost:3000": False,
    "http://{host}.evil.example": False,
    "file://": False,
}
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")


def ask_guard(host: str, origin: str | None, method: str) -> int:
    """Return the status from a guard before an application that answers everything with 204."""
    statuses = []

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - an application
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def receive() -> Message:
        raise AssertionError("the guard reads no body")

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"host", host.encode())]
    headers += [(b"origin", origin.format(host=host).encode())] if origin is not None else []
    scope = {"type": "http", "method": method, "path": "/predict", "headers": headers, "client": ("127.0.0.1", 1)}
    asyncio.run(Guard(answer, ServerSettings(), Counters(), lambda: False)(scope, receive, send))
    return statuses[0]


@pytest.mark.parametrize("host", HOSTS)
def test_only_this_servers_own_names_and_pages_get_an_answer(host: str) -> None:
    wrong = []
    for origin, method in itertools.product(ORIGINS, METHODS):
        expected = 421 if not HOSTS[host] else 403 if not ORIGINS[origin] else 204
        if ask_guard(host, origin, method) != expected:
            wrong.append((origin, method))
    assert wrong == []
    assert len(HOSTS) * len(ORIGINS) * len(METHODS) == 576


def test_two_hosts_or_none_are_no_host(client: TestClient) -> None:
    double = [("Host", "127.0.0.1:8000"), ("Host", "127.0.0.1:8000")]
    assert client.get("/livez", headers=double).status_code == 421  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("site", "status"),
    [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403), ("anything", 403)],
)
def test_what_the_browser_says_of_the_page_is_believed(client: TestClient, site: str, status: int) -> None:
    assert client.get("/labels", headers={"Sec-Fetch-Site": site}).status_code == status


def test_a_foreign_page_may_not_even_ask_for_permission(client: TestClient) -> None:
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    response = client.options("/predict", headers=headers)
    assert response.status_code == 403
    assert response.json()["error"] == {
        "kind": "foreign_page",
        "message": "A page of another site may not use this server.",
    }


@pytest.mark.parametrize(
    ("given", "host", "status"),
    [
        pytest.param("models.example.org", "models.example.org", 200, id="a name for any port"),
        pytest.param("models.example.org", "models.example.org:8443", 200, id="the same with a port"),
        pytest.param("models.example.org:8443", "Models.Example.Org:8443", 200, id="a name with its port"),
        pytest.param("models.example.org:8443", "models.example.org", 421, id="without its port"),
        pytest.param("models.example.org", "models.example.org:x", 421, id="a port that is none"),
        pytest.param("models.example.org", "www.models.example.org", 421, id="a name below it"),
        pytest.param("models.example.org", "127.0.0.1:8000", 200, id="its own names stay"),
    ],
)
def test_further_names_can_be_allowed(model_folder: Path, given: str, host: str, status: int) -> None:
    client = connect(build_service(model_folder, allowed_hosts=(given,)))
    assert client.get("/livez", headers={"Host": host}).status_code == status


@pytest.fixture(scope="module")
def locked(model_folder_of_module: Path) -> Iterator[TestClient]:
    with connect(build_service(model_folder_of_module, token=TOKEN)) as client:
        yield client


@pytest.fixture(scope="module")
def model_folder_of_module(model_folder: Path) -> Path:
    return model_folder


@pytest.mark.parametrize(
    ("header", "status"),
    [
        pytest.param(None, 401, id="none"),
        pytest.param(f"Bearer {TOKEN}", 200, id="right"),
        pytest.param(f"bearer  {TOKEN} ", 200, id="right with spaces"),
        pytest.param(TOKEN, 401, id="without its scheme"),
        pytest.param(f"Basic {TOKEN}", 401, id="another scheme"),
        pytest.param(f"Bearer {TOKEN[:-1]}", 401, id="one letter less"),
        pytest.param(f"Bearer {TOKEN}x", 401, id="one letter more"),
        pytest.param("Bearer ü", 401, id="no ASCII"),
    ],
)
def test_with_a_token_only_those_who_carry_it_are_answered(locked: TestClient, header: str | None, status: int) -> None:
    headers = {"Authorization": header.encode()} if header is not None else {}
    response = locked.get("/labels", headers=headers)  # type: ignore[arg-type]
    assert response.status_code == status
    if status == 401:
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json()["error"]["kind"] == "no_token"
        assert TOKEN not in response.text


def test_a_token_in_the_address_opens_nothing(locked: TestClient) -> None:
    assert locked.get(f"/labels?token={TOKEN}").status_code == 401


def test_who_tries_many_tokens_has_to_wait_and_the_right_one_passes_all_the_same(model_folder: Path) -> None:
    client = connect(build_service(model_folder, token=TOKEN))
    for _ in range(MAX_WRONG_TOKENS):
        assert client.get("/labels", headers={"Authorization": "Bearer wrong"}).status_code == 401
    response = client.get("/labels", headers={"Authorization": "Bearer wrong"})
    assert (response.status_code, response.headers["retry-after"]) == (429, "60")
    # Behind a proxy others have the same address: they are answered, and a page without a token yet may ask for it.
    assert client.get("/labels", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert client.get("/labels").status_code == 401
    assert client.get("/labels", headers={"Authorization": "Bearer wrong"}).status_code == 429
    assert client.get("/livez").status_code == 200


def test_wrong_tokens_are_forgotten_after_a_minute_and_counted_for_each_address() -> None:
    now = 0.0
    wrong = WrongTokens(lambda: now)
    for _ in range(MAX_WRONG_TOKENS):
        wrong.note("10.0.0.1")
    assert wrong.are_too_many("10.0.0.1")
    assert not wrong.are_too_many("10.0.0.2")
    now = 61.0
    assert not wrong.are_too_many("10.0.0.1")


def test_what_is_remembered_of_addresses_is_bounded() -> None:
    wrong = WrongTokens(lambda: 0.0)
    for number in range(WrongTokens._MAX_PEERS + 5):
        wrong.note(str(number))
    assert len(wrong._times) == WrongTokens._MAX_PEERS
