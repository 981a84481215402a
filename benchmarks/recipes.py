"""Which recipe is best for a given time on posters: the default and its rivals, on real weights, the same seeds.

Recipes change nothing but the settings that are named; `test` is half of the posters, and nothing is chosen on it.
`--only` and `--seeds` do a part of the work, and `--save` adds it to what is kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from posters import MOBILENET, find_kept_labels, judge_answers, split_posters, train_bare
from process import RESULTS, report

import manylabel as ml

SHARES = {"train": 0.4, "val": 0.1, "test": 0.5}
EPOCHS = 6

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "ema": {"ema": 0.99},
    "ema, head first, ratio 0.1": {"ema": 0.99, "head_epochs": 1, "backbone_lr_ratio": 0.1},
    "ema, head first, lr 0.003, ratio 0.1": {"ema": 0.99, "head_epochs": 1, "lr": 3e-3, "backbone_lr_ratio": 0.1},
    "ema, lr 0.003, ratio 0.1": {"ema": 0.99, "lr": 3e-3, "backbone_lr_ratio": 0.1},
}
"""Settings on top of TrainConfig's defaults."""


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Train the recipes that are asked for, and put them beside those that are kept."""
    kept = RESULTS / "recipes.json"
    runs: dict[str, dict[str, dict[str, float]]] = json.loads(kept.read_text("utf-8"))["runs"] if kept.exists() else {}
    parts = split_posters(SHARES)
    for name in given.only:
        for seed in given.seeds:
            runs.setdefault(name, {})[str(seed)] = _train(name, seed, given.epochs, parts)
            print(name, seed, runs[name][str(seed)], file=sys.stderr, flush=True)
    return {"epochs": given.epochs, "num_images": {part: len(table) for part, table in parts.items()}, "runs": runs}


def _train(name: str, seed: int, epochs: int, parts: Any) -> dict[str, float]:
    settings = {"epochs": epochs, "seed": seed, "precision": "bf16_channels_last", **MOBILENET, **RECIPES[name]}
    started = time.perf_counter()
    trained = train_bare(ml.TrainConfig(**settings), parts)
    seconds = time.perf_counter() - started
    answers = [trained.answer(parts[name]) for name in ("test", "val")]
    figures = judge_answers(*answers, find_kept_labels(parts["train"]))
    return figures | {"seconds": round(seconds, 1)}


if __name__ == "__main__":
    report(
        "recipes",
        run,
        ("--only", {"nargs": "*", "choices": list(RECIPES), "default": list(RECIPES), "help": "some of the recipes"}),
        ("--seeds", {"nargs": "+", "type": int, "default": [0, 1, 2]}),
        ("--epochs", {"type": int, "default": EPOCHS}),
    )
