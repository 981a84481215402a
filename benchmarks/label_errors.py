"""200 wrong cells planted in the demo's table: how many are among the first 400 of the queue, ours and cleanlab's.

Each seed plants other cells and trains its own folds, which takes minutes; `--answers FOLDER` keeps the answers.
cleanlab is no dependency: `--cleanlab PYTHON` names an interpreter that has it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from process import report

from manylabel.cli.demo import DEMO_CONFIG
from manylabel.data.annotations import Annotations
from manylabel.data.demo import write_demo
from manylabel.data.formats.detect import load_annotations
from manylabel.evaluation.mistakes import find_mistakes
from manylabel.labels.predictions import Predictions, load_predictions
from manylabel.labels.targets import Targets
from manylabel.runs.cross_validate import cross_validate

EPOCHS = 6
"""Twice the demo's: a network that has not learnt its labels finds few that are wrong (docs/experiments.md)."""

_ASK_CLEANLAB = """
import sys, numpy as np
from cleanlab.internal.multilabel_utils import onehot2int
from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
data = np.load(sys.argv[1])
labels, probs = onehot2int(data["given"].astype(int)), data["probs"].astype(float)
scores = np.where(data["given"], probs, 1 - probs)
issues = np.asarray(find_multilabel_issues_per_class(labels, probs, return_indices_ranked_by=None))
np.savez(sys.argv[2], issues=issues, scores=scores)
"""


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Plant, answer, rank, count."""
    with tempfile.TemporaryDirectory() as folder:
        table = load_annotations(write_demo(Path(folder) / "data"))
        runs = {str(seed): _measure(table, seed, given) for seed in given.seeds}
    shares = [one["found_in_400"] / given.num_planted for one in runs.values()]
    return {
        "num_images": len(table),
        "num_labels": len(table.label_space),
        "num_planted": given.num_planted,
        "share_in_400": round(statistics.mean(shares), 3),
        "share_in_400_min": round(min(shares), 3),
        "seeds": runs,
        "bars": {"share_in_400": 0.8},
    }


def _measure(table: Annotations, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    is_planted_NL = plant(table, given.num_planted, seed)
    spoilt = replace(table, targets=Targets.from_dense(table.targets.present_NL() ^ is_planted_NL))
    predictions = answer(spoilt, None if given.answers is None else Path(given.answers) / f"{seed}.parquet")
    assert predictions.targets == spoilt.targets
    started = time.perf_counter()
    queue = find_mistakes(predictions)
    seconds_ranking = time.perf_counter() - started
    row_of = {image: row for row, image in enumerate(predictions.images)}
    cells = [(row_of[mistake.image], predictions.label_space.index(mistake.label)) for mistake in queue]
    hits = np.array([is_planted_NL[cell] for cell in cells])
    return {
        "found_in_200": int(hits[:200].sum()),
        "found_in_400": int(hits[:400].sum()),
        "queue": len(queue),
        "found_in_queue": int(hits.sum()),
        "seconds_ranking": round(seconds_ranking, 2),
        **ask_cleanlab(given.cleanlab, predictions, is_planted_NL),
    }


def plant(table: Annotations, num_planted: int, seed: int) -> npt.NDArray[np.bool_]:
    """Return which cells are turned round: half of them lose a label that is there, half get one that is not."""
    generator = np.random.default_rng(seed)
    present_NL = table.targets.present_NL()
    is_planted_NL = np.zeros_like(present_NL)
    for cells in (np.flatnonzero(present_NL), np.flatnonzero(~present_NL)):
        is_planted_NL.flat[generator.choice(cells, num_planted // 2, replace=False)] = True
    return is_planted_NL


def answer(table: Annotations, kept: Path | None) -> Predictions:
    """Return the cross-fitted answers, or those that were kept."""
    if kept is not None and kept.exists():
        return load_predictions(kept)
    predictions = cross_validate(table, replace(DEMO_CONFIG, epochs=EPOCHS), num_folds=5).predictions
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        predictions.save(kept)
    return predictions


def ask_cleanlab(python: str | None, predictions: Predictions, is_planted_NL: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Return how many cleanlab finds: cells that it calls wrong first, each part by its self-confidence."""
    if python is None:
        return {}
    assert predictions.targets is not None
    with tempfile.TemporaryDirectory() as folder:
        asked, told = Path(folder) / "asked.npz", Path(folder) / "told.npz"
        np.savez(asked, given=predictions.targets.present_NL(), probs=predictions.probs_NL)
        started = time.perf_counter()
        subprocess.run([python, "-c", _ASK_CLEANLAB, str(asked), str(told)], check=True)
        seconds = time.perf_counter() - started
        answers = np.load(told)
    scores_NL = answers["scores"]
    by_confidence = is_planted_NL.flat[np.argsort(scores_NL, axis=None)]
    first_issues = is_planted_NL.flat[np.lexsort((scores_NL.ravel(), ~answers["issues"].ravel()))]
    return {
        "cleanlab_found_in_200": int(first_issues[:200].sum()),
        "cleanlab_found_in_400": int(first_issues[:400].sum()),
        "cleanlab_num_issues": int(answers["issues"].sum()),
        "cleanlab_self_confidence_in_400": int(by_confidence[:400].sum()),
        "cleanlab_seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    report(
        "label_errors",
        run,
        ("--num-planted", {"type": int, "default": 200}),
        ("--seeds", {"nargs": "+", "type": int, "default": [7, 8, 9]}),
        ("--answers", {"metavar": "FOLDER"}),
        ("--cleanlab", {"metavar": "PYTHON"}),
    )
