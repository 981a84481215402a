"""Which recipe is best for a given time on posters: the default and its rivals, on real weights, the same seeds.

Recipes change nothing but the settings that are named; `test` is half of the posters, and nothing is chosen on it.
`--only` and `--seeds` do a part of the work, and `--save` adds it to what is kept. `--docs` writes the page.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from posters import MOBILENET, find_kept_labels, judge_answers, split_posters, train_bare
from process import RESULTS, report

import manylabel as ml

PAGE = Path(__file__).resolve().parent.parent / "docs" / "explanation" / "which_recipe.md"
MARK = "<!-- table: benchmarks/recipes.py -->"
SHARES = {"train": 0.4, "val": 0.1, "test": 0.5}
EPOCHS = 6

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "old": {"lr": 1e-3, "backbone_lr_ratio": 0.3, "ema": 0.0, "head_epochs": 0},
    "ema": {"ema": 0.99},
    "ema, head first, ratio 0.1": {"ema": 0.99, "head_epochs": 1, "backbone_lr_ratio": 0.1},
    "ema, head first, lr 0.003, ratio 0.1": {"ema": 0.99, "head_epochs": 1, "lr": 3e-3, "backbone_lr_ratio": 0.1},
    "ema, lr 0.003, ratio 0.1": {"ema": 0.99, "lr": 3e-3, "backbone_lr_ratio": 0.1},
}
"""Settings on top of TrainConfig's defaults."""

FIGURES = {
    "average_precision_macro": "macro average precision",
    "f1_at_half": "macro F1 at 0.5",
    "f1_tuned": "macro F1, thresholds chosen",
    "seconds": "seconds",
}


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Train the recipes that are asked for, and put them beside those that are kept."""
    kept = RESULTS / "recipes.json"
    runs: dict[str, dict[str, dict[str, float]]] = json.loads(kept.read_text("utf-8"))["runs"] if kept.exists() else {}
    parts = split_posters(SHARES)
    for name in given.only:
        for seed in given.seeds:
            runs.setdefault(name, {})[str(seed)] = _train(name, seed, given.epochs, parts)
            print(name, seed, runs[name][str(seed)], file=sys.stderr, flush=True)
    if given.docs:
        _write_table(runs)
    return {"epochs": given.epochs, "num_images": {part: len(table) for part, table in parts.items()}, "runs": runs}


def _train(name: str, seed: int, epochs: int, parts: Any) -> dict[str, float]:
    settings = {"epochs": epochs, "seed": seed, "precision": "bf16_channels_last", **MOBILENET, **RECIPES[name]}
    started = time.perf_counter()
    trained = train_bare(ml.TrainConfig(**settings), parts)
    seconds = time.perf_counter() - started
    answers = [trained.answer(parts[name]) for name in ("test", "val")]
    figures = judge_answers(*answers, find_kept_labels(parts["train"]))
    return figures | {"seconds": round(seconds, 1)}


def _write_table(runs: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Replace what stands below the mark of the page, the best recipe first."""
    lines = [f"| recipe | seeds | {' | '.join(FIGURES.values())} |", "|---" * (len(FIGURES) + 2) + "|"]
    rows = {name: list(by_seed.values()) for name, by_seed in runs.items()}
    for name in sorted(rows, key=lambda name: -statistics.mean(one["average_precision_macro"] for one in rows[name])):
        cells = [_describe([one[figure] for one in rows[name]], 0 if figure == "seconds" else 3) for figure in FIGURES]
        lines.append(f"| {name} | {len(rows[name])} | {' | '.join(cells)} |")
    head = PAGE.read_text("utf-8").split(MARK)[0]
    PAGE.write_text(f"{head}{MARK}\n\n" + "\n".join(lines) + "\n", "utf-8")


def _describe(values: Sequence[float], digits: int) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    if digits == 0 or len(values) == 1:
        return mean
    return f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    report(
        "recipes",
        run,
        ("--only", {"nargs": "*", "choices": list(RECIPES), "default": list(RECIPES), "help": "some of the recipes"}),
        ("--seeds", {"nargs": "+", "type": int, "default": [0, 1, 2]}),
        ("--epochs", {"type": int, "default": EPOCHS}),
        ("--docs", {"action": "store_true", "help": "write the table into the documentation"}),
    )
