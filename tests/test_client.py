"""Client: typed answers, and clear errors for whatever a server or its absence can do; against a stub of one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from manylabel import client as client_module
from manylabel.client import Client, ServerError
from manylabel.decisions.reasons import Decision, RuleEffect
from manylabel.errors import ConfigError

ANSWER: dict[str, Any] = {
    "image": "x",
    "labels": ["dog"],
    "probabilities": {"dog": 0.9},
    "thresholds": {"dog": 0.4},
    "model": "m",
    "error": None,
}
NOTHING: dict[str, Any] = {"labels": None, "probabilities": {}, "thresholds": {}}
BROKEN = {**ANSWER, **NOTHING, "error": {"kind": "broken", "message": "x: bad."}}
BUSY = (503, {"error": {"kind": "busy", "message": "The queue is full."}})


class Stub(ThreadingHTTPServer):
    """Gives prepared answers in turn and remembers what it was asked."""

    answers: list[tuple[int, Any]]
    asked: list[tuple[str, str, dict[str, str], bytes]]
    drops_connections = False


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, dict(self.headers), body))
        status, answer = self.server.answers.pop(0)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        if status == 503:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = self.server.drops_connections

    do_GET = do_POST

    def log_message(self, *given: Any) -> None:
        pass


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(("127.0.0.1", 0), Handler)
    server.answers, server.asked = [], []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def connect(stub: Stub, **more: Any) -> Client:
    return Client(f"http://127.0.0.1:{stub.server_port}", **more)


def test_an_answer_becomes_a_prediction_under_the_name_that_was_given(stub: Stub, tmp_path: Path) -> None:
    path = tmp_path / "a b.png"
    path.write_bytes(b"bytes")
    stub.answers = [(200, ANSWER)]
    with connect(stub) as client:
        prediction = client.predict(path, top_k=2, all_probabilities=True)
    assert (prediction.image, prediction.labels, prediction.margins["dog"]) == (str(path), ("dog",), 0.5)
    _, asked, headers, body = stub.asked[0]
    assert asked.endswith("a+b.png&all_probabilities=true&top_k=2")
    assert (headers["Content-Type"], body) == ("application/octet-stream", b"bytes")
    assert "Authorization" not in headers


def test_an_image_that_cannot_be_used_is_an_answer_and_not_an_exception(stub: Stub) -> None:
    stub.answers = [(400, BROKEN), (400, [BROKEN])]
    with connect(stub) as client:
        prediction = client.predict(b"x", "cat.jpg")
        assert (prediction.labels, prediction.error) == (None, {"kind": "broken", "message": "x: bad."})
        assert client.predict_many([b"x"])[0].labels is None


def test_a_form_carries_the_names_of_files_without_their_folders(stub: Stub, tmp_path: Path) -> None:
    path = tmp_path / 'q"ü.png'
    path.write_bytes(b"--first--")
    stub.answers = [(200, [ANSWER, ANSWER])]
    with connect(stub) as client:
        assert [answer.image for answer in client.predict_many([path, b"second"])] == [str(path), "image"]
    body = stub.asked[0][3]
    assert 'filename="q%22ü.png"'.encode() in body
    assert b"--first--" in body
    assert str(tmp_path).encode() not in body


def test_a_busy_server_is_asked_again_and_given_up_in_the_end(stub: Stub) -> None:
    stub.answers = [BUSY, (200, ANSWER), BUSY, BUSY]
    with connect(stub, num_tries=2) as client:
        assert client.predict(b"x").labels == ("dog",)
        with pytest.raises(ServerError, match=r"the server answered 503: The queue is full\.") as raised:
            client.predict(b"x")
    assert (raised.value.status, raised.value.kind, len(stub.asked)) == (503, "busy", 4)


def test_a_connection_that_the_server_has_closed_is_opened_again(stub: Stub) -> None:
    stub.drops_connections = True
    stub.answers = [(200, ANSWER)] * 3
    with connect(stub) as client:
        assert [client.predict(b"x").labels for _ in range(3)] == [("dog",)] * 3


@pytest.mark.parametrize(
    ("status", "answer", "message"),
    [
        pytest.param(401, {"error": {"kind": "no_token", "message": "A token is needed."}}, "401: A token", id="ours"),
        pytest.param(502, b"<html>Bad Gateway</html>", "502: no reason given", id="a proxy's"),
        pytest.param(500, {}, "500: no reason given", id="nothing"),
    ],
)
def test_a_refusal_is_an_error_with_its_reason(stub: Stub, status: int, answer: Any, message: str) -> None:
    stub.answers = [(status, answer)]
    with connect(stub) as client, pytest.raises(ServerError, match=message) as raised:
        client.read_model()
    assert raised.value.status == status


def test_the_token_is_sent_and_never_shown(stub: Stub) -> None:
    stub.answers = [(200, {"labels": [{"label": "dog", "threshold": 0.4}], "model": "m"})]
    client = connect(stub, token="secret")
    assert client.read_thresholds() == {"dog": 0.4}
    assert stub.asked[0][2]["Authorization"] == "Bearer secret"
    assert "secret" not in repr(client)
    client.close()


def test_no_server_is_an_error_that_says_what_to_do() -> None:
    client = Client("http://127.0.0.1:9", timeout_seconds=5)
    with pytest.raises(ServerError, match=r"no answer .* Check that the server runs there") as raised:
        client.predict(b"x")
    assert (raised.value.status, raised.value.kind) == (0, "no_connection")
    assert not client.is_ready()


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="not the address of a server"):
        Client(url)


def test_wrong_images_are_refused_before_anything_is_sent(stub: Stub, tmp_path: Path) -> None:
    with connect(stub) as client:
        with pytest.raises(ConfigError, match="cannot be read"):
            client.predict(tmp_path / "gone.png")
        for number in (0, client_module.MAX_IMAGES + 1):
            with pytest.raises(ConfigError, match=f"got {number}, expected 1 to 32"):
                client.predict_many([b"x"] * number)
    assert stub.asked == []


def test_one_table_is_decided_as_one_image_and_a_list_as_a_list(stub: Stub) -> None:
    decided = {"labels": ["dog"], "by_rules": [{"rule": "r", "added": ["dog"], "removed": []}]}
    stub.answers = [(200, [decided]), (200, [decided]), (200, [decided, {**decided, "needs_person": True}])]
    one = Decision(("dog",), (RuleEffect("r", added=("dog",)),))
    with connect(stub) as client:
        assert client.decide({"dog": 0.5}) == one
        assert client.decide([{"dog": 0.5}], {"dog": 0.25}) == [one]
        assert client.decide({"dog": p} for p in (0.5, 0.75)) == [one, replace(one, needs_person=True)]
    assert [json.loads(body) for *_, body in stub.asked] == [
        {"probabilities": [{"dog": 0.5}], "thresholds": {}},
        {"probabilities": [{"dog": 0.5}], "thresholds": {"dog": 0.25}},
        {"probabilities": [{"dog": 0.5}, {"dog": 0.75}], "thresholds": {}},
    ]


def test_what_is_no_table_of_probabilities_is_refused_before_anything_is_sent(stub: Stub) -> None:
    with connect(stub) as client:
        for wrong in ([0.5], "dog", [{"dog": 0.5}, ["dog"]]):
            with pytest.raises(ConfigError, match=r"^probabilities: not of this form, got .*, expected a table with"):
                client.decide(wrong)  # type: ignore[call-overload]
        for number in (0, client_module.MAX_IMAGES + 1):
            with pytest.raises(ConfigError, match=f"got {number}, expected 1 to 32"):
                client.decide([{"dog": 0.5}] * number)
    assert stub.asked == []
