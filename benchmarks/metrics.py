"""Every metric of 100,000 images by 200 labels beside scikit-learn's functions for the same numbers."""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from process import report
from sklearn import metrics as sk

from manylabel.metrics.summary import summarise

AVERAGES = ("macro", "micro", "weighted", "samples")


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Time both, each once and warm, and compare number by number."""
    generator = np.random.default_rng(0)
    shape = (given.num_images, given.num_labels)
    truth_NL = generator.random(shape) < np.geomspace(0.002, 0.2, given.num_labels)
    logits_NL = generator.normal(size=shape) + 2 * truth_NL - 3
    probs_NL = (1 / (1 + np.exp(-logits_NL))).astype(np.float32)
    decisions_NL = probs_NL >= 0.3
    summarise(probs_NL[:1000], decisions_NL[:1000], truth_NL[:1000])
    started = time.perf_counter()
    ours = summarise(probs_NL, decisions_NL, truth_NL)
    seconds = time.perf_counter() - started
    theirs, their_seconds = {}, {}
    for name, compute in build_references(probs_NL, decisions_NL, truth_NL).items():
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs[name] = float(compute())
        their_seconds[name] = round(time.perf_counter() - started, 2)
    their_sum = sum(their_seconds.values())
    return {
        "num_images": given.num_images,
        "num_labels": given.num_labels,
        "seconds": round(seconds, 2),
        "seconds_sklearn": round(their_sum, 2),
        "seconds_sklearn_each": their_seconds,
        "not_in_sklearn": sorted(set(ours) - set(theirs)),
        "times_faster": round(their_sum / seconds, 1),
        "largest_difference": max(abs(ours[name] - value) for name, value in theirs.items()),
        "bars": {"times_faster": 3, "largest_difference": 1e-9},
    }


def build_references(probs_NL: Any, decisions_NL: Any, truth_NL: Any) -> dict[str, Callable[[], float]]:
    """Return scikit-learn's function for each name that it has."""
    references: dict[str, Callable[[], float]] = {
        "average_precision_macro": lambda: sk.average_precision_score(truth_NL, probs_NL, average="macro"),
        "average_precision_micro": lambda: sk.average_precision_score(truth_NL, probs_NL, average="micro"),
        "roc_auc_macro": lambda: sk.roc_auc_score(truth_NL, probs_NL, average="macro"),
        "hamming_loss": lambda: sk.hamming_loss(truth_NL, decisions_NL),
        "subset_accuracy": lambda: sk.accuracy_score(truth_NL, decisions_NL),
        "coverage_error": lambda: sk.coverage_error(truth_NL, probs_NL),
        "ranking_loss": lambda: sk.label_ranking_loss(truth_NL, probs_NL),
        "label_ranking_average_precision": lambda: sk.label_ranking_average_precision_score(truth_NL, probs_NL),
        "brier": lambda: np.mean(
            [sk.brier_score_loss(truth_N, probs_N) for truth_N, probs_N in zip(truth_NL.T, probs_NL.T, strict=True)]
        ),
    }
    for name, function in (("f1", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score)):
        for average in AVERAGES:
            references[f"{name}_{average}"] = lambda function=function, average=average: function(
                truth_NL, decisions_NL, average=average, zero_division=np.nan
            )
    # jaccard_score knows no zero_division=nan: images where both sets are empty are left out by hand.
    has_any_N = (truth_NL | decisions_NL).any(axis=1)
    references["jaccard_samples"] = lambda: sk.jaccard_score(
        truth_NL[has_any_N], decisions_NL[has_any_N], average="samples"
    )
    return references


if __name__ == "__main__":
    report(
        "metrics",
        run,
        ("--num-images", {"type": int, "default": 100_000}),
        ("--num-labels", {"type": int, "default": 200}),
    )
