"""`manylabel serve` and its model under load: replaced while it is served, with smaller numbers, as one file."""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from tests.inference.conftest import write_bundle
from tests.scenarios.serving import Served, Traffic, ask_for_answer, serve
from tests.server.conftest import RED, write_own_manifest, write_turned_bundle

import manylabel as ml
from manylabel.bundle.bundle import Bundle, load_bundle
from manylabel.bundle.tuned import move_bundle, save_policy
from manylabel.decisions.policy import DecisionPolicy
from manylabel.runs.export import export

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.skipif(os.name == "nt", reason="signals of POSIX"),
]

NUM_OVERWRITES = 100


# ---------------------------------------------------------------------------------------------------------------------
# A model that is replaced.
# ---------------------------------------------------------------------------------------------------------------------


def export_over(model: Bundle, place: Path) -> None:
    export(model, place)


def move_over(model: Bundle, place: Path) -> None:
    partial = Path(shutil.copytree(model.folder, place.with_name("moved")))
    move_bundle(Bundle(partial, model.manifest), place)


@pytest.mark.parametrize(
    ("name", "overwrite"),
    [
        pytest.param("bundle", export_over, id="a bundle that is exported"),
        pytest.param("bundle", move_over, id="a bundle that is moved"),
        pytest.param("model.onnx", export_over, id="a file that is exported"),
    ],
)
def test_a_model_that_is_overwritten_under_load_gives_no_wrong_answer_and_no_error(
    tmp_path: Path, name: str, overwrite: Callable[[Bundle, Path], None]
) -> None:
    models = [load_bundle(write_bundle(tmp_path / "one")), load_bundle(write_turned_bundle(tmp_path / "other"))]
    place = tmp_path / "served" / name
    allowed = []
    for model in models:
        overwrite(model, place)
        allowed.append(ml.load(place).predict(RED, "image").to_dict())
    assert [answer["labels"] for answer in allowed] == [["red"], ["rouge"]]
    with serve(place) as served, Traffic(served.port, RED) as traffic:
        traffic.wait_for(10)
        for number in range(NUM_OVERWRITES):
            # Some signals come while files are replaced, some after it, and some are left out.
            if number % 3 == 0:
                served.process.send_signal(signal.SIGHUP)
            overwrite(models[number % 2], place)
            if number % 5 == 0:
                served.process.send_signal(signal.SIGHUP)
                traffic.wait_for(1)
        wait_until_served(served, allowed[1])
        overwrite(models[0], place)
        served.process.send_signal(signal.SIGHUP)
        wait_until_served(served, allowed[0])
        traffic.wait_for(5)
        assert served.process.poll() is None
    assert set(traffic.outcomes) == {"200"}, traffic.outcomes
    given = [json.loads(body) for body in traffic.bodies]
    assert [answer for answer in given if answer not in allowed] == []
    assert len(given) == 2, "both models have answered"
    assert served.count_said("Serving model") >= 3
    print(f"{name}: {sum(traffic.outcomes.values())} answers, {served.count_said('Serving model')} reloads")


def wait_until_served(served: Served, answer: dict[str, Any]) -> None:
    """Ask for a reload until this answer comes: a signal may find the files of a moment ago."""
    until = time.monotonic() + 60
    while json.loads(ask_for_answer(served.port, RED)[1]) != answer:
        assert time.monotonic() < until, served.said
        served.process.send_signal(signal.SIGHUP)
        time.sleep(0.1)


# ---------------------------------------------------------------------------------------------------------------------
# Smaller numbers and one file: answers beside neighbours.
# ---------------------------------------------------------------------------------------------------------------------

SIZE = 16
BROKEN = (RED[:60], b"%PDF-1.7", b"", b"\xff\xd8\xff\xe0" + bytes(200))


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    """200 images of blurred noise, of several sizes and formats."""
    random = np.random.default_rng(0)
    return [draw_image(random, ("PNG", "JPEG", "WEBP")[number % 3]) for number in range(200)]


def draw_image(random: np.random.Generator, kind: str) -> bytes:
    spots_HWC = random.integers(0, 256, (*random.integers(1, 5, 2), 3), np.uint8)
    width, height = random.integers(12, 60, 2)
    buffer = io.BytesIO()
    Image.fromarray(spots_HWC).resize((int(width), int(height)), Image.Resampling.BICUBIC).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def convolved(images: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A network of two convolutions with drawn weights, for which 8 bits do; half of the images get each label."""
    bundle = load_bundle(write_bundle(tmp_path_factory.mktemp("convolved") / "bundle", thresholds=(0.5,) * 3))
    random = np.random.default_rng(1)
    weights = {
        "first": random.normal(0, 0.4, (8, 3, 3, 3)),
        "second": random.normal(0, 0.3, (8, 8, 3, 3)),
        "head": random.normal(0, 4, (8, 3)),
    }
    nodes = [
        helper.make_node("Conv", ["images", "first"], ["a"], name="first_conv", strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"], name="first_relu"),
        helper.make_node("Conv", ["b", "second"], ["c"], name="second_conv"),
        helper.make_node("ReduceMean", ["c", "axes"], ["features"], name="mean", keepdims=0),
        helper.make_node("MatMul", ["features", "head"], ["logits"], name="logits"),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"], name="sigmoid"),
    ]
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])
    answer = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])
    tensors = [onnx.numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()]
    tensors.append(onnx.numpy_helper.from_array(np.array([2, 3], np.int64), "axes"))
    graph = helper.make_graph(nodes, "convolved", [given], [answer], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), bundle.onnx_path)
    write_own_manifest(bundle)
    model = ml.load(bundle.folder)
    probs_NL = np.array([list(model.predict(data).probabilities.values()) for data in images])
    return save_policy(model.bundle, DecisionPolicy(model.label_space, tuple(np.median(probs_NL, axis=0).tolist())))


def export_eight_bits(model: Bundle, out: Path, images: Sequence[bytes]) -> Path:
    pixels = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in images[:32]]
    table = ml.annotations_from_arrays(pixels, [[]] * len(pixels), label_space=model.manifest.label_space)
    return export(model, out, quantize="int8", check=table, max_changed=1).path


def export_file(model: Bundle, out: Path, images: Sequence[bytes]) -> Path:  # noqa: ARG001 - as its sibling
    return export(model, out.with_suffix(".onnx")).path


@pytest.mark.parametrize("write", [export_eight_bits, export_file])
def test_an_answer_is_that_of_python_whatever_its_neighbours(
    convolved: Bundle, images: list[bytes], tmp_path: Path, write: Callable[[Bundle, Path, Sequence[bytes]], Path]
) -> None:
    path = write(convolved, tmp_path / "written", images)
    operators = {node.op_type for node in onnx.load(load_bundle(path).onnx_path).graph.node}
    assert ("DequantizeLinear" in operators) == (write is export_eight_bits)
    model, sources = ml.load(path), [*images, *BROKEN]
    expected = [model.predict(data, "image").to_dict(True) for data in sources]
    assert len({tuple(answer["labels"]) for answer in expected[:200]}) >= 5, "the images differ"
    assert all(answer["error"] for answer in expected[200:])
    with serve(path) as served, Traffic(served.port, BROKEN[0], 2) as traffic, ThreadPoolExecutor(5) as threads:
        traffic.wait_for(1, "400")
        # 5 forms of 9 images and 2 broken ones at once: within the queue of 64.
        found = list(threads.map(lambda number: ask_beside_neighbours(served.port, sources, number), range(200)))
    assert set(traffic.outcomes) == {"400"}, traffic.outcomes
    for numbers, answers in found:
        for number, answer in zip(numbers, answers, strict=True):
            assert_alike(answer, expected[number])
    assert sum(number >= 200 for numbers, _ in found for number in numbers) > 200, "broken ones were among them"


def ask_beside_neighbours(port: int, sources: Sequence[bytes], number: int) -> tuple[list[int], list[dict[str, Any]]]:
    """Post a file in a form with 8 drawn ones, a third of them broken; return which in which order, and the answers."""
    random = np.random.default_rng(number)
    good, broken = random.integers(0, 200, 8), random.integers(200, len(sources), 8)
    numbers = [number, *np.where(random.random(8) < 1 / 3, broken, good).tolist()]
    random.shuffle(numbers)
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="images"; filename="image"\r\n\r\n' + sources[each]
        for each in numbers
    ]
    body = b"\r\n".join(parts) + b"\r\n--x--\r\n"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        path = "/predict?all_probabilities=true"
        connection.request("POST", path, body, {"Content-Type": "multipart/form-data; boundary=x"})
        response = connection.getresponse()
        answers = json.loads(response.read())
        assert response.status == 200, answers
        return numbers, answers
    finally:
        connection.close()


def assert_alike(answer: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare two answers: everything is equal, probabilities within 1e-4."""
    assert answer["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-4)
    assert {**answer, "probabilities": None} == {**expected, "probabilities": None}
