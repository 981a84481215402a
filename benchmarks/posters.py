"""The posters and the real weights that lie beside the project: what several benchmarks train on."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import manylabel as ml
from manylabel.data.annotations import Annotations
from manylabel.decisions.search import choose_policy
from manylabel.labels.predictions import Predictions
from manylabel.metrics.summary import summarise
from manylabel.training.answers import collect_answers
from manylabel.training.checkpoints import Progress, restore_best
from manylabel.training.config import TrainConfig
from manylabel.training.events import tell_nobody
from manylabel.training.loading import ImageDataset, build_loader
from manylabel.training.loop import run_loop
from manylabel.training.setup import Network, Setup, build_network, build_setup

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
WEIGHTS = SHARED / "weights/mobilenetv1_100.in1k.to_block12.safetensors"
MOBILENET: Mapping[str, Any] = {
    "backbone": "mobilenetv1_100",
    "backbone_args": {"pad_type": "same", "bn_eps": 1e-3},
    "weights": str(WEIGHTS),
    "allow_partial_weights": True,
    "image_size": 160,
}
"""How the shared weights are loaded; everything else is the default recipe."""

RESNET18: Mapping[str, Any] = {"backbone": "resnet18", "weights": "none", "image_size": 160}
BACKBONES = {"mobilenetv1_100": MOBILENET, "resnet18": RESNET18}
LEAST_IMAGES = 20
"""Labels with fewer training images say nothing about a recipe."""

Parts = Mapping[str, Annotations]


def load_posters() -> Annotations:
    """Return the table of all posters."""
    return ml.load_annotations(SHARED / "data/posters/labels.csv", images=SHARED / "data/posters")


def split_posters(shares: Mapping[str, float]) -> Parts:
    """Return the posters in parts that are the same in every benchmark that asks for the same shares."""
    return ml.split(load_posters(), shares, seed=0)


@dataclass(frozen=True)
class Trained:
    """A run that wrote no bundle: the weights of its best epoch stand in `setup`."""

    setup: Setup
    network: Network
    history: tuple[Mapping[str, Any], ...]

    def answer(self, table: Annotations) -> Predictions:
        """Return what the model says to the images of a table."""
        config = self.setup.parts.config
        dataset = ImageDataset(table, self.network.preprocess)
        loader = build_loader(dataset, config.batch_size, workers=config.workers)
        rows, probs_NL = collect_answers(self.setup.parts, loader)
        usable = table.select(rows)
        return Predictions(usable.images, usable.label_space, probs_NL, usable.targets)


def train_bare(config: TrainConfig, parts: Parts) -> Trained:
    """Train with the settings, without export and reports."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Path(folder) / "checkpoints"
        checkpoints.mkdir()
        network = build_network(config, parts["train"])
        setup = build_setup(config, network, parts["train"], parts["val"], checkpoints, tell_nobody)
        progress = Progress()
        run_loop(setup.parts, progress, tell_nobody, lambda: False)
        restore_best(setup.parts.model, setup.parts.average, checkpoints / "best.safetensors", progress)
    return Trained(setup, network, tuple(progress.history))


def find_kept_labels(train: Annotations) -> npt.NDArray[np.bool_]:
    """Return which labels have enough training images to be judged."""
    return train.targets.num_present_L >= LEAST_IMAGES


def judge_answers(test: Predictions, val: Predictions, is_kept_L: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Return macro figures over the kept labels: at 0.5, and with thresholds chosen on the validation images."""
    assert test.targets is not None
    truth_NL, known_NL = test.targets.present_NL()[:, is_kept_L], test.targets.known_NL()[:, is_kept_L]
    tuned_NL = choose_policy(val, "f1").decide(test.probs_NL)[:, is_kept_L]
    probs_NL = test.probs_NL[:, is_kept_L]
    at_half = summarise(probs_NL, probs_NL >= 0.5, truth_NL, known_NL)
    tuned = summarise(probs_NL, tuned_NL, truth_NL, known_NL)
    return {
        "average_precision_macro": round(at_half["average_precision_macro"], 4),
        "f1_at_half": round(at_half["f1_macro"], 4),
        "f1_tuned": round(tuned["f1_macro"], 4),
    }
