"""How many images get another label set where engine or numbers differ, over the demo's images and photographs.

The model is that of `manylabel demo`, unless `--model` names a run; the other label sets are those that it gives with
onnxruntime and numbers of 32 bits. What has to be equal to the last label stands in tests/scenarios/test_parity.py.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from process import MANYLABEL, report

from manylabel.data.annotations import Annotations
from manylabel.data.formats.detect import load_annotations
from manylabel.inference.engines import ENGINES, REFERENCE
from manylabel.inference.prediction import Prediction
from manylabel.inference.predictor import Predictor, load
from manylabel.runs.evaluate import evaluate
from manylabel.runs.export import export

COCO = Path(__file__).resolve().parents[2] / "shared" / "data" / "coco128"

Answers = Mapping[str, Prediction]


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Answer for every image by every way, count, and judge those whose truth is known."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.model is None:
            subprocess.run(
                [*MANYLABEL, "demo", "--out", str(folder / "demo"), "--quiet"], stdout=subprocess.DEVNULL, check=True
            )
            model, table = folder / "demo" / "run", load_annotations(folder / "demo" / "data" / "labels.csv")
        else:
            model, table = Path(given.model), load_annotations(given.data, images=given.images)
        judged = select_test(table)
        photographs = sorted(map(str, Path(given.photographs).rglob("*.jpg")))
        if not photographs:
            raise SystemExit(f"{given.photographs} has no photographs: give a folder of some with --photographs")
        ways = {engine: load(model, engine=engine) for engine in ENGINES}
        for numbers in ("fp16", "int8"):
            # However much it changes: that is the question.
            ways[numbers] = load(export(model, folder / numbers, quantize=numbers, check=table, max_changed=1).path)
        images = [*(str(record.source) for record in judged.records), *photographs]
        answers = {way: answer(predictor, images) for way, predictor in ways.items()}
        f1 = {
            way: evaluate(each, judged, unknown_labels="drop").metrics["f1_macro"].value for way, each in ways.items()
        }
    figures = {
        f"{way}_{key}": value
        for way in ways
        if way != REFERENCE
        for key, value in {**compare(answers[REFERENCE], answers[way]), "f1_macro": round(f1[way], 4)}.items()
    }
    return {
        "num_images": len(images),
        "num_photographs": len(photographs),
        "num_labels": len(ways[REFERENCE].label_space),
        "f1_macro": round(f1[REFERENCE], 4),
        **figures,
        "bars": {"openvino_changed_label_sets": 0},
    }


def select_test(table: Annotations) -> Annotations:
    """Return the test part, or all where there are no parts."""
    rows = [row for row, record in enumerate(table.records) if record.part == "test"]
    return table.select(rows) if rows else table


def answer(predictor: Predictor, images: list[str]) -> Answers:
    """Return what a model says of each image that it can use."""
    return {each.image: each for each in predictor.predict_many(images) if each.labels is not None}


def compare(expected: Answers, given: Answers) -> dict[str, float]:
    """Return what is not as expected: label sets, the share of decisions, and the most that a probability is off."""
    assert expected.keys() == given.keys()
    sets = [(set(one.labels or ()), set(given[image].labels or ())) for image, one in expected.items()]
    differences = [
        abs(given[image].probabilities[label] - prob)
        for image, one in expected.items()
        for label, prob in one.probabilities.items()
    ]
    return {
        "changed_label_sets": sum(one != other for one, other in sets),
        "changed_decisions_share": round(sum(len(one ^ other) for one, other in sets) / len(differences), 5),
        "largest_difference": float(f"{max(differences):.1e}"),
    }


if __name__ == "__main__":
    report(
        "parity",
        run,
        ("--model", {"help": "a run or a bundle; by default the demo's", "metavar": "MODEL"}),
        ("--data", {"help": "the table of its images", "metavar": "DATA"}),
        ("--photographs", {"help": "a folder of photographs", "metavar": "DIR", "default": str(COCO)}),
        ("--images", {"help": "the folder of its images", "metavar": "DIR"}),
    )
