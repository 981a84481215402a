"""What the server refuses, and how it counts what it has taken on: images, bytes, time."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

from manylabel.errors import ManylabelError

MAX_BODY_BYTES = 20_000_000
"""How large the body of a request may be, counted while it is read."""

MAX_JSON_BYTES = 2_000_000
"""How large a body of JSON may be: read, it takes up to 25 times as much memory."""

MAX_IMAGES = 32
"""How many images one request may bring."""

MAX_JSON_DEPTH = 32
"""How many tables and lists may stand in one another; looked at before the JSON is read."""

MAX_JSON_CONTAINERS = MAX_IMAGES + 8
"""How many tables and lists a body of JSON may have in all; a question about 32 images has 35. Each costs memory and
time to read, during which nothing else runs."""

MAX_BYTES_IN_FLIGHT = 256_000_000
"""How many bytes of bodies the server holds at once, over all requests; those that are not complete yet, half as
many: when a body needs more, the oldest incomplete one is given up."""

MAX_FIELDS = 20
"""How many fields that are no files a form may have; they are ignored."""

MAX_PART_HEADER_BYTES = 16_384
"""How large the head of one part of a form may be."""

MAX_NAME_LENGTH = 255
"""How long the name of an image may be."""

MAX_HEAD_BYTES = 65_536
"""How large the head of a request may be."""

MAX_CONNECTIONS = 1_000
"""How many connections are open at once; one more is told so and closed."""

HEAD_SECONDS = 10.0
"""How long a client may take to send the head of a request, or anything at all."""

PAUSE_SECONDS = 5.0
"""How long a client may send nothing in the middle of a body."""

BODY_SECONDS = 20.0
"""How long a client may take to send a body."""

GIVE_UP_SECONDS = 28.0
"""When a connection that still sends the body of an answered request, or does not take its answer, is cut."""

RETRY_AFTER_SECONDS = 1
"""What an answer that says "later" suggests."""


class RequestError(ManylabelError):
    """A request that gets an error instead of an answer: an HTTP status, a kind for programs, a sentence for people."""

    def __init__(self, status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.headers = headers if headers is not None else {}

    @classmethod
    def for_now(cls, kind: str, message: str) -> RequestError:
        """Return a 503 with Retry-After."""
        return cls(503, kind, message, {"Retry-After": str(RETRY_AFTER_SECONDS)})


class Admission:
    """How many images and bytes are in flight, with a bound on each."""

    def __init__(self, max_images: int, max_bytes: int = MAX_BYTES_IN_FLIGHT) -> None:
        self.max_images = max_images
        self.max_bytes = max_bytes
        self.num_images = 0
        self.num_bytes = 0
        # Those whose bodies are not complete, oldest first byte first, and what they hold together.
        self._receiving: dict[Ticket, None] = {}
        self._num_receiving_bytes = 0

    def admit(self, deadline_seconds: float, is_gone: Callable[[], bool], num_images: int = 1) -> Ticket:
        """Return the ticket of a request that there is room for; it holds nothing until its body comes.

        Raises:
            RequestError: 503, there are as many images as the server takes on.
        """
        self.check_room(num_images)
        return Ticket(self, time.monotonic() + deadline_seconds, is_gone)

    def check_room(self, num: int) -> None:
        """Stop where there is no room for so many images more.

        Raises:
            RequestError: 503, there is none.
        """
        if num and self.num_images + num > self.max_images:
            raise RequestError.for_now("busy", f"The queue of {self.max_images} images is full; try again soon.")

    def receive(self, ticket: Ticket, num: int) -> None:
        """Count bytes of a body that is not complete, and give up the oldest such bodies until they fit their half.

        A client that sends much and then little by little holds what it sent only until others need it. The oldest goes
        even where it is the one that asks, so that what is slow never drives out what is fast.
        """
        self._receiving.setdefault(ticket)
        self._num_receiving_bytes += num
        while self._num_receiving_bytes > self.max_bytes // 2:
            next(iter(self._receiving)).give_up()

    def end_receiving(self, ticket: Ticket, num: int) -> None:
        """Forget a body that has come, or never will, with the bytes it had."""
        if ticket in self._receiving:
            del self._receiving[ticket]
            self._num_receiving_bytes -= num


class Ticket:
    """What one request holds: its place in the queue, its bytes and its deadline."""

    def __init__(self, admission: Admission, deadline: float, is_gone: Callable[[], bool]) -> None:
        self._admission = admission
        self._num_images = 0
        self._num_bytes = 0
        self._wait: asyncio.Timeout | None = None
        self._is_given_up = False
        self.deadline = deadline
        self.is_gone = is_gone

    @property
    def is_worthless(self) -> bool:
        """Whether nobody waits for the answer any more: too late, or the client has gone."""
        return time.monotonic() >= self.deadline or self.is_gone()

    def add_images(self, num: int) -> None:
        """Take on more images.

        Raises:
            RequestError: 503, there are as many as the server takes on.
        """
        self._admission.check_room(num)
        self._admission.num_images += num
        self._num_images += num

    async def wait_for(self, receive: Callable[[], Any], seconds: float) -> Any:
        """Return the next message of a body.

        Raises:
            TimeoutError: it did not come.
            RequestError: 503, others needed the memory.
        """
        try:
            async with asyncio.timeout(seconds) as self._wait:
                message = await receive()
        except TimeoutError:
            self._check_kept()
            raise
        finally:
            self._wait = None
        self._check_kept()
        return message

    def add_bytes(self, num: int, *, is_last: bool = True) -> None:
        """Take on more bytes, the last ones of a body or not.

        Raises:
            RequestError: 503, there are as many as the server holds.
        """
        if is_last:
            self._admission.end_receiving(self, self._num_bytes)
        if self._admission.num_bytes + num > self._admission.max_bytes:
            raise _no_memory()
        self._admission.num_bytes += num
        self._num_bytes += num
        if not is_last and self._num_bytes:
            self._admission.receive(self, num)
            self._check_kept()

    def give_up(self) -> None:
        """Give the bytes of a body that is not complete back, and wake who waits for the rest of it."""
        self._is_given_up = True
        self.release()
        if self._wait is not None:
            self._wait.reschedule(asyncio.get_running_loop().time())

    def _check_kept(self) -> None:
        if self._is_given_up:
            raise _no_memory()

    def release(self) -> None:
        """Give everything back; a second time changes nothing."""
        self._admission.end_receiving(self, self._num_bytes)
        self._admission.num_images -= self._num_images
        self._admission.num_bytes -= self._num_bytes
        self._num_images = self._num_bytes = 0


def _no_memory() -> RequestError:
    return RequestError.for_now("busy", "Other requests fill the memory for images; try again soon.")


async def read_body(
    receive: Callable[[], Any],
    declared_length: str | None,
    ticket: Ticket,
    max_bytes: int = MAX_BODY_BYTES,
    num_images: int = 1,
) -> bytes:
    """Return the body of a request, counted while it arrives, whatever its head says, and take a place in the queue.

    The place is taken at the end: clients that send slowly, or nothing, hold none. What they have sent is memory, of
    which bodies that are not complete have half; when others need that, the oldest of them is given up.

    Raises:
        RequestError: 400 empty or the client went away, 408 too slow, 413 too large, 503 no memory left for it, or no
            place.
    """
    if declared_length is not None and declared_length.isdecimal() and int(declared_length) > max_bytes:
        raise _too_large(max_bytes)
    blocks, num_bytes, has_more = [], 0, True
    until = time.monotonic() + BODY_SECONDS
    while has_more:
        try:
            message = await ticket.wait_for(receive, max(0.0, min(PAUSE_SECONDS, until - time.monotonic())))
        except TimeoutError:
            raise RequestError(
                408, "slow", "The body did not arrive in time; send it faster.", {"Connection": "close"}
            ) from None
        if message["type"] != "http.request":
            raise RequestError(400, "incomplete", "The client went away before the body was complete.")
        block = message.get("body", b"")
        num_bytes += len(block)
        if num_bytes > max_bytes:
            raise _too_large(max_bytes)
        has_more = message.get("more_body", False)
        ticket.add_bytes(len(block), is_last=not has_more)
        blocks.append(block)
    if num_bytes == 0:
        raise RequestError(400, "empty", "The body is empty; send what the path takes, such as the bytes of an image.")
    ticket.add_images(num_images)
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def _too_large(max_bytes: int) -> RequestError:
    return RequestError(
        413,
        "too_large",
        f"The body is larger than {max_bytes:,} bytes; send a smaller image, or fewer at once.",
        {"Connection": "close"},
    )


def seconds_left(ticket: Ticket) -> float:
    """Return how long an answer is still worth something, never below 0."""
    return max(0.0, ticket.deadline - time.monotonic()) if math.isfinite(ticket.deadline) else math.inf
