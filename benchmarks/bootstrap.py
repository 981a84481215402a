"""1,000 resamples of the macro average precision of 100,000 images by 200 labels: seconds and memory."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np
from process import check, measure, report

from manylabel.metrics.averaging import mean_over_labels
from manylabel.metrics.inputs import check_probs
from manylabel.metrics.intervals import draw_copies, spread_of_mean
from manylabel.metrics.ranking import average_precision, resampled_label_rankings


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Measure a process of its own, and check some resamples against repeated rows."""
    if given.inside:
        return resample(given)
    words = [f"--num-{what}={getattr(given, f'num_{what}')}" for what in ("images", "labels", "resamples")]
    measured = check(measure([sys.executable, __file__, "--inside", *words]))
    return {
        **{key: value for key, value in json.loads(measured.output).items() if key not in ("benchmark", "num_cores")},
        "seconds_whole_process": round(measured.seconds, 1),
        "peak_mb": round(measured.peak_mb),
        "bars": {"seconds": 120, "peak_mb": 2048, "largest_difference": 1e-9},
    }


def resample(given: argparse.Namespace) -> dict[str, Any]:
    """Make the data, draw and score."""
    generator = np.random.default_rng(0)
    shape = (given.num_images, given.num_labels)
    truth_NL = generator.random(shape) < np.geomspace(0.002, 0.2, given.num_labels)
    logits_NL = generator.standard_normal(shape, np.float32)
    logits_NL += 2 * truth_NL - np.float32(3)
    probs_NL = 1 / (1 + np.exp(-logits_NL, out=logits_NL))
    del logits_NL
    started, cpu_started = time.perf_counter(), time.process_time()
    copies_RN = draw_copies(given.num_images, given.num_resamples)
    average_precision_RL, _ = resampled_label_rankings(*check_probs(probs_NL, truth_NL, None), copies_RN)
    values_R = mean_over_labels(average_precision_RL)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    rows = np.repeat(np.arange(given.num_images), copies_RN[-1])
    difference = float(abs(np.nanmean(average_precision(probs_NL[rows], truth_NL[rows])) - values_R[-1]))
    values_L = average_precision(probs_NL, truth_NL)
    spread = spread_of_mean(values_L, average_precision_RL, np.count_nonzero(truth_NL, axis=0))
    return {
        "num_images": given.num_images,
        "num_labels": given.num_labels,
        "num_resamples": given.num_resamples,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "average_precision_macro": round(float(np.nanmean(values_L)), 5),
        "deviation": round(spread.deviation, 6),
        "largest_difference": difference,
    }


if __name__ == "__main__":
    report(
        "bootstrap",
        run,
        ("--num-images", {"type": int, "default": 100_000}),
        ("--num-labels", {"type": int, "default": 200}),
        ("--num-resamples", {"type": int, "default": 1000}),
        ("--inside", {"action": "store_true", "help": "compute in this process"}),
    )
