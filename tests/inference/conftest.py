"""A model whose answers can be worked by hand: a label for each colour, present where its mean is high enough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from manylabel.bundle.bundle import hash_file
from manylabel.bundle.manifest import Manifest
from manylabel.data.preprocess import Preprocess
from manylabel.decisions.policy import DecisionPolicy
from manylabel.inference.predictor import Predictor, load
from manylabel.labels.space import LabelSpace

NAMES = ("red", "green", "blue")
THRESHOLDS = (0.5, 0.25, 0.75)
SIZE = 16


def write_bundle(
    folder: Path,
    names: tuple[str, ...] = NAMES,
    thresholds: tuple[float, ...] = THRESHOLDS,
    size_px: int = SIZE,
    num_outputs: int | None = None,
    std: float = 0.125,
) -> Path:
    """Write a bundle with a network that gives the sigmoid of the mean of colour i modulo 3 for label i.

    The smaller `std`, the more a colour matters.
    """
    num_labels = len(names) if num_outputs is None else num_outputs
    weights_CL = np.eye(3, dtype=np.float32)[:, np.arange(num_labels) % 3]
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["images", "axes"], ["features"], keepdims=0),
            helper.make_node("MatMul", ["features", "weights"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
        ],
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, size_px, size_px])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", num_labels])],
        [
            onnx.numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
            onnx.numpy_helper.from_array(weights_CL, "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    space = LabelSpace(names)
    manifest = Manifest(
        space,
        Preprocess(height_px=SIZE, width_px=SIZE, mean=(0.5, 0.5, 0.5), std=(std, std, std)),
        DecisionPolicy(space, thresholds),
        {"name": "colours"},
        {"name": "linear"},
        {},
        {"model.onnx": hash_file(folder / "model.onnx")},
    )
    import json

    (folder / "manifest.json").write_text(json.dumps(manifest.to_dict()), "utf-8")
    return folder


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("model") / "bundle")


@pytest.fixture(scope="session")
def predictor(bundle_folder: Path) -> Predictor:
    return load(bundle_folder, num_threads=1)
