"""How many images a second training takes in, decoding included, beside fastai on the same network, images and cores.

Each library as it comes: ours with its default recipe and `precision auto`, fastai with `Resize`, with and without its
usual `aug_transforms`. Arms take turns, each in a process of its own; the second epoch counts, in which every weight
learns and caches of the system are warm on both sides.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from typing import Any

from peer import PEER_FLAG, check_peer, run_peer
from posters import BACKBONES, Parts, split_posters, train_bare
from process import check, measure, report

import manylabel as ml

BARS = {"mobilenetv1_100": 2.3, "resnet18": 2.5}
BATCH_SIZE = 32


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Measure one arm of ours in this process, or all arms in turn."""
    parts = _take(given.images)
    if given.ours is not None:
        return _train_ours(given.ours, parts)
    check_peer(given.peer)
    found: dict[str, Any] = {
        "images": given.images,
        "rounds": given.rounds,
        "batch_size": BATCH_SIZE,
        "image_size": 160,
    }
    for backbone in given.backbones:
        found |= _compare(backbone, parts, given)
    found["bars"] = {f"{name}_ratio": BARS[name] for name in given.backbones}
    return found


def _compare(backbone: str, parts: Parts, given: argparse.Namespace) -> dict[str, Any]:
    """Let the arms take turns and return their images/s, and the ratio to the quicker way of fastai."""
    arms: dict[str, list[float]] = {"manylabel": [], "fastai": [], "fastai_augmented": []}
    for _ in range(given.rounds):
        command = [sys.executable, __file__, "--ours", backbone, "--images", str(given.images), "--peer", given.peer]
        ours = json.loads(check(measure(command, with_memory=False)).output)
        plain = run_peer(given.peer, parts, backbone=backbone, should_augment=False)
        augmented = run_peer(given.peer, parts, backbone=backbone, should_augment=True)
        arms["manylabel"].append(ours["images_per_second"])
        arms["fastai"].append(plain.images_per_second[-1])
        arms["fastai_augmented"].append(augmented.images_per_second[-1])
        print(backbone, {name: round(rates[-1], 1) for name, rates in arms.items()}, file=sys.stderr)
    median = {name: statistics.median(rates) for name, rates in arms.items()}
    return {
        f"{backbone}_precision": ours["precision"],
        f"{backbone}_images_per_second": {name: _spread(rates) for name, rates in arms.items()},
        f"{backbone}_ratio": round(median["manylabel"] / median["fastai"], 2),
        f"{backbone}_ratio_augmented": round(median["manylabel"] / median["fastai_augmented"], 2),
        "fastai": plain.versions["fastai"],
        "torch": plain.versions["torch"],
    }


def _train_ours(backbone: str, parts: Parts) -> dict[str, Any]:
    config = ml.TrainConfig(**BACKBONES[backbone], batch_size=BATCH_SIZE, epochs=2)
    trained = train_bare(config, parts)
    return {
        "images_per_second": trained.history[-1]["images_per_second"],
        "precision": trained.setup.precision.precision,
    }


def _take(num_images: int) -> Parts:
    """Return a few posters to train on, and as few as possible to validate on: their time is not measured."""
    parts = split_posters({"train": 0.8, "val": 0.2})
    return {"train": parts["train"].select(range(num_images)), "val": parts["val"].select(range(BATCH_SIZE))}


def _spread(rates: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(rates), 1),
        "min": round(min(rates), 1),
        "max": round(max(rates), 1),
    }


if __name__ == "__main__":
    report(
        "train_throughput",
        run,
        PEER_FLAG,
        ("--ours", {"choices": list(BACKBONES), "help": "only this arm, for the processes that the benchmark starts"}),
        ("--backbones", {"nargs": "+", "choices": list(BACKBONES), "default": list(BACKBONES)}),
        ("--images", {"type": int, "default": 480}),
        ("--rounds", {"type": int, "default": 3}),
    )
