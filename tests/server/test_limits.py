"""What is in flight is counted and bounded, and a body is read with every limit held."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.server.conftest import RED, build_service, connect

from manylabel.server import limits
from manylabel.server.limits import MAX_BODY_BYTES, Admission, RequestError, Ticket, read_body


def let_in(admission: Admission) -> Ticket:
    return admission.admit(30, lambda: False)


def admit(admission: Admission) -> Ticket:
    """Return the ticket of a request whose body has come."""
    ticket = let_in(admission)
    ticket.add_images(1)
    return ticket


def test_images_are_admitted_up_to_the_bound_and_again_when_one_has_gone() -> None:
    admission = Admission(2)
    first, second = admit(admission), admit(admission)
    with pytest.raises(RequestError, match="The queue of 2 images is full") as raised:
        admit(admission)
    assert (raised.value.status, raised.value.headers) == (503, {"Retry-After": "1"})
    first.release()
    first.release()
    assert admission.num_images == 1
    admit(admission)
    second.release()


def test_a_form_needs_room_for_all_its_images() -> None:
    admission = Admission(4)
    ticket = admit(admission)
    ticket.add_images(3)
    with pytest.raises(RequestError):
        ticket.add_images(1)
    ticket.release()
    assert admission.num_images == 0


def test_bytes_are_bounded_over_all_requests() -> None:
    admission = Admission(4, max_bytes=100)
    first, second = admit(admission), admit(admission)
    first.add_bytes(60)
    with pytest.raises(RequestError, match="memory for images"):
        second.add_bytes(41)
    first.release()
    second.add_bytes(41)
    assert admission.num_bytes == 41


def test_a_ticket_is_worthless_after_its_deadline_or_without_its_client() -> None:
    assert Ticket(Admission(1), time.monotonic() - 1, lambda: False).is_worthless
    assert Ticket(Admission(1), time.monotonic() + 60, lambda: True).is_worthless
    assert not Ticket(Admission(1), time.monotonic() + 60, lambda: False).is_worthless


def read(blocks: list[Any], declared: str | None = None, admission: Admission | None = None) -> bytes:
    """Read a body that comes in these blocks; a number is a pause, None the end of the connection."""
    waiting = list(blocks)

    async def receive() -> dict[str, Any]:
        block = waiting.pop(0)
        if isinstance(block, float):
            await asyncio.sleep(block)
            block = waiting.pop(0)
        if block is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": block, "more_body": bool(waiting)}

    return asyncio.run(read_body(receive, declared, let_in(admission if admission is not None else Admission(1))))


def test_a_body_comes_out_as_it_was_sent() -> None:
    assert read([b"ab", b"", b"c"]) == b"abc"
    assert read([b"abc"], declared="3") == b"abc"


def test_a_body_takes_a_place_in_the_queue_when_it_is_complete_and_not_before() -> None:
    admission = Admission(2)
    slow = [let_in(admission) for _ in range(100)]
    slow[0].add_bytes(10)
    assert read([b"abc"], admission=admission) == read([b"abc"], admission=admission) == b"abc"
    assert admission.num_images == 2
    with pytest.raises(RequestError, match="The queue of 2 images is full"):
        slow[0].add_images(1)


class SlowBody:
    """A body that stops after its first blocks, until it is let go on."""

    def __init__(self, admission: Admission, *blocks: bytes) -> None:
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue()
        for block in blocks:
            self._waiting.put_nowait(block)
        self.reading = asyncio.create_task(read_body(self._receive, None, let_in(admission)))

    async def _receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": await self._waiting.get(), "more_body": True}

    def send(self, block: bytes) -> None:
        self._waiting.put_nowait(block)


async def take_turns() -> None:
    """Let whatever can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_incomplete_bodies_hold_half_of_the_memory_and_the_oldest_is_given_up_first() -> None:
    async def send_all() -> None:
        admission = Admission(4, max_bytes=1000)
        slow = [SlowBody(admission, b"x" * 100) for _ in range(5)]
        await take_turns()
        assert admission.num_bytes == 500
        assert not any(each.reading.done() for each in slow)
        newest = SlowBody(admission, b"x" * 150)
        await take_turns()
        assert [each.reading.done() for each in slow] == [True, True, False, False, False]
        assert admission.num_bytes == 450
        for each in slow[:2]:
            with pytest.raises(RequestError, match="Other requests fill the memory") as raised:
                await each.reading
            assert (raised.value.status, raised.value.headers) == (503, {"Retry-After": "1"})
        # A drop that comes late drives nobody out but who sent it.
        slow[2].send(b"x" * 51)
        await take_turns()
        assert [each.reading.done() for each in slow[2:]] == [True, False, False]
        assert not newest.reading.done()
        for each in (*slow[3:], newest):
            each.reading.cancel()

    asyncio.run(send_all())


def test_a_body_that_comes_at_once_has_room_beside_those_that_stop() -> None:
    async def send_all() -> None:
        admission = Admission(64)
        slow = [SlowBody(admission, b"x" * 10_000_000, b"x" * 9_700_000) for _ in range(13)]
        await take_turns()
        for _ in range(18):
            blocks = [b"x" * 100_000] * 3
            assert len(await read_all(blocks, let_in(admission))) == 300_000
        assert admission.num_bytes <= admission.max_bytes // 2 + 18 * 300_000
        assert sum(each.reading.done() for each in slow) == 7
        for each in slow:
            each.reading.cancel()

    asyncio.run(send_all())


async def read_all(blocks: list[bytes], ticket: Ticket) -> bytes:
    waiting = list(blocks)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    return await read_body(receive, None, ticket)


def test_a_body_that_is_given_up_or_goes_leaves_nothing_behind() -> None:
    admission = Admission(2, max_bytes=100)
    with pytest.raises(RequestError, match="went away"):
        read([b"x" * 50, None], admission=admission)
    with pytest.raises(RequestError, match="memory"):
        read([b"x" * 51, b"y"], admission=admission)
    first, second = let_in(admission), let_in(admission)
    first.add_bytes(50, is_last=False)
    first.release()
    second.add_bytes(50, is_last=False)  # fits its half only where nothing is left


@pytest.mark.parametrize(
    ("blocks", "declared", "status", "kind"),
    [
        pytest.param([b""], None, 400, "empty", id="nothing"),
        pytest.param([b"ab", None], None, 400, "incomplete", id="the client goes away"),
        pytest.param([b"x" * (MAX_BODY_BYTES + 1)], None, 413, "too_large", id="too much at once"),
        pytest.param([b"x" * 10_000_000] * 3, None, 413, "too_large", id="too much in blocks"),
        pytest.param([b"x" * 10_000_000] * 3, "5", 413, "too_large", id="more than was said"),
        pytest.param([], str(MAX_BODY_BYTES + 1), 413, "too_large", id="said to be too much: nothing is read"),
    ],
)
def test_a_body_beyond_its_limits_is_refused(blocks: list[Any], declared: str | None, status: int, kind: str) -> None:
    with pytest.raises(RequestError) as raised:
        read(blocks, declared)
    assert (raised.value.status, raised.value.kind) == (status, kind)


def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAUSE_SECONDS", 0.01)
    with pytest.raises(RequestError) as raised:
        read([b"a", 30.0, b"b"])
    assert (raised.value.status, raised.value.headers) == (408, {"Connection": "close"})


def test_a_body_that_comes_in_drops_is_given_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.05)
    with pytest.raises(RequestError) as raised:
        read([b"a", 0.02, b"b", 0.02, b"c", 0.02, b"d", 30.0, b"e"])
    assert raised.value.status == 408


def test_a_full_server_says_so_and_holds_nothing_afterwards(model_folder: Any) -> None:
    service = build_service(model_folder, max_queue=1)
    with connect(service) as client:
        busy = admit(service.admission)
        response = client.post("/predict", content=RED, headers={"Content-Type": "image/png"})
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert response.json()["error"]["kind"] == "busy"
        assert client.get("/livez").status_code == 200
        busy.release()
        assert client.post("/predict", content=RED, headers={"Content-Type": "image/png"}).status_code == 200
        files = [("images", ("x", RED, "image/png"))] * 2
        assert client.post("/predict", files=files).status_code == 503
    assert (service.admission.num_images, service.admission.num_bytes) == (0, 0)


def test_an_answer_that_takes_too_long_is_a_503_at_the_deadline(
    model_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = build_service(model_folder, deadline_seconds=0.1)

    async def wait(*_: Any) -> None:
        await asyncio.sleep(30)

    monkeypatch.setattr(service, "answer", wait)
    with connect(service) as client:
        response = client.post("/predict", content=RED, headers={"Content-Type": "image/png"})
    assert (response.status_code, response.json()["error"]["kind"]) == (503, "late")
