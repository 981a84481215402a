"""Engines: what computes a network. All take the same file; which is fastest depends on the machine.

`onnxruntime` is always there and is what others are compared with. `auto` measures those that are installed, once per
machine and network, and takes one only where it answers alike.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime

from manylabel.bundle.network import Network
from manylabel.cores import count_cores
from manylabel.errors import BundleError, ConfigError, RunError, build_message, suggest_name
from manylabel.files import write_text_atomically

Float32Array = npt.NDArray[np.float32]

MAX_DIFFERENCE = 1e-3
"""How far the log-odds of another engine may be from onnxruntime's: a probability of 0.5 then moves by 0.00025."""

MAX_REDUCED_DIFFERENCE = 0.1
"""The same for one that computes in 16 bits: a probability of 0.5 then moves by 0.025."""

_LEAD = 1.1
"""How much faster another engine has to be to be taken: less is noise, and onnxruntime needs nothing else."""

_NUM_TRIED = 8
_SECONDS_EACH = 0.25


class Engine(Protocol):
    """A network that is ready to answer; several threads may ask at once."""

    @property
    def input_shape(self) -> tuple[Any, ...]:
        """Shape of the images without the batch: channels, height, width."""

    @property
    def output_shape(self) -> tuple[Any, ...]:
        """Shape of the answer without the batch: labels."""

    def run(self, pixels_BCHW: Float32Array) -> Float32Array:
        """Return probabilities [B, L]."""


class OnnxRuntime:
    """Microsoft's runtime, on processors."""

    def __init__(self, network: bytes, num_threads: int | None) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if num_threads is not None:
            options.intra_op_num_threads = num_threads
        self._session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        self._inputs, self._outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(self._inputs) != 1 or len(self._outputs) != 1:
            raise ValueError(f"{len(self._inputs)} inputs and {len(self._outputs)} outputs, not one of each")

    @property
    def input_shape(self) -> tuple[Any, ...]:
        return tuple(self._inputs[0].shape[1:])

    @property
    def output_shape(self) -> tuple[Any, ...]:
        return tuple(self._outputs[0].shape[1:])

    def run(self, pixels_BCHW: Float32Array) -> Float32Array:
        (probs_BL,) = self._session.run(None, {self._inputs[0].name: pixels_BCHW})
        return np.asarray(probs_BL, np.float32)


_IMPORTING = threading.Lock()


def _import_openvino() -> Any:
    """Return OpenVINO, which is kept from telling Google Analytics that somebody imports it.

    It does so through a package that it can do without, so that package looks absent meanwhile. A program that has
    imported either by itself has made its own choice.
    """
    reporter = "openvino_telemetry"
    with _IMPORTING:
        is_hidden = reporter not in sys.modules
        if is_hidden:
            sys.modules[reporter] = None  # type: ignore[assignment]  # importing it then fails
        try:
            import openvino
        finally:
            if is_hidden:
                sys.modules.pop(reporter, None)
    return openvino


class OpenVino:
    """Intel's runtime, on processors, with numbers of 32 bits or, where the processor has them, of 16."""

    def __init__(self, network: bytes, num_threads: int | None, precision: str = "f32") -> None:
        core = _import_openvino().Core()
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
        if num_threads == 1:  # as many answers at once as there are cores: by default they would wait for each other
            settings |= {
                "PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": count_cores(), "NUM_STREAMS": count_cores()
            }  # fmt: skip
        elif num_threads is not None:
            settings["INFERENCE_NUM_THREADS"] = num_threads
        with _same_signal_stack():
            self._network = core.compile_model(core.read_model(network), "CPU", settings)
        # A request is of one thread.
        self._own = threading.local()

    @property
    def input_shape(self) -> tuple[Any, ...]:
        return _read_shape(self._network.input(0))

    @property
    def output_shape(self) -> tuple[Any, ...]:
        return _read_shape(self._network.output(0))

    def run(self, pixels_BCHW: Float32Array) -> Float32Array:
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._network.create_infer_request()
        return np.array(request.infer({0: pixels_BCHW})[0], np.float32)


class _SignalStack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


@contextmanager
def _same_signal_stack() -> Iterator[None]:
    """Leave this thread the stack that its signal handlers run on.

    OpenVINO 2026.4 gives the thread that compiles a network a signal stack that goes away with the network: after that
    the next signal, such as a SIGHUP that loads another model, ends the process.
    """
    if sys.platform != "linux":
        yield
        return
    system, stack = ctypes.CDLL(None), _SignalStack()
    is_known = system.sigaltstack(None, ctypes.byref(stack)) == 0
    try:
        yield
    finally:
        if is_known:
            system.sigaltstack(ctypes.byref(stack), None)


def _read_shape(port: Any) -> tuple[Any, ...]:
    return tuple(side.get_length() if side.is_static else str(side) for side in list(port.partial_shape)[1:])


@dataclass(frozen=True)
class EngineKind:
    """How an engine is opened, the package that it needs, what installs it, and how far its log-odds may be off."""

    open: Callable[[bytes, int | None], Engine]
    package: str
    install: str
    max_difference: float
    in_words: str


_OPENVINO = "'manylabel[openvino]'"
"""The extra, as a shell wants it: it says which versions do."""

ENGINES: Mapping[str, EngineKind] = {
    "onnxruntime": EngineKind(OnnxRuntime, "onnxruntime", "onnxruntime", 0.0, "ONNX Runtime"),
    "openvino": EngineKind(OpenVino, "openvino", _OPENVINO, MAX_DIFFERENCE, "OpenVINO"),
    "openvino_bf16": EngineKind(
        lambda network, num_threads: OpenVino(network, num_threads, "bf16"),
        "openvino",
        _OPENVINO,
        MAX_REDUCED_DIFFERENCE,
        "OpenVINO with numbers of 16 bits",
    ),
}
"""What a network can be computed by."""

REFERENCE = "onnxruntime"


def open_engine(network: Network, name: str = REFERENCE, num_threads: int | None = None) -> Engine:
    """Return an engine with a network.

    Raises:
        ConfigError: no such engine, or its package is not installed.
        BundleError: it cannot use the file.
    """
    if name not in ENGINES:
        problem = f"no such engine: {name!r}{suggest_name(name, [*ENGINES, 'auto'])}"
        raise ConfigError(build_message("--engine", problem, expected=" or ".join(["auto", *ENGINES])))
    kind = ENGINES[name]
    if importlib.util.find_spec(kind.package) is None:
        problem = f"{kind.in_words} is not installed"
        raise ConfigError(build_message("--engine", problem, do=f"Install it with: pip install {kind.install}"))
    try:
        return kind.open(network.content, num_threads)
    except MemoryError:
        raise
    except (ImportError, AttributeError) as error:
        problem = f"{kind.in_words} cannot be loaded ({error})"
        raise ConfigError(
            build_message("--engine", problem, do=f"Install {kind.package} anew, or choose another")
        ) from error
    except Exception as error:
        # Each engine raises classes of its own for a file that it cannot use.
        reason = " ".join(str(error).split())
        problem = f"not a usable network ({reason})"
        raise BundleError(build_message(network.path, problem, do="Export it again")) from error


@dataclass(frozen=True)
class EngineChoice:
    """Which engine is fastest: images per second of each, and how far its probabilities were from the reference."""

    name: str
    images_per_second: Mapping[str, float] = field(default_factory=dict)
    differences: Mapping[str, float] = field(default_factory=dict)

    def describe(self) -> str:
        """Return a sentence with what was measured."""
        rate, reference = self.images_per_second[self.name], self.images_per_second[REFERENCE]
        if self.name == REFERENCE:
            others = ", ".join(
                f"{name} {rate:.0f}" for name, rate in self.images_per_second.items() if name != REFERENCE
            )
            beside = f"; {others}" if others else "; no other is installed"
            return f"Engine: {ENGINES[self.name].in_words}, {rate:.0f} images/s{beside}."
        is_exact = ENGINES[self.name].max_difference <= MAX_DIFFERENCE
        doubt = "" if is_exact else " A label near its threshold may come out otherwise."
        return (
            f"Engine: {ENGINES[self.name].in_words}, {rate:.0f} images/s ({ENGINES[REFERENCE].in_words} "
            f"{reference:.0f}); probabilities of drawn images differ by {self.differences[self.name]:.1g} at most."
            f"{doubt}"
        )


def choose_engine(
    network: Network, shape: tuple[int, ...], num_threads: int | None, cache: Path | None
) -> EngineChoice:
    """Return which of the installed engines is fastest for a network on this machine, and answers alike.

    Args:
        network: the network.
        shape: of an image: channels, height, width.
        num_threads: that an answer may use.
        cache: the folder where choices are remembered; None measures each time.

    Raises:
        BundleError: even the reference cannot use the file.
    """
    names = [name for name, kind in ENGINES.items() if importlib.util.find_spec(kind.package) is not None]
    key = _describe_machine(network, num_threads, names)
    remembered = _recall(cache, key)
    if remembered is not None:
        return remembered
    images_NCHW = _draw_images(shape)
    reference = open_engine(network, REFERENCE, num_threads)
    expected_NL = _answer(reference, images_NCHW)
    rates, differences, is_alike = {REFERENCE: _measure(reference, images_NCHW)}, {REFERENCE: 0.0}, {REFERENCE: True}
    for name in names[1:]:
        try:
            engine = open_engine(network, name, num_threads)
            answers_NL = _answer(engine, images_NCHW)
        except (BundleError, ConfigError, RuntimeError):
            continue  # it has a gap, and the reference has none
        rates[name] = _measure(engine, images_NCHW)
        differences[name] = float(np.abs(answers_NL - expected_NL).max())
        moved = float(np.abs(_to_log_odds(answers_NL) - _to_log_odds(expected_NL)).max())
        is_alike[name] = moved <= ENGINES[name].max_difference  # written so that NaN does not pass
    best = max((name for name in rates if is_alike[name]), key=lambda name: rates[name])
    choice = EngineChoice(best if rates[best] > _LEAD * rates[REFERENCE] else REFERENCE, rates, differences)
    _remember(cache, key, choice)
    return choice


def _draw_images(shape: tuple[int, ...]) -> Float32Array:
    """Return images of coarse patches and fine grain, as normalised pixels: noise alone says little of a network."""
    rng = np.random.default_rng(0)
    channels, height, width = shape
    images = []
    for cells in (2, 3, 5, 8) * (_NUM_TRIED // 4):
        coarse = rng.normal(size=(channels, cells, cells))
        rows, columns = (np.arange(length) * cells // length for length in (height, width))
        images.append(coarse[:, rows][:, :, columns] + 0.3 * rng.normal(size=shape))
    return np.asarray(images, np.float32)


def _to_log_odds(probs_NL: Float32Array) -> npt.NDArray[np.float64]:
    clipped_NL = np.clip(probs_NL.astype(np.float64), 1e-4, 1 - 1e-4)
    return np.asarray(np.log(clipped_NL / (1 - clipped_NL)), np.float64)


def _answer(engine: Engine, images_NCHW: Float32Array) -> Float32Array:
    return np.concatenate([engine.run(image_CHW[np.newaxis]) for image_CHW in images_NCHW])


def _measure(engine: Engine, images_NCHW: Float32Array) -> float:
    """Return images per second, the network warm."""
    engine.run(images_NCHW[:1])
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < _SECONDS_EACH:
        engine.run(images_NCHW[count % len(images_NCHW)][np.newaxis])
        count += 1
    return count / (time.perf_counter() - started)


# ---------------------------------------------------------------------------------------------------------------------
# What was measured before.
# ---------------------------------------------------------------------------------------------------------------------


def _describe_machine(network: Network, num_threads: int | None, names: list[str]) -> str:
    """Return all that a choice hangs on, as text."""
    packages = {ENGINES[name].package: _find_version(ENGINES[name].package) for name in names}
    machine = [platform.machine(), _find_processor(), count_cores(), num_threads]
    return json.dumps([network.sha256, machine, packages, names], sort_keys=True)


def _find_version(package: str) -> str:
    """Return the version of a package; one that goes by another name, such as onnxruntime-gpu, is asked itself."""
    try:
        return version(package)
    except PackageNotFoundError:
        return str(getattr(sys.modules.get(package), "__version__", "unknown"))


def _find_processor() -> str:
    """Return the processor's name: what it is called decides what it can."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def _read_choices(cache: Path) -> dict[str, Any]:
    try:
        values = json.loads((cache / "engines.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _recall(cache: Path | None, key: str) -> EngineChoice | None:
    known = {} if cache is None else _read_choices(cache).get(key)
    try:
        return EngineChoice(known["name"], known["images_per_second"], known["differences"]) if known else None
    except (KeyError, TypeError):
        return None


def _remember(cache: Path | None, key: str, choice: EngineChoice) -> None:
    """Keep a choice; where that cannot be written it is measured again next time."""
    if cache is None:
        return
    own = {
        "name": choice.name,
        "images_per_second": dict(choice.images_per_second),
        "differences": dict(choice.differences),
    }
    try:
        write_text_atomically(cache / "engines.json", json.dumps({**_read_choices(cache), key: own}, indent=1))
    except RunError:
        return
