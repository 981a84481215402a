"""Engines: the same file, the same answers, and a choice that is measured, remembered and never wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.inference.conftest import SIZE, write_bundle

from manylabel.bundle.network import Network, read_network
from manylabel.errors import BundleError, ConfigError
from manylabel.inference import engines
from manylabel.inference.engines import ENGINES, EngineKind, choose_engine, open_engine
from manylabel.inference.predictor import load

SHAPE = (3, SIZE, SIZE)
IMAGES = np.random.default_rng(0).normal(size=(6, *SHAPE)).astype(np.float32)


@pytest.fixture
def network(bundle_folder: Path) -> Network:
    return read_network(bundle_folder / "model.onnx")


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("num_threads", [None, 1])
def test_every_engine_answers_like_the_reference(network: Network, name: str, num_threads: int | None) -> None:
    pytest.importorskip(ENGINES[name].package)
    engine, reference = open_engine(network, name, num_threads), open_engine(network)
    assert (engine.input_shape, engine.output_shape) == (SHAPE, (3,))
    limit = max(ENGINES[name].max_difference / 4, 1e-7)  # log-odds move a probability by a quarter at most
    for images_BCHW in (IMAGES[:1], IMAGES):
        assert np.abs(engine.run(images_BCHW) - reference.run(images_BCHW)).max() <= limit


@pytest.mark.parametrize("name", ENGINES)
def test_several_threads_may_ask_at_once(network: Network, name: str) -> None:
    pytest.importorskip(ENGINES[name].package)
    engine = open_engine(network, name, 1)
    expected = [engine.run(image_CHW[np.newaxis]) for image_CHW in IMAGES]
    with ThreadPoolExecutor(4) as pool:
        for place, given in enumerate(pool.map(lambda row: engine.run(IMAGES[row % 6][np.newaxis]), range(240))):
            np.testing.assert_array_equal(given, expected[place % 6])


@pytest.mark.parametrize("name", ENGINES)
def test_a_predictor_gives_the_same_labels_with_every_engine(bundle_folder: Path, name: str) -> None:
    pytest.importorskip(ENGINES[name].package)
    pixels = np.full((12, 20, 3), (255, 10, 200), np.uint8)
    assert load(bundle_folder, engine=name).predict(pixels).labels == load(bundle_folder).predict(pixels).labels


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
@pytest.mark.parametrize("name", ENGINES)
def test_a_signal_after_a_network_has_gone_ends_nothing(network: Network, name: str) -> None:
    pytest.importorskip(ENGINES[name].package)
    code = (
        "import gc, os, signal, sys; from pathlib import Path; import numpy as np\n"
        "from manylabel.bundle.network import read_network; from manylabel.inference.engines import open_engine\n"
        "for _ in range(3):\n"
        f"    engine = open_engine(read_network(Path(sys.argv[1])), {name!r}, 1)\n"
        f"    engine.run(np.zeros((1, 3, {SIZE}, {SIZE}), np.float32))\n"
        "del engine; gc.collect()\n"
        "got = []\n"
        "signal.signal(signal.SIGHUP, lambda *_: got.append(1))\n"
        "os.kill(os.getpid(), signal.SIGHUP)\n"
        "print(got)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(network.path)], capture_output=True, encoding="utf-8", check=False
    )
    assert (told.returncode, told.stdout.strip()) == (0, "[1]"), told.stderr


class Pretended:
    """An engine as fast and as wrong as one wants."""

    def __init__(self, seconds: float, error: float) -> None:
        self.seconds, self.error = seconds, error
        self.input_shape, self.output_shape = SHAPE, (3,)

    def run(self, pixels_BCHW: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.full((len(pixels_BCHW), 3), 0.5 + self.error, np.float32)


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return a table of engines to fill: seconds and error by name, the reference first; counts what is opened."""
    opened: list[str] = []
    table: dict[str, Any] = {"opened": opened}

    def fill(**given: tuple[float, float, float]) -> None:
        def kind(name: str, seconds: float, error: float, limit: float) -> EngineKind:
            def start(network: bytes, num_threads: int | None) -> Pretended:  # noqa: ARG001 - the signature of an engine
                opened.append(name)
                if seconds < 0:
                    raise RuntimeError("an operator that it does not know")
                return Pretended(seconds, error)

            return EngineKind(start, "numpy", "numpy", limit, name)

        monkeypatch.setattr(engines, "ENGINES", {name: kind(name, *values) for name, values in given.items()})
        monkeypatch.setattr(engines, "_measure", lambda engine, _: 1 / engine.seconds)

    table["fill"] = fill
    return table


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        pytest.param({"fast": (0.001, 0.0, 1e-4)}, "fast", id="faster"),
        pytest.param({"fast": (0.001, 2e-4, 1e-4)}, "onnxruntime", id="faster but wrong"),
        pytest.param({"fast": (0.001, float("nan"), 1e-4)}, "onnxruntime", id="no number"),
        pytest.param({"fast": (0.001, 0.01, 0.1)}, "fast", id="within what 16 bits may"),
        pytest.param({"slow": (0.02, 0.0, 1e-4)}, "onnxruntime", id="slower"),
        pytest.param({"same": (0.005, 0.0, 1e-4)}, "onnxruntime", id="as fast"),
        pytest.param({"broken": (-1.0, 0.0, 1e-4)}, "onnxruntime", id="it cannot use the file"),
    ],
)
def test_the_fastest_that_answers_alike_is_taken(
    network: Network, pretend: dict[str, Any], others: dict[str, tuple[float, float, float]], expected: str
) -> None:
    pretend["fill"](onnxruntime=(0.005, 0.0, 0.0), **others)
    choice = choose_engine(network, SHAPE, 1, None)
    assert choice.name == expected
    assert choice.describe().startswith(f"Engine: {expected}, ")


@pytest.mark.parametrize(
    ("limit", "is_said"), [pytest.param(1e-4, False, id="exact"), pytest.param(0.1, True, id="16 bits")]
)
def test_what_fewer_bits_may_change_is_said(
    network: Network, pretend: dict[str, Any], limit: float, is_said: bool
) -> None:
    pretend["fill"](onnxruntime=(0.005, 0.0, 0.0), fast=(0.001, 0.0, limit))
    said = choose_engine(network, SHAPE, 1, None).describe()
    assert said.endswith("A label near its threshold may come out otherwise.") == is_said


def test_a_choice_is_remembered_for_this_network_and_machine(
    network: Network, tmp_path: Path, pretend: dict[str, Any]
) -> None:
    pretend["fill"](onnxruntime=(0.005, 0.0, 0.0), fast=(0.001, 0.0, 1e-4))
    first = choose_engine(network, SHAPE, 1, tmp_path)
    count = len(pretend["opened"])
    assert choose_engine(network, SHAPE, 1, tmp_path) == first
    assert len(pretend["opened"]) == count, "nothing is measured again"
    choose_engine(network, SHAPE, 2, tmp_path)
    assert len(pretend["opened"]) > count, "other threads are another question"
    count = len(pretend["opened"])
    other = write_bundle(tmp_path / "other", ("a", "b", "c", "d"), (0.5,) * 4) / "model.onnx"
    choose_engine(read_network(other), SHAPE, 1, tmp_path)
    assert len(pretend["opened"]) > count, "and so is another network"
    assert len(json.loads((tmp_path / "engines.json").read_text("utf-8"))) == 3


@pytest.mark.parametrize("text", ["", "{", "[]", '{"x": 1}'])
def test_a_damaged_memory_is_measured_anew(
    network: Network, tmp_path: Path, pretend: dict[str, Any], text: str
) -> None:
    pretend["fill"](onnxruntime=(0.001, 0.0, 0.0))
    (tmp_path / "engines.json").write_text(text, "utf-8")
    assert choose_engine(network, SHAPE, 1, tmp_path).name == "onnxruntime"
    blocked = tmp_path / "a file"
    blocked.write_text("")
    assert choose_engine(network, SHAPE, 1, blocked).name == "onnxruntime"


def test_what_cannot_be_had_is_one_sentence(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"--engine: no such engine: 'openvio' \(did you mean 'openvino'\?\)"):
        open_engine(network, "openvio")
    kind = replace(ENGINES["openvino"], package="no_such_package", in_words="Something else")
    monkeypatch.setattr(engines, "ENGINES", {**ENGINES, "other": kind})
    with pytest.raises(
        ConfigError, match=r"Something else is not installed\. Install it with: pip install 'manylabel\[openvino\]'"
    ):
        open_engine(network, "other")
    for name in ENGINES:
        pytest.importorskip(ENGINES[name].package)
        (tmp_path / "model.onnx").write_bytes(b"no network")
        with pytest.raises(BundleError, match=r"model\.onnx: not a usable network \("):
            open_engine(read_network(tmp_path / "model.onnx"), name)


@pytest.mark.parametrize("num_threads", [0, -3])
def test_no_thread_is_too_few(bundle_folder: Path, num_threads: int) -> None:
    with pytest.raises(ConfigError, match="num_threads: too few, got"):
        load(bundle_folder, num_threads=num_threads)


def test_auto_is_measured_once_for_a_predictor(bundle_folder: Path) -> None:
    first = load(bundle_folder, num_threads=1, engine="auto")
    assert first.engine_choice is not None
    assert first.engine_name == first.engine_choice.name
    assert "onnxruntime" in first.engine_choice.images_per_second
    again = load(bundle_folder, num_threads=1, engine="auto")
    assert again.engine_choice == first.engine_choice
