"""What the script reads: packed arrays that unpack to the same numbers."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.decisions.policy import DecisionPolicy
from manylabel.evaluation.evaluate import Report, evaluate_predictions
from manylabel.evaluation.report.arrays import pack_counts, pack_numbers
from manylabel.evaluation.report.script_data import build_script_data, list_wanted_images
from manylabel.labels.predictions import Predictions


def unpack(packed: dict[str, str]) -> npt.NDArray[Any]:
    return np.frombuffer(base64.b64decode(packed["bytes"]), np.dtype(packed["kind"]).newbyteorder("<"))


def test_counts_take_the_narrowest_type_that_holds_them() -> None:
    for largest, kind in ((0, "u1"), (255, "u1"), (256, "u2"), (65_536, "u4")):
        packed = pack_counts(np.array([0, largest]))
        assert packed["kind"] == kind
        assert unpack(packed).tolist() == [0, largest]  # type: ignore[arg-type]
    assert np.isnan(unpack(pack_numbers(np.array([np.nan])))).all()  # type: ignore[arg-type]


def test_every_label_finds_its_curve_and_its_bins(make_report: Callable[..., Report]) -> None:
    report = make_report(num_labels=3, share_unknown=0.1)
    (part,) = build_script_data([report], None, {})["parts"]
    json.dumps(part, allow_nan=False)
    curves = report.details.curves
    starts = unpack(part["starts"])
    assert len(starts) == 4
    own = slice(int(starts[1]), int(starts[2]))
    assert unpack(part["thresholds"])[own].tolist() == curves.thresholds_P[curves.points_of(1)].tolist()
    assert unpack(part["found"])[own].tolist() == curves.true_positives_P[curves.points_of(1)].tolist()
    chosen = unpack(part["thresholds"])[own] == unpack(part["chosen"])[1]
    row = report.labels[1]
    assert unpack(part["found"])[own][chosen].tolist() == [row["true_positives"]]
    assert unpack(part["wrong"])[own][chosen].tolist() == [row["false_positives"]]
    num_bins = part["num_bins"]
    assert unpack(part["reliability"]["num"])[num_bins : 2 * num_bins].sum() == row["num_known"]


def test_images_point_to_their_thumbnails(make_report: Callable[..., Report]) -> None:
    report = make_report()
    wanted = list(list_wanted_images([report]))
    data = build_script_data([report], None, {wanted[0]: "data:image/jpeg;base64,AA"})
    number_of = {image[0]: image[3] for image in data["parts"][0]["worst"]["images"]}
    assert number_of.pop(wanted[0]) == 0
    assert set(number_of.values()) == {-1}
    assert data["thumbnails"] == ["data:image/jpeg;base64,AA"]


def test_the_worst_of_the_first_report_are_wanted_first(make_report: Callable[..., Report]) -> None:
    first, second = make_report(name="a", num_images=20), make_report(name="b", num_images=400, seed=1)
    wanted = list(dict.fromkeys(list_wanted_images([first, second])))
    own = {shown.image for shown in first.details.worst.images} | {suspect.image for suspect in first.suspects}
    assert set(wanted[: len(own)]) == own


def test_cells_in_doubt_come_with_picture_and_words(make_predictions: Callable[..., Predictions]) -> None:
    probs, truth = [0.9, 0.8, 0.9, 0.1, 0.1, 0.1, 0.95, 0.05], [1, 1, 1, 0, 0, 0, 0, 1]
    predictions = make_predictions([[prob] for prob in probs], [[each] for each in truth], ["dog"])
    report = evaluate_predictions(predictions, DecisionPolicy(predictions.label_space, (0.5,)), num_resamples=1)
    (part,) = build_script_data([report], None, {"6.jpg": "data:image/jpeg;base64,AA"})["parts"]
    assert part["suspects"] == [
        ["6.jpg", 0, "dog may be missing, at 0.950"],
        ["7.jpg", -1, "dog may not be there, at 0.050"],
    ]


def test_epochs_become_columns_with_gaps(make_report: Callable[..., Report]) -> None:
    rows = [
        {"epoch": 1, "train_loss": 0.5, "val_loss": None, "monitor": "f1_macro", "val_f1_macro": float("nan")},
        {"epoch": 2, "train_loss": 0.4, "val_loss": 0.6, "monitor": "f1_macro", "val_f1_macro": 0.7},
    ]
    assert build_script_data([make_report()], rows, {})["history"] == {
        "epochs": [1, 2],
        "train_loss": [0.5, 0.4],
        "val_loss": [None, 0.6],
        "monitor": "F1 per label",
        "val_monitor": [None, 0.7],
        "best": 1,
    }
