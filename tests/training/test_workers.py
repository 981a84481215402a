"""Data workers that die: what is said, and that they do not outlive their run."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time

import pytest

from manylabel.errors import RunError
from manylabel.training.workers import end_with_parent, end_workers, explain_death, name_dead_workers


@pytest.mark.parametrize(
    ("error", "start"),
    [
        pytest.param(
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            "data workers: a process that decodes images is gone (DataLoader worker (pid 7) is killed by",
            id="killed while training computes",
        ),
        pytest.param(
            RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"),
            "data workers: a process that decodes images is gone (DataLoader worker (pid(s) 7, 8) exited unexpectedly)",
            id="killed while training waits",
        ),
        pytest.param(
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's"),
            "data workers: the shared memory (/dev/shm) in which they hand over images is full.",
            id="a page that could not be had",
        ),
        pytest.param(
            RuntimeError(
                "Caught RuntimeError in DataLoader worker process 0.\nunable to write to file </torch_1_2>: No"
            ),
            "data workers: the shared memory (/dev/shm)",
            id="a file that could not be made",
        ),
        pytest.param(MemoryError(), "train: the memory is not enough (MemoryError)", id="Python's memory"),
        pytest.param(
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            "train: the memory is not enough (",
            id="torch's memory",
        ),
    ],
)
def test_a_death_is_one_sentence(error: Exception, start: str) -> None:
    with pytest.raises(RunError) as caught, name_dead_workers():
        raise error
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith("and go on with --resume.")


def test_a_connection_that_a_worker_left_is_a_death_and_one_of_a_network_is_not() -> None:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    sender.close()
    with (
        pytest.raises(
            RunError, match=r"^data workers: a process that decodes images is gone \(EOFError\)\. The system"
        ),
        name_dead_workers(),
    ):
        receiver.recv()
    with pytest.raises(ConnectionResetError), name_dead_workers():
        raise ConnectionResetError


def test_workers_that_died_before_they_were_all_there_have_nothing_to_end() -> None:
    class Loader:
        _iterator = type("Iterator", (), {"_shutdown_workers": lambda _: 1 / 0})()

    end_workers(Loader())


class Grave:
    """Raises an error when it is cleared away."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __del__(self) -> None:
        raise self.error


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_death_that_is_noticed_in_a_destructor_prints_nothing_and_other_failures_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: shown.append(str(unraisable.exc_value)))
    before = sys.unraisablehook
    with name_dead_workers():
        Grave(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "))
        Grave(RuntimeError("something else"))
    assert shown == ["something else"]
    assert sys.unraisablehook is before


def test_other_failures_stay_what_they_are() -> None:
    assert explain_death(RuntimeError("shapes do not fit")) == ""
    with pytest.raises(RuntimeError, match="shapes do not fit"), name_dead_workers():
        raise RuntimeError("shapes do not fit")


def test_a_worker_ends_when_its_parent_is_gone() -> None:
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        if os.fork() == 0:
            end_with_parent()
            os.write(writer, b"x")
            time.sleep(60)  # holds the pipe open
        os.read(reader, 1)
        os._exit(0)
    os.close(writer)
    os.waitpid(parent, 0)
    assert os.read(reader, 1) == b""  # the last writer is gone: the worker ended long before its sleep
    os.close(reader)
