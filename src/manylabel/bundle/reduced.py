"""A bundle with smaller numbers: weights of 16 bits, or weights and activations of 8, and what that was made from.

The layer that gives the logits and what follows keep their 32 bits: it is small, and probabilities in steps of 1/255
would sit on the wrong side of thresholds.

Source: Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only
    inference", as onnxruntime does it: per channel, with ranges seen on real images.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.bundle.bundle import CARD_NAME, MANIFEST_NAME, ONNX_NAME, Bundle, hash_file
from manylabel.bundle.card import write_card
from manylabel.bundle.onnx_file import METADATA_KEY, set_metadata
from manylabel.bundle.tuned import build_beside, move_bundle, write_answering_part, write_manifest
from manylabel.errors import BundleError, build_message, find_reason

REDUCTIONS = ("none", "fp16", "int8")
"""What can be done to the numbers of a network; `none` copies it."""

_FLOAT16 = 10
"""TensorProto.FLOAT16."""

_LOGIT_OPERATORS = ("Gemm", "MatMul", "Conv", "Einsum")


def save_reduced_bundle(
    bundle: Bundle,
    folder: Path,
    kind: str,
    images: Iterator[npt.NDArray[np.float32]],
    check: Callable[[Bundle], Mapping[str, Any]],
) -> Bundle:
    """Write a bundle whose network has smaller numbers, unless what it answers is not good enough.

    The weights for torch stay behind: they would be four times as large as the network that answers.

    Args:
        bundle: the bundle to start from.
        folder: where the new one will stand; an older bundle there is replaced when the new one is complete.
        kind: one of `REDUCTIONS`.
        images: prepared images [3, H, W] that show `int8` the range of every activation.
        check: is given the new bundle before it takes its place, and raises where it is not good enough; what it
            returns is kept in the manifest.

    Raises:
        BundleError: the network cannot be made smaller, or the check fails.
        RunError: the folder cannot be written, or holds something else than a bundle.
    """
    with build_beside(folder, "Choose another OUT") as partial:
        _reduce(bundle.onnx_path, partial / ONNX_NAME, kind, images)
        reduced: dict[str, Any] = {"numbers": kind, "from": bundle.digest}
        manifest = replace(bundle.manifest, provenance={**bundle.manifest.provenance, "reduced": reduced})
        network = set_metadata((partial / ONNX_NAME).read_bytes(), METADATA_KEY, write_answering_part(manifest))
        (partial / ONNX_NAME).write_bytes(network)
        manifest = replace(manifest, files={ONNX_NAME: hash_file(partial / ONNX_NAME)})
        found = check(Bundle(partial, manifest))
        if found:
            reduced["check"] = dict(found)
        (partial / MANIFEST_NAME).write_text(write_manifest(manifest), "utf-8")
        (partial / CARD_NAME).write_text(write_card(manifest), "utf-8")
        return move_bundle(Bundle(partial, manifest), folder)


def _reduce(source: Path, target: Path, kind: str, images: Iterator[npt.NDArray[np.float32]]) -> None:
    """Write a network with smaller numbers.

    Raises:
        BundleError: it cannot be done, with what the library says.
    """
    if kind == "none":
        shutil.copyfile(source, target)
        return
    try:
        with _quiet():
            if kind == "fp16":
                _write_half(source, target)
            else:
                _write_int8(source, target, images)
    except (OSError, BundleError):
        raise
    except ModuleNotFoundError as error:
        problem = f"this needs {error.name}, which is not installed"
        raise BundleError(build_message(kind, problem, do="Install it with: pip install 'manylabel[train]'")) from error
    except Exception as error:
        # onnx, onnxruntime and protobuf each raise what they like.
        reason = find_reason(error)
        problem = f"the network cannot be written with {kind} numbers ({reason})"
        raise BundleError(build_message(source, problem, do="Choose another --quantize")) from error


def _write_half(source: Path, target: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    network = onnx.load(source)
    _check_is_whole(network.graph, source)
    kept = _find_last_nodes(network.graph)
    onnx.save(convert_float_to_float16(network, keep_io_types=True, node_block_list=kept), target)


def _write_int8(source: Path, target: Path, images: Iterator[npt.NDArray[np.float32]]) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            image_CHW = next(images, None)
            return None if image_CHW is None else {name: image_CHW[np.newaxis]}

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / ONNX_NAME
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        _check_is_whole(graph, source)
        name = graph.input[0].name
        quantize_static(
            str(prepared),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_find_last_nodes(graph),
        )


def _check_is_whole(graph: Any, source: Path) -> None:
    """Stop where a network has smaller numbers already.

    Raises:
        BundleError: it has.
    """
    has_half = any(tensor.data_type == _FLOAT16 for tensor in graph.initializer)
    if has_half or any(node.op_type == "DequantizeLinear" for node in graph.node):
        problem = "the network has numbers of 16 or 8 bits already"
        raise BundleError(build_message(source, problem, do="Export from the model that it was made of"))


def _find_last_nodes(graph: Any) -> list[str]:
    """Return the names of the nodes from the last layer with weights to the end: what makes the probabilities."""
    maker_of = {output: node for node in graph.node for output in node.output}
    found, waiting = [], [output.name for output in graph.output]
    while waiting:
        node = maker_of.get(waiting.pop())
        if node is None or node.name in found:
            continue
        found.append(node.name)
        if node.op_type not in _LOGIT_OPERATORS:
            waiting.extend(node.input)
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' log lines from the user's terminal; what goes wrong is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
