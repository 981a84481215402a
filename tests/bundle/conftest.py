"""A bundle whose answers can be worked by hand: the mean of a colour decides a label."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from manylabel.bundle.bundle import Bundle
from manylabel.bundle.export import save_bundle
from manylabel.bundle.manifest import Manifest
from manylabel.data.preprocess import Preprocess
from manylabel.decisions.policy import DecisionPolicy
from manylabel.labels.space import LabelSpace
from manylabel.models.classifier import Classifier

SIZE = 8
SPACE = LabelSpace(("red", "green | bright", "blue"))
PREPROCESS = Preprocess(height_px=SIZE, width_px=SIZE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
POLICY = DecisionPolicy(SPACE, (0.5, 0.25, 0.75), "f1", ("label", "global", "label"), "abc")
MANIFEST = Manifest(
    SPACE, PREPROCESS, POLICY, {"name": "mean", "args": {}, "weights": "none"}, {"name": "linear", "num_features": 3},
    {"name": "colours", "num_train": 3, "num_val": 2, "monitor": "loss", "monitor_value": 0.5, "created": "today"},
)  # fmt: skip


class MeanColour(nn.Module):
    """The mean of each colour of an image."""

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return images_BCHW.mean((2, 3))


def build_colours() -> Classifier:
    head = nn.Linear(3, 3)
    with torch.no_grad():
        head.weight.copy_(torch.eye(3))
        head.bias.zero_()
    return Classifier(MeanColour(), head, dropout=0.5)


def draw_images(num_images: int = 4) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(num_images, 3, SIZE, SIZE)).astype(np.float32)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle; export takes seconds, so tests copy it."""
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    save_bundle(folder, build_colours(), MANIFEST, draw_images())
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.fixture
def reload() -> Callable[[Path], Bundle]:
    from manylabel.bundle.bundle import load_bundle

    return load_bundle
