"""DecoderPool: child processes that decode, so that a file which crashes a decoder costs one request."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import os
import signal
import sys
import time
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.data.images import ImageError
from manylabel.data.preprocess import Preprocess
from manylabel.server.counters import Counters
from manylabel.server.decoder import CPU_SECONDS, FRAME
from manylabel.server.limits import RequestError, Ticket

log = logging.getLogger("manylabel.server")

DECODE_SECONDS = 2.0 * CPU_SECONDS
"""How long one image may take by the clock; the processor time has a limit of its own in the child."""

START_SECONDS = 30.0
"""How long a child may take to say that it is there."""

MAX_DEATHS_PER_MINUTE = 3
"""With more, the server says that it is not ready."""

_MAX_HEAD_BYTES = 65_536
_COMMAND = (sys.executable, "-m", "manylabel.server.decoder")
_OUR_ENDS = {"SIGXCPU"}


class DecoderPool:
    """A number of decoders, each replaced as soon as it dies."""

    def __init__(self, num_decoders: int, counters: Counters, command: tuple[str, ...] = _COMMAND) -> None:
        self._num_decoders = num_decoders
        self._command = command
        self._counters = counters
        self._idle: asyncio.LifoQueue[_Decoder] = asyncio.LifoQueue()
        self._keepers: list[asyncio.Task[None]] = []
        self._decoders: set[_Decoder] = set()
        self._deaths: deque[float] = deque(maxlen=MAX_DEATHS_PER_MINUTE + 1)
        self._is_closing = False

    @property
    def process_ids(self) -> list[int]:
        """The numbers of the children that are alive."""
        return [decoder.process.pid for decoder in self._decoders]

    @property
    def is_healthy(self) -> bool:
        """Whether children stay alive: at most `MAX_DEATHS_PER_MINUTE` died in the last minute."""
        deaths = self._deaths
        return len(deaths) <= MAX_DEATHS_PER_MINUTE or time.monotonic() - deaths[0] > 60

    async def start(self) -> None:
        """Start all children and wait until each can decode."""
        started = await asyncio.gather(*(self._start_decoder() for _ in range(self._num_decoders)))
        self._keepers = [asyncio.create_task(self._keep(decoder)) for decoder in started]

    async def stop(self) -> None:
        """End all children."""
        self._is_closing = True
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(decoder.kill() for decoder in list(self._decoders)))
        self._decoders.clear()

    async def decode(self, data: bytes, name: str, preprocess: Preprocess, ticket: Ticket) -> npt.NDArray[np.uint8]:
        """Return the pixels of an image at the model's size, HWC.

        Raises:
            ImageError: the image cannot be used.
            RequestError: 422 the image ended its decoder, 503 somebody else did, or it is too late.
        """
        decoder = await self._idle.get()
        while not decoder.is_usable:  # it died while it waited; its keeper brings another
            decoder = await self._idle.get()
        try:
            if ticket.is_worthless:
                raise RequestError.for_now(
                    "late", "The deadline passed before the image had its turn; try again later."
                )
            started = time.perf_counter()
            try:
                pixels_HWC = await decoder.decode(data, name, preprocess)
            finally:
                self._counters.decode_seconds.add(time.perf_counter() - started)
            return pixels_HWC
        finally:
            if decoder.is_usable:
                self._idle.put_nowait(decoder)

    async def _start_decoder(self) -> _Decoder:
        decoder = await _Decoder.start(self._command)
        self._decoders.add(decoder)
        self._idle.put_nowait(decoder)
        return decoder

    async def _keep(self, decoder: _Decoder) -> None:
        """Wait for the end of a child, say so, and start the next."""
        while True:
            code = await decoder.process.wait()
            decoder.is_usable = False
            self._decoders.discard(decoder)
            if self._is_closing:
                return
            self._note_death(code, decoder.was_ended_by_us)
            pause = 0.0
            while True:
                await asyncio.sleep(pause)
                try:
                    decoder = await self._start_decoder()
                    break
                except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                    self._deaths.append(time.monotonic())
                    pause = min(10.0, 2 * pause + 0.5)
                    log.error("A decoder cannot be started (%s); the next try is in %g s.", error, pause)

    def _note_death(self, code: int, was_ended_by_us: bool) -> None:
        self._counters.decoder_deaths.add()
        if was_ended_by_us or _name_signal(code) in _OUR_ENDS:
            log.warning("A decoder was ended because an image took too long; another one takes its place.")
            return
        self._deaths.append(time.monotonic())
        log.error("A decoder died (%s); another one takes its place.", _describe_end(code))
        if not self.is_healthy:
            log.error(
                "More than %d decoders died within a minute: the server says that it is not ready until that is past.",
                MAX_DEATHS_PER_MINUTE,
            )


class _Decoder:
    """One child: its process, and whether it can be given the next image."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.is_usable = True
        self.was_ended_by_us = False
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout

    @classmethod
    async def start(cls, command: tuple[str, ...]) -> _Decoder:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 20,
            env=_build_environment(),
        )
        decoder = cls(process)
        try:
            async with asyncio.timeout(START_SECONDS):
                await decoder._read_frame(0)
        except BaseException:
            await decoder.kill()
            raise
        return decoder

    async def decode(self, data: bytes, name: str, preprocess: Preprocess) -> npt.NDArray[np.uint8]:
        head = json.dumps({"name": name, "preprocess": _describe_preprocess(preprocess)}).encode()
        shape = (preprocess.height_px, preprocess.width_px, 3)
        is_done = False
        try:
            async with asyncio.timeout(DECODE_SECONDS):
                self._stdin.write(b"".join((FRAME.pack(len(head), len(data)), head, data)))
                await self._stdin.drain()
                answer, body = await self._read_frame(shape[0] * shape[1] * shape[2])
                is_done = True
        except TimeoutError:
            raise RequestError(422, "too_slow", f"{name}: the image takes too long to decode.") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._explain_end(name) from None
        finally:
            if not is_done:  # also where the request was cancelled: the child is in the middle of an image
                self.is_usable = False
                self.end()
        if answer:
            raise ImageError(str(answer["message"]), answer["kind"])
        return np.frombuffer(body, np.uint8).reshape(shape)

    async def _read_frame(self, num_bytes: int) -> tuple[dict[str, Any], bytes]:
        """Return head and body of a frame; what a decoder says is checked, since an image may have taken it over."""
        head_length, body_length = FRAME.unpack(await self._stdout.readexactly(FRAME.size))
        if head_length > _MAX_HEAD_BYTES or body_length not in (0, num_bytes):
            raise _refuse_nonsense()
        head = json.loads(await self._stdout.readexactly(head_length))
        body = await self._stdout.readexactly(body_length)
        is_error = isinstance(head, dict) and {"kind", "message"} <= head.keys() and not body
        if not is_error and not (head == {} and len(body) == num_bytes):
            raise _refuse_nonsense()
        return head, body

    async def _explain_end(self, name: str) -> RequestError:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self.process.wait()
        end = _name_signal(self.process.returncode)
        if end == "SIGXCPU":
            return RequestError(422, "too_slow", f"{name}: the image takes too much processor time to decode.")
        if end == "SIGKILL":
            return RequestError.for_now("decoder_ended", "The process that decoded the image was ended; try again.")
        return RequestError(422, "crashed", f"{name}: the image crashes its decoder.")

    def end(self) -> None:
        """Kill the child without waiting for its end."""
        if self.process.returncode is None:
            self.was_ended_by_us = True
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()

    async def kill(self) -> None:
        """Kill the child and wait for its end."""
        self.is_usable = False
        self.end()
        await self.process.wait()


@functools.lru_cache(maxsize=8)
def _describe_preprocess(preprocess: Preprocess) -> str:
    return json.dumps(preprocess.to_dict())


def _refuse_nonsense() -> RequestError:
    return RequestError(422, "crashed", "The image makes its decoder answer what is no answer.")


def _build_environment() -> dict[str, str]:
    """The server's own, without its secrets; one thread, because each child has one image at a time."""
    kept = {name: value for name, value in os.environ.items() if name != "MANYLABEL_TOKEN"}
    return {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _name_signal(code: int | None) -> str:
    if code is None or code >= 0:
        return ""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return ""


def _describe_end(code: int) -> str:
    return _name_signal(code) or f"exit code {code}"
