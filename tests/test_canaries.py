"""Eight kinds of files that run code where they are opened carelessly, given to everything that reads a file."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch

import manylabel as ml
from manylabel.data.formats.detect import load_annotations
from manylabel.data.images import load_image
from manylabel.data.patch import load_patch
from manylabel.errors import ManylabelError
from manylabel.inference.sources import find_sources
from manylabel.labels.foreign_predictions import load_foreign_predictions
from manylabel.labels.predictions import load_predictions
from manylabel.models.backbones import build_backbone
from manylabel.training.checkpoints import load_weights
from manylabel.training.config import load_config


class Canary:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def write_torch(file: Path, canary: Canary) -> None:
    torch.save({"weight": canary}, file)


def write_pickle(file: Path, canary: Canary) -> None:
    file.write_bytes(pickle.dumps(canary))


def write_objects(file: Path, canary: Canary) -> None:
    np.save(file, np.array([canary], dtype=object), allow_pickle=True)


def write_archive(file: Path, canary: Canary) -> None:
    np.savez(file, weight=np.array([canary], dtype=object))


def write_joblib(file: Path, canary: Canary) -> None:
    joblib.dump(canary, file)


def open_arrays(file: Path) -> Any:
    loaded = np.load(file, allow_pickle=True)
    return loaded["weight"] if file.suffix == ".npz" else loaded


KINDS: dict[str, tuple[Callable[[Path, Canary], None], Callable[[Path], Any]]] = {
    "model.pt": (write_torch, lambda file: torch.load(file, weights_only=False)),
    "model.pth": (write_torch, lambda file: torch.load(file, weights_only=False)),
    "model.ckpt": (write_torch, lambda file: torch.load(file, weights_only=False)),
    "pytorch_model.bin": (write_torch, lambda file: torch.load(file, weights_only=False)),
    "model.pkl": (write_pickle, lambda file: pickle.loads(file.read_bytes())),
    "weights.npy": (write_objects, open_arrays),
    "weights.npz": (write_archive, open_arrays),
    "model.joblib": (write_joblib, joblib.load),
}
"""A file, how it is written, and how it is opened carelessly."""


def read_all_sources(file: Path) -> None:
    """Read what `predict` reads for an argument; an image that cannot be used is an answer there."""
    for _, read in find_sources([str(file)], io.StringIO()).read():
        if isinstance(read, Exception):
            raise read
        load_image(read)


WAYS_IN: dict[str, Callable[[Path], Any]] = {
    "weights to start from": lambda file: build_backbone("test_resnet", weights=str(file)),
    "a model": ml.load,
    "a checkpoint": load_weights,
    "predictions": load_predictions,
    "predictions of others": load_foreign_predictions,
    "a table of labels": load_annotations,
    "a patch": load_patch,
    "settings": load_config,
    "an image": load_image,
    "what to predict": read_all_sources,
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_could_run_code_is_refused_wherever_it_is_given(name: str, tmp_path: Path) -> None:
    write, open_carelessly = KINDS[name]
    file, canary = tmp_path / name, tmp_path / "canary"
    write(file, Canary(canary))
    open_carelessly(file)
    assert canary.exists(), "the canary does not work"
    canary.unlink()
    for way, read in WAYS_IN.items():
        with pytest.raises(ManylabelError):
            read(file)
        assert not canary.exists(), way


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("disguise", "way"),
    [
        ("weights.safetensors", "weights to start from"),
        ("last.safetensors", "a checkpoint"),
        ("model.onnx", "a model"),
        ("test.parquet", "predictions"),
        ("labels.csv", "a table of labels"),
        ("labels.json", "a table of labels"),
        ("settings.toml", "settings"),
        ("cat.jpg", "an image"),
    ],
)
def test_another_name_does_not_help(name: str, disguise: str, way: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    KINDS[name][0](tmp_path / name, Canary(canary))
    file = (tmp_path / name).rename(tmp_path / disguise)
    with pytest.raises(ManylabelError):
        WAYS_IN[way](file)
    assert not canary.exists()
