"""`manylabel serve` and its clients: many at once, slow ones, and those whose requests are not what they say."""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from tests.inference.conftest import write_bundle
from tests.scenarios.serving import Served, Traffic, ask_once, serve
from tests.server.conftest import RED

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.skipif(os.name == "nt", reason="sockets are watched as on POSIX"),
]

NUM_SLOW = 200
MOST_SECONDS = 30
"""When the last slow client has to be gone; the server's own limits are 5, 10 and 20 seconds."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(write_bundle(tmp_path_factory.mktemp("model") / "bundle")) as served:
        yield served


# ---------------------------------------------------------------------------------------------------------------------
# Many.
# ---------------------------------------------------------------------------------------------------------------------


def test_256_kept_connections_of_which_64_are_active_have_no_errors(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        connections = [http.client.HTTPConnection("127.0.0.1", served.port, timeout=60) for _ in range(256)]
        for connection in connections:
            stack.callback(connection.close)
            connection.connect()
        active, idle = connections[:64], connections[64:]
        wait_for_connections(served, 256)
        statuses = {ask(connection, "GET", "/livez") for connection in idle}
        assert statuses == {200}
        with ThreadPoolExecutor(64) as threads:
            answers = list(threads.map(lambda connection: [post(connection) for _ in range(20)], active))
        assert {status for each in answers for status in each} == {200}
        # One that has been idle for long is closed in the way that HTTP has for it, and none is reset.
        left = {connection.sock.recv(1) for connection in idle if select.select([connection.sock], [], [], 0)[0]}
        assert left <= {b""}
        assert {ask(reconnect(connection), "GET", "/livez") for connection in idle} == {200}


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> int:
    connection.request(method, path, body, {"Content-Type": "image/png"} if body is not None else {})
    response = connection.getresponse()
    response.read()
    return response.status


def post(connection: http.client.HTTPConnection) -> int:
    return ask(connection, "POST", "/predict", RED)


def reconnect(connection: http.client.HTTPConnection) -> http.client.HTTPConnection:
    """Return the connection, opened again where the server has closed it."""
    if select.select([connection.sock], [], [], 0)[0]:
        connection.close()
    return connection


def wait_for_connections(served: Served, number: int) -> None:
    """Wait until the server has taken so many connections; it lets a new one wait 10 s for its first request."""
    until = time.monotonic() + 9
    while True:
        found = psutil.Process(served.process.pid).net_connections("tcp")
        if sum(each.status == psutil.CONN_ESTABLISHED for each in found) == number:
            return
        assert time.monotonic() < until, "it did not take them all"
        time.sleep(0.02)


# ---------------------------------------------------------------------------------------------------------------------
# Slow.
# ---------------------------------------------------------------------------------------------------------------------


def test_200_clients_that_are_slow_do_not_stop_the_others_and_are_cut(served: Served) -> None:
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Type: image/png\r\n"
    half_body, drops = f"{head}Content-Length: 100000\r\n\r\nabc", f"{head}Transfer-Encoding: chunked\r\n\r\n"
    # A head that never ends, a body that stops, and two bodies that come byte by byte: with a length and without.
    begins = [head, half_body, half_body, drops]
    with contextlib.ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=60))
            for _ in range(NUM_SLOW)
        ]
        began = time.monotonic()
        for number, connection in enumerate(slow):
            connection.sendall(begins[number % 4].encode())
        traffic = stack.enter_context(Traffic(served.port, RED, 2, pause_seconds=0.02))
        ends = watch(slow, dripping=dict.fromkeys(slow[3::4], b"1\r\nx\r\n") | dict.fromkeys(slow[2::4], b"x"))
        seconds = max(end for _, end in ends.values()) - began
    answers = [ends[connection][0][:12] for connection in slow]
    assert answers == [b"", b"HTTP/1.1 408", b"HTTP/1.1 408", b"HTTP/1.1 408"] * (NUM_SLOW // 4)
    assert seconds <= MOST_SECONDS
    assert set(traffic.outcomes) == {"200"}, traffic.outcomes
    print(f"{NUM_SLOW} slow clients were gone after {seconds:.1f} s; {traffic.outcomes['200']} others were answered")


def test_13_clients_that_send_much_and_then_little_leave_the_others_their_memory(served: Served) -> None:
    # Together they would hold 256 MB, all that the server has for bodies.
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Type: image/png\r\n"
    photograph = RED + bytes(300_000 - len(RED))  # what follows an image in its file is not looked at
    with contextlib.ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=60)) for _ in range(13)
        ]
        with ThreadPoolExecutor(len(slow)) as threads:
            begin = f"{head}Content-Length: 19900000\r\n\r\n".encode() + bytes(19_700_000)
            list(threads.map(lambda connection: connection.sendall(begin), slow))
        held = read_bytes_in_flight(served)
        assert 100_000_000 < held <= 128_000_000
        answers = []
        for _ in range(18):
            for connection in slow:
                with contextlib.suppress(OSError):
                    connection.send(b"x")
            answers.append(ask_once(served.port, photograph))
        assert answers == ["200"] * 18
        assert read_bytes_in_flight(served) > 100_000_000, "they did not hold on"


def read_bytes_in_flight(served: Served) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode()
    (line,) = (line for line in page.splitlines() if line.startswith("manylabel_bytes_in_flight "))
    return float(line.split()[1])


def watch(slow: list[socket.socket], dripping: dict[socket.socket, bytes]) -> dict[socket.socket, tuple[bytes, float]]:
    """Send drops once a second until the server has ended each connection; return its last words and when it ended."""
    ends: dict[socket.socket, tuple[bytes, float]] = {}
    words = dict.fromkeys(slow, b"")
    until = time.monotonic() + 2 * MOST_SECONDS
    while len(ends) < len(slow) and time.monotonic() < until:
        for connection, drop in dripping.items():
            if connection not in ends and not words[connection]:
                with contextlib.suppress(OSError):
                    connection.send(drop)
        for connection in wait_for_words([each for each in slow if each not in ends]):
            try:
                said = connection.recv(4096)
            except ConnectionError:
                said = b""
            words[connection] += said
            if not said:
                ends[connection] = words[connection], time.monotonic()
    assert len(ends) == len(slow), f"{len(slow) - len(ends)} are still there"
    return ends


def wait_for_words(connections: list[socket.socket]) -> list[socket.socket]:
    """Return those that have something to read within a second; `select` knows no more than 1,024 of a process."""
    poll = select.poll()
    by_number = {connection.fileno(): connection for connection in connections}
    for number in by_number:
        poll.register(number, select.POLLIN)
    time.sleep(0.5)
    return [by_number[number] for number, _ in poll.poll(500)]


# ---------------------------------------------------------------------------------------------------------------------
# Requests that are not what they say.
# ---------------------------------------------------------------------------------------------------------------------

LARGE = 21_000_000
PART = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n%s\r\n'
FORM = PART % RED + PART % RED[:60] + b"--x--\r\n"


def in_chunks(num_bytes: int) -> bytes:
    size = 1_000_000
    return b"".join(b"%x\r\n%s\r\n" % (size, bytes(size)) for _ in range(num_bytes // size)) + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("content_type", "length", "body", "status"),
    [
        pytest.param("image/png", len(RED), RED, b"200", id="a true length"),
        pytest.param("image/png", None, b"%x\r\n%s\r\n0\r\n\r\n" % (len(RED), RED), b"200", id="chunks, no length"),
        pytest.param("image/png", LARGE, bytes(LARGE), b"413", id="21 MB with their length"),
        pytest.param("image/png", None, in_chunks(LARGE), b"413", id="21 MB in chunks"),
        pytest.param("image/png", len(RED) - 9, RED, b"400", id="more than is said"),
        pytest.param("image/png", 0, b"", b"400", id="nothing"),
        pytest.param("image/png", None, b"xyz\r\n\r\n", b"400", id="chunks that are none"),
        pytest.param("multipart/form-data; boundary=x", None, b"5\r\n--x\r\n\r\n0\r\n\r\n", b"400", id="half a form"),
        pytest.param("multipart/form-data; boundary=x", 5, b"--x\n[", b"400", id="a form with a line end that is none"),
        pytest.param("multipart/form-data; boundary=x", len(FORM), FORM, b"200", id="a form with a corrupt part"),
    ],
)
def test_a_body_that_is_not_what_is_said_gets_one_answer_and_the_next_client_is_served(
    served: Served, content_type: str, length: int | None, body: bytes, status: bytes
) -> None:
    num_said = len(served.said)
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    head = (
        f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Type: {content_type}\r\n"
        f"Connection: close\r\n{size}\r\n\r\n"
    )
    (answer,) = send(served.port, head.encode() + body)
    assert answer[:3] == status
    assert ask_once(served.port, RED) == "200"
    assert served.said[num_said:] == [], "nobody can fill the log"


def test_a_client_that_sends_less_than_it_says_and_goes_costs_nothing(served: Served) -> None:
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Type: image/png\r\n"
    for _ in range(100):  # more than the queue of 64 has places
        with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:
            connection.sendall(f"{head}Content-Length: {len(RED) + 1}\r\n\r\n".encode() + RED)
    assert [ask_once(served.port, RED) for _ in range(20)] == ["200"] * 20


def send(port: int, data: bytes) -> list[bytes]:
    """Send bytes and return every answer, from its status on, until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(data)
        received = b""
        with contextlib.suppress(ConnectionError):
            while block := connection.recv(65_536):
                received += block
    return received.split(b"HTTP/1.1 ")[1:]
