"""Runs in seconds: a tiny network, tiny images that a network can learn, and an export that fills a graph made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from manylabel.bundle import export
from manylabel.bundle.manifest import Manifest
from manylabel.bundle.onnx_file import set_metadata
from manylabel.bundle.tuned import METADATA_KEY, write_answering_part
from manylabel.data.annotations import Annotations, ImageRecord, annotations_from_arrays
from manylabel.models.classifier import Classifier
from manylabel.runs.train import Run, train
from manylabel.training.config import TrainConfig

LABELS = ("blue", "green", "red")
SETTINGS: Mapping[str, Any] = {
    "backbone": "test_resnet", "weights": "none", "image_size": 32, "batch_size": 4, "epochs": 2, "workers": 0,
    "precision": "fp32", "monitor": "loss",
}  # fmt: skip


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build_table(num_images: int, seed: int = 0, name: str = "train") -> Annotations:
    """Noise in which each label makes its colour brighter."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 90, (num_images, 32, 32, 3), dtype=np.uint8)
    has_label = rng.random((num_images, 3)) < 0.5
    pixels += (has_label[:, ::-1] * np.uint8(150))[:, None, None, :].astype(np.uint8)
    sets = [[label for label, is_there in zip(LABELS, row, strict=True) if is_there] for row in has_label]
    return annotations_from_arrays(pixels, sets, LABELS, name)


def write_table(table: Annotations, folder: Path) -> Annotations:
    """The same table with its images as files."""
    records = []
    for record in table.records:
        path = folder / f"{record.id.replace('/', '-')}.png"
        assert record.pixels is not None
        Image.fromarray(record.pixels).save(path)
        records.append(ImageRecord(path.name, str(path)))
    return Annotations(tuple(records), table.targets, table.label_space, table.name)


TRAIN, VAL = build_table(14), build_table(8, seed=1, name="val")

_GRAPHS: dict[int, bytes] = {}


def export_by_filling(classifier: Classifier, path: Path, manifest: Manifest, shape: tuple[int, ...]) -> None:
    """Write what `export_onnx` writes: the exporter takes seconds, so its graph is kept and given these weights."""
    size_px = shape[-1]
    if size_px not in _GRAPHS:
        with export._quiet():
            program = torch.onnx.export(
                export._Network(classifier).eval(),
                (torch.zeros(2, *shape[1:]),),
                input_names=[export.INPUT_NAME],
                output_names=[export.OUTPUT_NAME],
                dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
                dynamo=True,
                verbose=False,
                optimize=False,
            )
        assert program is not None
        _GRAPHS[size_px] = program.model_proto.SerializeToString()
    model = onnx.load_from_string(_GRAPHS[size_px])
    del model.graph.value_info[:]
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = len(manifest.label_space)
    state = classifier.state_dict()
    for tensor in model.graph.initializer:
        values = state[tensor.name.removeprefix("classifier.")]
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.contiguous().numpy(), tensor.name))
    path.write_bytes(set_metadata(model.SerializeToString(), METADATA_KEY, write_answering_part(manifest)))


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes seconds and has tests of its own: the exporter, the pictures and the page."""
    monkeypatch.setattr(export, "export_onnx", export_by_filling)
    monkeypatch.setattr("manylabel.runs.train.save_reports", lambda *_, **__: None)


Events = list[tuple[str, Mapping[str, Any]]]
Start = Callable[..., Run]


def ignore(*_: object) -> None:
    """Take an event and say nothing."""


@pytest.fixture
def start(_quick: None, tmp_path: Path) -> Start:
    """Return a quick `train`; settings are keywords, `out` is a name below the test's folder."""

    def start(
        out: str = "run",
        train_table: Annotations = TRAIN,
        val: Annotations | None = VAL,
        test: Annotations | None = None,
        loss: Any = None,
        on_event: Any = None,
        **settings: Any,
    ) -> Run:
        return train(
            train_table,
            val,
            TrainConfig(**{**SETTINGS, **settings}),
            out=tmp_path / out,
            test=test,
            loss=loss,
            on_event=on_event if on_event is not None else ignore,
        )

    return start
