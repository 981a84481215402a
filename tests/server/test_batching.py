"""Batcher: what waits together is answered together, and what nobody waits for any more is never computed."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from manylabel.inference.prediction import Prediction
from manylabel.server.batching import Batcher
from manylabel.server.counters import Counters
from manylabel.server.limits import Admission, RequestError, Ticket

PIXELS = np.zeros((1, 1, 3), np.uint8)


@dataclass
class FakePredictor:
    """Answers with the name, after a gate is opened; remembers the order and the thread."""

    gate: threading.Event = field(default_factory=threading.Event)
    seen: list[str] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    def predict(self, pixels_HWC: Any, name: str, *, top_k: int | None) -> Prediction:  # noqa: ARG002 - as the real one
        assert self.gate.wait(30)
        self.seen.append(name)
        self.threads.add(threading.get_ident())
        if name == "bad":
            raise RuntimeError("the engine fails")
        return Prediction(name, (), {}, {}, "m")


@dataclass
class FakeModel:
    """What the batcher needs of a model."""

    predictor: FakePredictor = field(default_factory=FakePredictor)


def ticket(seconds: float = 60, is_gone: bool = False) -> Ticket:
    return Ticket(Admission(8), time.monotonic() + seconds, lambda: is_gone)


def run_names(names: list[str], model: FakeModel, tickets: dict[str, Ticket], num_threads: int = 1) -> tuple[Any, str]:
    """Give the names to a batcher while its threads are held up, then let them go."""
    counters = Counters()

    async def run() -> Any:
        batcher = Batcher(num_threads, counters, max_batch_size=3)
        tasks = [
            asyncio.create_task(batcher.predict(model, PIXELS, name, None, tickets.get(name, ticket())))  # type: ignore[arg-type]
            for name in names
        ]
        await asyncio.sleep(0.01)
        model.predictor.gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        batcher.stop()
        return answers

    return asyncio.run(run()), counters.write({}, "m")


def test_each_gets_its_own_answer_off_the_event_loop_and_what_piled_up_goes_in_batches() -> None:
    model = FakeModel()
    names = [str(number) for number in range(8)]
    answers, page = run_names(names, model, {})
    assert [answer.image for answer in answers] == model.predictor.seen == names
    assert threading.get_ident() not in model.predictor.threads
    assert "manylabel_batch_seconds_count 4" in page  # the first alone, then 3, 3 and 1


def test_threads_share_what_waits() -> None:
    model = FakeModel()
    run_names([str(number) for number in range(8)], model, {}, num_threads=2)
    assert len(model.predictor.threads) == 2


def test_what_is_too_late_or_has_lost_its_client_is_dropped_before_the_network() -> None:
    model = FakeModel()
    answers, page = run_names(["a", "late", "gone", "b"], model, {"late": ticket(-1), "gone": ticket(is_gone=True)})
    assert model.predictor.seen == ["a", "b"]
    for refused in answers[1:3]:
        assert isinstance(refused, RequestError)
        assert (refused.status, refused.kind, refused.headers) == (503, "late", {"Retry-After": "1"})
    assert "manylabel_dropped_total 2" in page


def test_a_request_that_was_given_up_is_not_computed() -> None:
    model = FakeModel()

    async def run() -> None:
        batcher = Batcher(1, Counters())
        first, second = (
            asyncio.create_task(batcher.predict(model, PIXELS, name, None, ticket()))  # type: ignore[arg-type]
            for name in ("first", "second")
        )
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.sleep(0)
        model.predictor.gate.set()
        await first
        batcher.stop()

    asyncio.run(run())
    assert model.predictor.seen == ["first"]


def test_one_image_that_makes_the_engine_fail_takes_no_neighbour_with_it() -> None:
    answers, _ = run_names(["a", "b", "bad", "c"], FakeModel(), {})
    assert [type(answer).__name__ for answer in answers] == ["Prediction", "Prediction", "RuntimeError", "Prediction"]


@pytest.mark.parametrize("num_threads", [1, 3])
def test_an_idle_thread_takes_an_image_at_once(num_threads: int) -> None:
    model = FakeModel()
    model.predictor.gate.set()
    answers, page = run_names(["only"], model, {}, num_threads)
    assert answers[0].image == "only"
    assert "manylabel_batch_seconds_count 1" in page
