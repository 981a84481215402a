"""Can decisions for a million images and a hundred labels be chosen while somebody waits?

The answers are drawn: labels of very different frequency, a hundredth of the cells unknown. `seconds` is thresholds for
F1 with their cross-fitted gain, and then rules (an exclusive group, implications, a hierarchy, a limit) on every image;
the parts are timed on their own beside it.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import Any

import numpy as np
from process import report

from manylabel.decisions.policy import DecisionPolicy
from manylabel.decisions.rules import Rule
from manylabel.decisions.search import Choice, tune_policy
from manylabel.labels.predictions import Predictions
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets

_ROWS_AT_ONCE = 16_384


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Tune and decide once."""
    predictions = draw_predictions(given.images, given.labels)
    names = predictions.label_space.names
    rules = (
        Rule("exclusive", names[:5]),
        Rule("implies", (names[10],), (names[11],)),
        Rule("hierarchy", (names[20],), names[21:26]),
        Rule("at_most", count=8),
    )
    seconds = {}
    started = time.perf_counter()
    tuning = tune_policy(predictions, Choice("f1"))
    seconds["thresholds"] = time.perf_counter() - started
    started = time.perf_counter()
    policy = DecisionPolicy(predictions.label_space, tuning.policy.thresholds, rules=rules)
    decided_NL = policy.decide(predictions.probs_NL)
    seconds["rules"] = time.perf_counter() - started
    started = time.perf_counter()
    calibrated = tune_policy(predictions, Choice("f1", "auto"))
    seconds["with_auto_calibration"] = time.perf_counter() - started
    return {
        "num_images": given.images,
        "num_labels": given.labels,
        "seconds": round(seconds["thresholds"] + seconds["rules"], 1),
        "seconds_thresholds": round(seconds["thresholds"], 1),
        "seconds_rules": round(seconds["rules"], 1),
        "seconds_with_auto_calibration": round(seconds["with_auto_calibration"], 1),
        "calibration": calibrated.policy.calibration.method,
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "labels_per_image": round(float(decided_NL.sum(axis=1).mean()), 2),
        "gain": {key: round(tuning.policy.gain[key], 4) for key in ("at_half", "tuned", "low", "high")},
        "bars": {"seconds": 60},
    }


def draw_predictions(num_images: int, num_labels: int) -> Predictions:
    """Return answers of a model that is right about half the time on rare labels."""
    rng = np.random.default_rng(0)
    prior_L = np.geomspace(0.002, 0.3, num_labels)
    shift_L = np.log(prior_L / (1 - prior_L)).astype(np.float32)
    probs_NL = np.empty((num_images, num_labels), np.float32)
    truth_NL = np.empty((num_images, num_labels), bool)
    for start in range(0, num_images, _ROWS_AT_ONCE):
        rows = slice(start, min(start + _ROWS_AT_ONCE, num_images))
        truth_NL[rows] = rng.random((rows.stop - start, num_labels), np.float32) < prior_L
        logits_BL = rng.standard_normal((rows.stop - start, num_labels), np.float32)
        logits_BL = 1.5 * logits_BL + shift_L + 2.5 * truth_NL[rows]
        probs_NL[rows] = 1 / (1 + np.exp(-logits_BL))
    known_NL = np.ones_like(truth_NL)
    known_NL[rng.integers(num_images, size=num_images), rng.integers(num_labels, size=num_images)] = False
    space = LabelSpace(tuple(f"label {number}" for number in range(num_labels)))
    images = tuple(f"{number}.jpg" for number in range(num_images))
    return Predictions(images, space, probs_NL, Targets.from_dense(truth_NL, known_NL))


if __name__ == "__main__":
    report(
        "tune",
        run,
        ("--images", {"type": int, "default": 1_000_000, "help": "how many images"}),
        ("--labels", {"type": int, "default": 100, "help": "how many labels"}),
    )
