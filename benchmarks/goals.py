"""What does each goal bring on real images, judged honestly?

Posters with frozen features in five folds: every image is answered by a model that never saw it. On these answers each
goal is cross-fitted, so that no threshold is judged on an image that it was chosen on. Calibration and rules that are
mined from the data are tried in the same way, and how much `shrink` helps with 100 and 360 images to choose on.
`--docs` writes the table into the documentation.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from process import report

import manylabel as ml
from manylabel.decisions import choose_thresholds
from manylabel.decisions.gain import Figure, compare_decisions
from manylabel.decisions.mining import mine_rules
from manylabel.decisions.search import Choice, tune_policy

HERE = Path(__file__).resolve().parent
SHARED = HERE.parent.parent / "shared"
PAGE = HERE.parent / "docs" / "how_to" / "choose_a_goal.md"
MARK = "<!-- table: benchmarks/goals.py -->"
GOALS = (
    "f1", "f_beta,beta=2", "precision,at_least=0.5", "recall,at_least=0.8", "cost,missed=5", "cardinality", "top_k,k=3",
    "at_least_one", "miss_rate,at_most=0.1", "miss_rate,at_most=0.1,per=label",
)  # fmt: skip
SHRINKS = (0, 10, 50)
NUM_REPEATS = 25


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Answer for every poster once, then choose for every goal."""
    predictions = answer_posters(given.predictions)
    assert predictions.targets is not None
    found: dict[str, Any] = {"num_images": len(predictions), "num_labels": len(predictions.label_space)}
    found["goals"] = {goal: _measure(predictions, goal) for goal in GOALS}
    calibrated = tune_policy(predictions, Choice("f1", "auto"))
    found["calibration"] = calibrated.policy.calibration.method
    found["log_loss"] = {name: _round(figure) for name, figure in calibrated.losses.items()}
    found["rules"] = _measure_rules(predictions)
    found["shrink"] = {
        f"{goal} from {num_images} images": _measure_shrink(predictions, goal, num_images)
        for goal in ("f1", "cost,missed=5", "precision,at_least=0.5")
        for num_images in (100, 360)
    }
    if given.docs:
        _write_table(found)
    return found


def answer_posters(path: str) -> ml.Predictions:
    """Return the answers for the posters by five models, or those that a file has kept."""
    if path:
        return ml.load_predictions(path)
    table = ml.load_annotations(SHARED / "data/posters/labels.csv", images=SHARED / "data/posters")
    config = ml.TrainConfig(
        backbone="mobilenetv1_100",
        backbone_args={"pad_type": "same", "bn_eps": 1e-3},
        weights=str(SHARED / "weights/mobilenetv1_100.in1k.to_block12.safetensors"),
        allow_partial_weights=True,
        image_size=160,
        freeze="backbone",
        epochs=20,
    )
    return ml.cross_validate(table, config, num_folds=5).predictions


def _measure(predictions: ml.Predictions, goal: str) -> dict[str, Any]:
    tuning = tune_policy(predictions, Choice(goal))
    gain = tuning.policy.gain
    shown = {key: round(value, 4) if isinstance(value, float) else value for key, value in gain.items()}
    others = {name: _round(tuning.figures[name]) for name in ("f1_macro", "labels_per_image")}
    return {**shown, "figures": others}


def _measure_rules(predictions: ml.Predictions) -> dict[str, Any]:
    """Return the rules that the data keep, and what applying them changes in what F1 thresholds give."""
    assert predictions.targets is not None
    truth_NL, known_NL = predictions.targets.present_NL(), predictions.targets.known_NL()
    mined = mine_rules(truth_NL, known_NL, predictions.label_space)
    rules = tuple(one.rule for one in mined)
    figures = tune_policy(predictions, Choice("f1", rules=rules)).rule_figures if rules else {}
    names = ("f1_macro", "f1_micro", "precision_micro", "recall_micro", "subset_accuracy")
    return {
        "mined": [f"{one.rule} (support {one.support})" for one in mined],
        "figures": {name: _round(figures[name]) for name in names if name in figures},
    }


def _measure_shrink(predictions: ml.Predictions, goal: str, num_images: int) -> dict[str, float]:
    """Return the figure of a goal on all other images, on average over draws of the images to choose on."""
    assert predictions.targets is not None
    tables = predictions.probs_NL, predictions.targets.present_NL(), predictions.targets.known_NL()
    name = {"f1": "f1_macro", "cost": "cost_per_image", "precision": "precision_macro"}[goal.partition(",")[0]]
    found = {}
    for shrink in SHRINKS:
        rng = np.random.default_rng(1)
        values = []
        for _ in range(NUM_REPEATS):
            rows = rng.permutation(len(predictions))
            mine = [table_NL[rows[:num_images]] for table_NL in tables]
            probs_NL, truth_NL, known_NL = (table_NL[rows[num_images:]] for table_NL in tables)
            thresholds_L = choose_thresholds(f"{goal},shrink={shrink}", *mine).thresholds_L
            given_NL = probs_NL >= thresholds_L
            figures = compare_decisions(given_NL, given_NL, truth_NL, known_NL, {"missed": 5})
            values.append(figures[name].after)
        found[str(shrink)] = round(float(np.mean(values)), 4)
    return found


def _round(figure: Figure) -> dict[str, float]:
    return {key: round(getattr(figure, key), 4) for key in ("before", "after", "gain", "low", "high")}


def _write_table(found: Mapping[str, Any]) -> None:
    """Replace what stands below the mark of the page."""
    lines = [
        "| goal | measured by | at 0.5 | tuned | gain, 95 % | macro F1 | labels per image |",
        "|---|---|---|---|---|---|---|",
    ]
    for goal, one in found["goals"].items():
        others = one["figures"]
        cells = [
            f"`{goal}`",
            f"`{one['metric']}`",
            f"{one['at_half']:.3f}",
            f"{one['tuned']:.3f}",
            f"{one['low']:+.3f} to {one['high']:+.3f}",
            f"{others['f1_macro']['after']:.3f}",
            f"{others['labels_per_image']['after']:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    promised = [
        f"`{goal}` asked for a `{one['asked']['metric']}` of {one['asked']['at_least']:.2g} and reached "
        f"{one['reached']:.3f}"
        for goal, one in found["goals"].items()
        if "asked" in one
    ]
    half = found["goals"]["f1"]["figures"]
    text = (
        f"At 0.5 the macro F1 is {half['f1_macro']['before']:.3f}, with {half['labels_per_image']['before']:.1f} "
        f"labels per image. {'; '.join(promised)}."
    )
    head = PAGE.read_text("utf-8").split(MARK)[0]
    PAGE.write_text(f"{head}{MARK}\n\n" + "\n".join(lines) + f"\n\n{text}\n", "utf-8")


if __name__ == "__main__":
    report(
        "goals",
        run,
        ("--docs", {"action": "store_true", "help": "write the table into the documentation"}),
        ("--predictions", {"default": "", "help": "kept answers of cross-validate, in place of training"}),
    )
