"""The lock of a run folder: one holder, named, and none that outlives its process."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from manylabel.errors import RunError
from manylabel.lock import check_not_running, lock_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")


def test_a_second_holder_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    with lock_folder(tmp_path):
        with pytest.raises(RunError) as caught, lock_folder(tmp_path):
            pass
        assert str(caught.value) == (
            f"{tmp_path}: another run works here: process {os.getpid()} on {socket.gethostname()}. "
            "Wait until it has ended, stop it, or choose another --out."
        )
        with pytest.raises(RunError, match="another run works here"):
            check_not_running(tmp_path)
    assert list(tmp_path.iterdir()) == []
    check_not_running(tmp_path)


def test_the_lock_of_a_killed_process_is_free_even_while_its_child_lives(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    holder = os.fork()
    if holder == 0:
        with lock_folder(tmp_path):
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            os.write(writer, f"{child}\n".encode())
            time.sleep(60)
        os._exit(0)
    child = int(os.read(reader, 20))
    try:
        with pytest.raises(RunError, match=f"another run works here: process {holder} on"):
            check_not_running(tmp_path)
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        os.kill(child, 0)  # it lives
        with lock_folder(tmp_path):
            assert (tmp_path / "run.lock").read_text("utf-8").startswith(f"process {os.getpid()} ")
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(reader)
        os.close(writer)


def test_those_who_only_look_do_not_stop_each_other(tmp_path: Path) -> None:
    """After a kill the file is still there, and a launcher lets all its processes look at the same moment."""
    (tmp_path / "run.lock").write_text("process 99999 on a machine that is gone\n")
    with ThreadPoolExecutor(4) as pool:
        looks = [pool.submit(check_not_running, tmp_path) for _ in range(400)]
    assert [look.exception() for look in looks] == [None] * 400


def test_a_lock_file_that_nobody_holds_is_taken(tmp_path: Path) -> None:
    (tmp_path / "run.lock").write_text("process 1 on elsewhere and much longer than the new text\n", "utf-8")
    with lock_folder(tmp_path):
        assert (tmp_path / "run.lock").read_text("utf-8") == f"process {os.getpid()} on {socket.gethostname()}\n"
