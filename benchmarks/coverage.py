"""How often a 90 % interval holds the truth, over simulated data sets with frequent, rare and very rare labels.

The truth is the figure over 800,000 images of the same kind, of the labels that the data set has.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
from process import report

from manylabel.metrics.averaging import mean_over_labels
from manylabel.metrics.intervals import find_interval, spread_of_mean, spread_of_value
from manylabel.metrics.resampling import each_image_once
from manylabel.metrics.summary import Resampled, resample

NAMES = ("average_precision_macro", "average_precision_micro", "f1_macro", "f1_micro")
CONFIDENCE = 0.9
_PARTS_OF_THE_TRUTH, _IMAGES_EACH = 8, 100_000


@dataclass(frozen=True)
class World:
    """Images of one kind: how frequent its labels are, and how far a model's scores set them apart."""

    num_images: int
    prevalence_L: npt.NDArray[np.float64]
    separation: float

    def draw(self, num_images: int, seed: list[int]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Return scores and truth; labels come together in an image, and hard images are hard for all labels."""
        generator = np.random.default_rng(seed)
        shape = (num_images, len(self.prevalence_L))
        cut_L = np.array([NormalDist().inv_cdf(1 - prevalence) for prevalence in self.prevalence_L])
        scene_N1 = generator.standard_normal((num_images, 1)) * np.where(np.arange(shape[1]) % 2, 1, -1)
        truth_NL = np.sqrt(0.5) * (scene_N1 + generator.standard_normal(shape)) > cut_L
        noise_NL = np.sqrt(0.7) * generator.standard_normal((num_images, 1))
        noise_NL = noise_NL + np.sqrt(0.3) * generator.standard_normal(shape)
        scores_NL = self.separation * truth_NL + noise_NL
        return (1 / (1 + np.exp(-scores_NL))).astype(np.float32), truth_NL

    @property
    def thresholds_L(self) -> npt.NDArray[np.float64]:
        """Where a label is about as likely as not, and no further than half a step above what a present one has."""
        log_odds_L = np.log(self.prevalence_L / (1 - self.prevalence_L))
        return 1 / (1 + np.exp(-np.minimum(self.separation / 2 - log_odds_L / self.separation, self.separation + 0.5)))

    def judge(self, num_images: int, seed: list[int], num_resamples: int) -> Resampled:
        """Return the figures of one data set; row 0 is the data as they are."""
        probs_NL, truth_NL = self.draw(num_images, seed)
        generator = np.random.default_rng([*seed, 1])
        copies_RN = each_image_once(num_images)
        if num_resamples:
            drawn = generator.multinomial(num_images, np.full(num_images, 1 / num_images), num_resamples)
            copies_RN = np.concatenate([copies_RN, drawn.astype(np.uint16)])
        return resample(probs_NL, probs_NL >= self.thresholds_L, truth_NL, None, copies_RN)


WORLDS = {
    "frequent": World(400, np.linspace(0.1, 0.5, 8), 1.5),
    "rare": World(1000, np.geomspace(0.002, 0.2, 20), 2.0),
    "rare, strong model": World(600, np.geomspace(0.005, 0.2, 15), 4.0),
    "rare, weak model": World(600, np.geomspace(0.005, 0.2, 15), 0.7),
    "one to five positives each": World(500, np.geomspace(0.002, 0.01, 20), 2.5),
}
OUTSIDE_THE_BAR = "one to five positives each"


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Simulate every world and count."""
    started = time.perf_counter()
    covered: dict[str, dict[str, Any]] = {}
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        for number, (name, world) in enumerate(WORLDS.items()):
            seeds = [[9, number, part] for part in range(_PARTS_OF_THE_TRUTH)]
            truths = list(processes.map(find_truth, repeat(world), seeds))
            truth = {key: np.nanmean([part[key] for part in truths], axis=0) for key in NAMES}
            sets = [[1, number, data_set] for data_set in range(given.num_sets)]
            judged = list(
                processes.map(judge_set, repeat(world), repeat(truth), sets, repeat(given.num_resamples), chunksize=8)
            )
            covered[name] = {key: summarise([row[key] for row in judged]) for key in NAMES}
            print(name, covered[name], flush=True)
    inside = [row[key]["covered"] for name, row in covered.items() if name != OUTSIDE_THE_BAR for key in NAMES]
    return {
        "num_sets": given.num_sets,
        "num_resamples": given.num_resamples,
        "confidence": CONFIDENCE,
        "worlds": covered,
        "lowest": min(inside),
        "highest": max(inside),
        "outside_the_bar": OUTSIDE_THE_BAR,
        "seconds": round(time.perf_counter() - started, 1),
        "bars": {"lowest": 0.87, "highest": 0.93},
    }


def find_truth(world: World, seed: list[int]) -> dict[str, Any]:
    """Return the figures of very many images; label by label where the figure is a mean over labels."""
    judged = world.judge(_IMAGES_EACH, seed, 0)
    return {key: judged.by_label_RL[key][0] if key in judged.by_label_RL else judged.overall_R[key][0] for key in NAMES}


def judge_set(
    world: World, truth: dict[str, Any], seed: list[int], num_resamples: int
) -> dict[str, tuple[float, float, float]]:
    """Return for each figure the true value and the limits of its interval."""
    judged = world.judge(world.num_images, seed, num_resamples)
    found = {}
    for key in NAMES:
        value, values_R = float(judged.overall_R[key][0]), judged.overall_R[key][1:]
        if key in judged.by_label_RL:
            values_RL = judged.by_label_RL[key]
            spread = spread_of_mean(values_RL[0], values_RL[1:], judged.support_of[key])
            true = float(mean_over_labels(np.where(np.isnan(values_RL[:1]), np.nan, truth[key]))[0])
        else:
            spread, true = spread_of_value(value, values_R), float(truth[key])
        found[key] = (true, *find_interval(value, spread, CONFIDENCE))
    return found


def summarise(rows: list[tuple[float, float, float]]) -> dict[str, float]:
    """Return how often the truth lay inside, below and above, and the mean width."""
    true, low, high = np.array(rows).T
    return {
        "covered": round(float(np.mean((low <= true) & (true <= high))), 3),
        "truth_below": round(float(np.mean(true < low)), 3),
        "truth_above": round(float(np.mean(true > high)), 3),
        "width": round(float(np.mean(high - low)), 4),
    }


if __name__ == "__main__":
    report(
        "coverage",
        run,
        ("--num-sets", {"type": int, "default": 1000}),
        ("--num-resamples", {"type": int, "default": 200}),
    )
