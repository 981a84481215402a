"""Draws docs/pictures/goals.png: what a threshold does to a label, and where each goal puts it. No result is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from manylabel.decisions import calibrate, choose_thresholds

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "goals.png"
GOALS = {
    "cost, missed = 10": "cost,missed=10",
    "recall at least 0.9": "recall,at_least=0.9",
    "F-beta, beta = 2": "f_beta,beta=2",
    "F1": "f1",
    "cardinality": "cardinality",
    "precision at least 0.8": "precision,at_least=0.8",
}
COLOURS = {"precision": "#1b6ca8", "recall": "#c8553d", "F1": "#2f8f5b"}


def draw_answers(num_images: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Return answers about a label on a fifth of the images; they are surer of themselves than they should be."""
    rng = np.random.default_rng(0)
    truth_N = rng.random(num_images) < 0.2
    logits_N = np.log(0.2 / 0.8) + 1.8 * rng.normal(size=num_images) + 1.8**2 * (truth_N - 0.5)
    return (1 / (1 + np.exp(-1.7 * logits_N))).astype(np.float32), truth_N


def main() -> None:
    """Draw both panels."""
    probs_N, truth_N = draw_answers()
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.7, 1))
    _draw_thresholds(left, probs_N, truth_N)
    _draw_calibration(right, probs_N, truth_N)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(0, 1.02)
    figure.savefig(PICTURE, dpi=110, metadata={"Software": None})


def _draw_thresholds(axes: Any, probs_N: np.ndarray, truth_N: np.ndarray) -> None:
    thresholds = np.linspace(0.005, 0.995, 199)
    given = np.array([(probs_N >= threshold).sum() for threshold in thresholds])
    right = np.array([(truth_N & (probs_N >= threshold)).sum() for threshold in thresholds])
    curves = {"precision": right / given, "recall": right / truth_N.sum(), "F1": 2 * right / (given + truth_N.sum())}
    for name, values in curves.items():
        axes.plot(thresholds, values, color=COLOURS[name], linewidth=2)
    for name, x, y in (("recall", 0.12, 0.82), ("precision", 0.06, 0.36), ("F1", 0.52, 0.66)):
        axes.text(x, y, name, color=COLOURS[name], fontsize=10, fontweight="bold")
    known_N1 = np.ones((len(truth_N), 1), bool)
    for place, (name, goal) in enumerate(GOALS.items()):
        chosen = choose_thresholds(goal, probs_N[:, None], truth_N[:, None], known_N1).thresholds_L[0]
        axes.axvline(chosen, color="#888888", linewidth=0.9, linestyle=":")
        axes.annotate(name, (chosen, 0.26 - 0.045 * place), xytext=(3, 0), textcoords="offset points", fontsize=8.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("threshold")
    axes.set_title("Where each goal puts the threshold", fontsize=11, loc="left")


def _draw_calibration(axes: Any, probs_N: np.ndarray, truth_N: np.ndarray) -> None:
    known_N1 = np.ones((len(truth_N), 1), bool)
    fitted = calibrate.fit_platt(probs_N[:, None], truth_N[:, None], known_N1)
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
    shown = (
        ("as the network says", probs_N, "#c8553d"),
        ("calibrated", fitted.apply(probs_N[:, None])[:, 0], "#1b6ca8"),
    )
    for name, values_N, colour in shown:
        group_N = np.minimum((values_N * 10).astype(int), 9)
        said = [values_N[group_N == group].mean() for group in range(10)]
        true = [truth_N[group_N == group].mean() for group in range(10)]
        axes.plot(said, true, marker="o", color=colour, label=name)
    axes.set_xlim(0, 1)
    axes.set_xlabel("probability that is said")
    axes.set_ylabel("share of images that have the label")
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    axes.set_title("Calibration", fontsize=11, loc="left")


if __name__ == "__main__":
    main()
