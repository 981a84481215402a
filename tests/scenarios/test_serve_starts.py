"""The start of `manylabel serve`: nobody is told that it is ready before the model has answered for an image."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.inference.conftest import write_bundle
from tests.scenarios.serving import ask_once, serve
from tests.server.conftest import RED, write_own_manifest

from manylabel.bundle.bundle import load_bundle

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.skipif(os.name == "nt", reason="signals of POSIX"),
]


class Prober:
    """Asks `/readyz` again and again from before the start on, and keeps each answer that differs from the last."""

    def __init__(self, port: int) -> None:
        self.seen: list[str] = []
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._probe)

    def __enter__(self) -> Prober:
        self._thread.start()
        return self

    def __exit__(self, *given: object) -> None:
        self._stop.set()
        self._thread.join()

    def _probe(self) -> None:
        while not self._stop.is_set():
            answer = self._ask()
            if self.seen[-1:] != [answer]:
                self.seen.append(answer)
            self._stop.wait(0.005)

    def _ask(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("GET", "/readyz")
            return str(connection.getresponse().status)
        except ConnectionRefusedError:
            return "refused"
        except (OSError, http.client.HTTPException):
            return "lost"
        finally:
            connection.close()


def find_free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_ten_starts_are_ready_in_time_and_answer_as_soon_as_they_say_so(tmp_path: Path) -> None:
    model, seconds = write_bundle(tmp_path / "bundle"), []
    for _ in range(10):
        port, began = find_free_port(), time.monotonic()
        with Prober(port) as prober, serve(model, "--port", str(port)) as served:
            seconds.append(time.monotonic() - began)
            assert ask_once(served.port, RED) == "200"
            until = time.monotonic() + 30
            while "200" not in prober.seen:
                assert time.monotonic() < until, prober.seen
                time.sleep(0.005)
            assert prober.seen == ["refused", "200"], "nothing in between"
    assert max(seconds) <= 15
    print(f"ready after {min(seconds):.2f} to {max(seconds):.2f} s")


def write_failing_bundle(folder: Path) -> Path:
    """Write a bundle whose network is well formed and can be opened, and fails on whatever image it is given."""
    bundle = load_bundle(write_bundle(folder))
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["means"], keepdims=0),
        helper.make_node("Shape", ["means"], ["shape"]),
        helper.make_node("Add", ["shape", "far"], ["place"]),
        helper.make_node("Gather", ["means", "place"], ["gathered"], axis=1),
        helper.make_node("ReduceMean", ["gathered", "last"], ["logits"], keepdims=0),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
    ]
    constants = {"axes": [2, 3], "far": [1000, 1000], "last": [1]}
    tensors = [onnx.numpy_helper.from_array(np.array(values, np.int64), name) for name, values in constants.items()]
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 16, 16])
    answer = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "failing", [given], [answer], tensors)
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(network, bundle.onnx_path)
    write_own_manifest(bundle)
    return folder


def test_a_model_that_cannot_answer_is_never_ready(tmp_path: Path) -> None:
    port = find_free_port()
    model = write_failing_bundle(tmp_path / "bundle")
    command = [sys.executable, "-m", "manylabel", "serve", str(model), "--port", str(port)]
    with Prober(port) as prober:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert prober.seen == ["refused"]
    assert done.returncode != 0
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
