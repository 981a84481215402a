"""Batcher: the network in threads, fed with whatever waits, so that the event loop never waits for it."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from manylabel.inference.prediction import Prediction
from manylabel.server.counters import Counters
from manylabel.server.limits import RequestError, Ticket
from manylabel.server.model import ServedModel

log = logging.getLogger("manylabel.server")

MAX_BATCH_SIZE = 8
"""How many images a thread takes at once; the answers of a batch come together."""


@dataclass(frozen=True)
class _Job:
    """One image that waits for the network."""

    model: ServedModel
    pixels_HWC: npt.NDArray[np.uint8]
    name: str
    top_k: int | None
    ticket: Ticket
    answer: asyncio.Future[Prediction]


class Batcher:
    """Gives waiting images to threads, several at once when they pile up.

    A batch grows only while all threads are busy: an idle server answers at once. Inside a batch the network sees one
    image after the other, as in every other place that predicts: on a CPU that is as fast, and an answer never depends
    on its neighbours.
    """

    def __init__(self, num_threads: int, counters: Counters, max_batch_size: int = MAX_BATCH_SIZE) -> None:
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="network")
        self._num_threads = self._num_idle = num_threads
        self._max_batch_size = max_batch_size
        self._counters = counters
        self._waiting: deque[_Job] = deque()

    async def predict(
        self, model: ServedModel, pixels_HWC: npt.NDArray[np.uint8], name: str, top_k: int | None, ticket: Ticket
    ) -> Prediction:
        """Return the answer for one image at the model's size.

        Raises:
            RequestError: 503, its turn came after its deadline, or its client has gone.
        """
        answer: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Job(model, pixels_HWC, name, top_k, ticket, answer))
        self._start_batches()
        return await answer

    def stop(self) -> None:
        """Let running batches end and take no more."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _start_batches(self) -> None:
        while self._num_idle and (batch := self._take_batch()):
            self._num_idle -= 1
            running = asyncio.get_running_loop().run_in_executor(self._threads, _run_batch, batch)
            running.add_done_callback(partial(self._finish, batch))

    def _take_batch(self) -> list[_Job]:
        size = min(self._max_batch_size, math.ceil(len(self._waiting) / self._num_threads))
        batch: list[_Job] = []
        while self._waiting and len(batch) < size:
            job = self._waiting.popleft()
            if job.answer.done():  # its request has been given up
                self._counters.dropped.add()
            elif job.ticket.is_worthless:
                self._counters.dropped.add()
                job.answer.set_exception(
                    RequestError.for_now("late", "The deadline passed before the image had its turn; try again later.")
                )
            else:
                batch.append(job)
        return batch

    def _finish(self, batch: list[_Job], running: asyncio.Future[tuple[list[Prediction | Exception], float]]) -> None:
        self._num_idle += 1
        answers, seconds = running.result()
        self._counters.batch_seconds.add(seconds)
        for job, answer in zip(batch, answers, strict=True):
            if job.answer.done():
                continue
            if isinstance(answer, Exception):
                job.answer.set_exception(answer)
            else:
                job.answer.set_result(answer)
        self._start_batches()


def _run_batch(batch: list[_Job]) -> tuple[list[Prediction | Exception], float]:
    """Answer each image for itself, so that one which fails takes none with it."""
    started = time.perf_counter()
    answers: list[Prediction | Exception] = []
    for job in batch:
        try:
            answers.append(job.model.predictor.predict(job.pixels_HWC, job.name, top_k=job.top_k))
        except Exception as error:  # a bug of ours or of the engine: it becomes a 500 with a traceback in the log
            answers.append(error)
    return answers, time.perf_counter() - started
