"""Which loss is best for what: every shipped loss, three seeds, on the demo's images and on posters.

The settings of a loss are those it suggests itself. The epoch and the thresholds are chosen on `val`, and every figure
is of `test`, which nothing was chosen on. In `forgotten` 30 % of the labels that an image of `train` or `val` has are
absent from the table. `--only` measures some data sets and keeps the others; `--docs` writes the tables into the
documentation.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from process import RESULTS, report

import manylabel as ml
from manylabel.cli.demo import DEMO_CONFIG
from manylabel.data.annotations import Annotations
from manylabel.data.scan import find_cache_folder
from manylabel.decisions.search import choose_policy
from manylabel.labels.targets import Targets
from manylabel.losses import LOSSES
from manylabel.metrics.summary import summarise
from manylabel.training.answers import collect_answers
from manylabel.training.checkpoints import Progress, restore_best
from manylabel.training.events import tell_nobody
from manylabel.training.features import FeatureLoader, extract_features
from manylabel.training.loading import ImageDataset, build_loader
from manylabel.training.loop import run_loop
from manylabel.training.setup import build_network, build_setup

HERE = Path(__file__).resolve().parent
SHARED = HERE.parent.parent / "shared"
PAGE = HERE.parent / "docs" / "explanation" / "which_loss.md"
MARK = "<!-- table: benchmarks/losses.py -->"
SEEDS = (0, 1, 2)
LEAST_IMAGES = 20
SHARE_FORGOTTEN = 0.3
FIGURES = {
    "average_precision_macro": "macro average precision",
    "f1_at_half": "macro F1 at 0.5",
    "f1_tuned": "macro F1, thresholds chosen",
}
DATA_SETS = {
    "demo": "Demo: handwritten digits",
    "forgotten": "The same digits, three of ten labels forgotten",
    "posters": "Posters: genres, a frozen backbone",
}

Parts = Mapping[str, Annotations]


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Train every loss on the data sets that are asked for."""
    kept = RESULTS / "losses.json"
    before = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    found: dict[str, Any] = {"seeds": list(SEEDS)} | {name: before[name] for name in DATA_SETS if name in before}
    with tempfile.TemporaryDirectory() as folder:
        for name in given.only:
            config, parts = _prepare(name, Path(folder))
            found[name] = {
                "num_images": {part: len(table) for part, table in parts.items()},
                "epochs": config.epochs,
                "losses": {loss: _measure(config, parts, loss, Path(folder) / name) for loss in LOSSES},
            }
    if given.docs:
        _write_table(found)
    return found


def _prepare(name: str, folder: Path) -> tuple[ml.TrainConfig, Parts]:
    if name == "posters":
        return _prepare_posters()
    config, parts = _prepare_demo(folder / name)
    if name == "forgotten":
        parts = {part: table if part == "test" else _forget(table) for part, table in parts.items()}
    return config, parts


def _prepare_demo(folder: Path) -> tuple[ml.TrainConfig, Parts]:
    """Return the demo's recipe, twice as long, on a quarter of its images."""
    table = ml.write_demo(folder / "images", num_images={"train": 1500, "val": 400, "test": 1000})
    return replace(DEMO_CONFIG, epochs=6, workers=0), ml.load_annotations(table).parts()


def _forget(table: Annotations) -> Annotations:
    """Return the table with a share of its labels called absent: what a hurried person leaves out."""
    present_NL, known_NL = table.targets.present_NL(), table.targets.known_NL()
    is_kept_NL = np.random.default_rng(0).random(present_NL.shape) >= SHARE_FORGOTTEN
    return replace(table, targets=Targets.from_dense(present_NL & is_kept_NL, known_NL))


def _prepare_posters() -> tuple[ml.TrainConfig, Parts]:
    """Return a linear head on features of real weights, and half of the posters for the test."""
    table = ml.load_annotations(SHARED / "data/posters/labels.csv", images=SHARED / "data/posters")
    config = ml.TrainConfig(
        backbone="mobilenetv1_100",
        backbone_args={"pad_type": "same", "bn_eps": 1e-3},
        weights=str(SHARED / "weights/mobilenetv1_100.in1k.to_block12.safetensors"),
        allow_partial_weights=True,
        image_size=160,
        freeze="backbone",
        epochs=20,
    )
    return config, ml.split(table, {"train": 0.4, "val": 0.1, "test": 0.5}, seed=0)


def _measure(config: ml.TrainConfig, parts: Parts, loss: str, folder: Path) -> dict[str, Any]:
    """Return mean and spread of each figure over the seeds."""
    by_seed = [_train(replace(config, loss=loss, seed=seed), parts, folder / f"{loss}-{seed}") for seed in SEEDS]
    found = {
        figure: {
            "mean": round(statistics.mean(one[figure] for one in by_seed), 4),
            "min": round(min(one[figure] for one in by_seed), 4),
            "max": round(max(one[figure] for one in by_seed), 4),
        }
        for figure in FIGURES
    }
    print(loss, {figure: values["mean"] for figure, values in found.items()}, file=sys.stderr)
    return found


def _train(config: ml.TrainConfig, parts: Parts, folder: Path) -> dict[str, float]:
    """Train without exporting, and judge the best epoch on the test images."""
    (folder / "checkpoints").mkdir(parents=True)
    network = build_network(config, parts["train"])
    setup = build_setup(config, network, parts["train"], parts["val"], folder / "checkpoints", tell_nobody)
    progress = Progress()
    run_loop(setup.parts, progress, tell_nobody, lambda: False)
    restore_best(setup.parts.model, setup.parts.average, folder / "checkpoints" / "best.safetensors", progress)
    answers = {}
    for name in ("val", "test"):
        rows, probs_NL = collect_answers(setup.parts, _load(config, network, parts[name]))
        usable = parts[name].select(rows)
        answers[name] = ml.Predictions(usable.images, usable.label_space, probs_NL, usable.targets)
    return _judge(answers, parts["train"].targets.num_present_L >= LEAST_IMAGES)


def _load(config: ml.TrainConfig, network: Any, table: Annotations) -> Any:
    if config.freeze == "backbone":
        backbone = network.classifier.backbone
        features = extract_features(backbone, table, network.preprocess, find_cache_folder(), batch_size=32)
        return FeatureLoader(features, 32)
    return build_loader(ImageDataset(table, network.preprocess), 32)


def _judge(answers: Mapping[str, ml.Predictions], is_kept_L: Any) -> dict[str, float]:
    """Return the figures over labels with enough training images: the others say nothing about a loss."""
    test = answers["test"]
    assert test.targets is not None
    truth_NL, known_NL = test.targets.present_NL()[:, is_kept_L], test.targets.known_NL()[:, is_kept_L]
    tuned_NL = choose_policy(answers["val"], "f1").decide(test.probs_NL)[:, is_kept_L]
    probs_NL = test.probs_NL[:, is_kept_L]
    at_half = summarise(probs_NL, probs_NL >= 0.5, truth_NL, known_NL)
    tuned = summarise(probs_NL, tuned_NL, truth_NL, known_NL)
    return {
        "average_precision_macro": at_half["average_precision_macro"],
        "f1_at_half": at_half["f1_macro"],
        "f1_tuned": tuned["f1_macro"],
    }


def _write_table(found: Mapping[str, Any]) -> None:
    """Replace what stands below the mark of the page."""
    lines: list[str] = []
    for name, title in ((name, title) for name, title in DATA_SETS.items() if name in found):
        lines += [f"### {title}", "", f"| loss | {' | '.join(FIGURES.values())} |", "|---" * (len(FIGURES) + 1) + "|"]
        for loss, figures in found[name]["losses"].items():
            cells = [f"{v['mean']:.3f} ({v['min']:.3f} to {v['max']:.3f})" for v in figures.values()]
            lines.append(f"| `{loss}` | {' | '.join(cells)} |")
        lines.append("")
    head = PAGE.read_text("utf-8").split(MARK)[0]
    PAGE.write_text(f"{head}{MARK}\n\n" + "\n".join(lines), "utf-8")


if __name__ == "__main__":
    report(
        "losses",
        run,
        ("--only", {"nargs": "*", "choices": list(DATA_SETS), "default": list(DATA_SETS), "help": "some data sets"}),
        ("--docs", {"action": "store_true", "help": "write the tables into the documentation"}),
    )
