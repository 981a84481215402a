"""How good a model is after the time that fastai's 1 + 5 epochs take: the same posters, weights, size and cores.

fastai trains as its documentation says (`fine_tune(5, base_lr=3e-3, freeze_epochs=1)`, `aug_transforms`, its decisions
at 0.5). Ours is the default recipe with as many epochs as fit into the seconds that fastai took, start and choice of
precision included. Neither sees `test`; the thresholds are chosen on `val`, which neither trains on.

`--seeds` does some of the seeds and `--save` adds them to what is kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

from peer import PEER_FLAG, check_peer, run_peer
from posters import MOBILENET, Parts, find_kept_labels, judge_answers, split_posters, train_bare
from process import RESULTS, report

import manylabel as ml
from manylabel.labels.predictions import Predictions

SHARES = {"train": 0.4, "val": 0.1, "test": 0.5}
FIGURES = ("average_precision_macro", "f1_at_half", "f1_tuned", "seconds")


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Train both with every seed, and compare the means."""
    check_peer(given.peer)
    parts = split_posters(SHARES)
    kept = RESULTS / "quality_beside_fastai.json"
    runs: list[dict[str, Any]] = json.loads(kept.read_text("utf-8"))["runs"] if kept.exists() else []
    runs = [one for one in runs if one["seed"] not in given.seeds]
    for seed in given.seeds:
        runs.append(
            {
                "seed": seed,
                "fastai": _train_peer(given.peer, parts, seed),
                "manylabel": _train_ours(given.epochs, parts, seed),
            }
        )
        print(runs[-1], file=sys.stderr, flush=True)
    return _compare(runs) | {
        "epochs": given.epochs,
        "num_images": {part: len(table) for part, table in parts.items()},
        "num_labels": int(find_kept_labels(parts["train"]).sum()),
        "runs": runs,
    }


def _train_peer(python: str, parts: Parts, seed: int) -> dict[str, float]:
    """Return what fastai's answers are worth, and the seconds of its training alone."""
    ended = run_peer(python, parts, recipe="fine_tune", epochs=5, seed=seed, answer_for=("val", "test"))
    answers = {
        name: Predictions(parts[name].images, parts[name].label_space, probs_NL, parts[name].targets)
        for name, probs_NL in ended.probs_by_part.items()
    }
    figures = judge_answers(answers["test"], answers["val"], find_kept_labels(parts["train"]))
    return figures | {"seconds": round(ended.seconds, 1)}


def _train_ours(epochs: int, parts: Parts, seed: int) -> dict[str, float]:
    """Return the same of ours; the seconds hold the choice of precision, validation and the start of workers too."""
    started = time.perf_counter()
    trained = train_bare(ml.TrainConfig(**MOBILENET, epochs=epochs, seed=seed), parts)
    seconds = time.perf_counter() - started
    answers = [trained.answer(parts[name]) for name in ("test", "val")]
    figures = judge_answers(*answers, find_kept_labels(parts["train"]))
    return figures | {"seconds": round(seconds, 1)}


def _compare(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return means and spreads, and how far ours lies above: our decisions are those of the chosen thresholds."""
    found: dict[str, Any] = {}
    for library in ("fastai", "manylabel"):
        values = {figure: [one[library][figure] for one in runs] for figure in FIGURES}
        found[library] = {
            figure: {"mean": round(statistics.mean(some), 4), "min": min(some), "max": max(some)}
            for figure, some in values.items()
        }
    ours, peer = found["manylabel"], found["fastai"]
    for figure, own, other in (
        ("average_precision_gain", "average_precision_macro", "average_precision_macro"),
        ("f1_gain", "f1_tuned", "f1_at_half"),
        ("f1_gain_both_at_half", "f1_at_half", "f1_at_half"),
        ("f1_gain_both_tuned", "f1_tuned", "f1_tuned"),
    ):
        found[figure] = round(ours[own]["mean"] - peer[other]["mean"], 4)
    found["time_ratio"] = round(ours["seconds"]["mean"] / peer["seconds"]["mean"], 2)
    found["bars"] = {"average_precision_gain": 0.02, "f1_gain": 0.10, "time_ratio": 1.0}
    return found


if __name__ == "__main__":
    report(
        "quality_beside_fastai",
        run,
        PEER_FLAG,
        ("--seeds", {"nargs": "+", "type": int, "default": [0, 1, 2]}),
        ("--epochs", {"type": int, "default": 10}),
    )
