"""Evaluate: let a model answer for a table, and judge the answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from manylabel.bundle.bundle import Bundle
from manylabel.data.annotations import Annotations
from manylabel.decisions.policy import DecisionPolicy
from manylabel.errors import DataError, build_message
from manylabel.evaluation.evaluate import Report, evaluate_predictions
from manylabel.evaluation.pictures import draw_confusion_grid
from manylabel.evaluation.report.html import save_html
from manylabel.evaluation.report.metrics import save_metrics
from manylabel.inference.predictor import Predictor, collect_predictions, load
from manylabel.labels.predictions import Predictions
from manylabel.runs.folder import RunFolder

OnEvent = Callable[[str, Mapping[str, Any]], None]


def evaluate(
    model: Bundle | Predictor | str | os.PathLike[str],
    annotations: Annotations,
    *,
    name: str = "test",
    out: str | os.PathLike[str] | None = None,
    unknown_labels: str = "stop",
    on_event: OnEvent | None = None,
) -> Report:
    """Predict the images of a table with a model and judge the label sets against its truth.

    Args:
        model: a bundle, a loaded model, or the path of a bundle or a run.
        annotations: images with their truth; labels are matched by name, and one that the table lacks is unknown
            there (or absent, if the table lists all labels of an image).
        name: what the report calls the part.
        out: a folder for predictions, metrics, report and pictures; None writes nothing.
        unknown_labels: what to do with labels that the model does not have: `stop` or `drop`.

    Raises:
        DataError: a label that the model does not have, or no image that can be used.
    """
    predictor = (
        model if isinstance(model, Predictor) else Predictor(model) if isinstance(model, Bundle) else load(model)
    )
    tell: OnEvent = on_event if on_event is not None else lambda event, facts: None
    aligned = annotations.align(predictor.label_space, unknown_labels)
    tell("stage", {"name": f"Predicting {name}", "total": len(aligned)})
    predictions, skipped = collect_predictions(predictor, aligned, lambda: tell("progress", {}))
    if not len(predictions):
        raise DataError(
            build_message(annotations.name, "none of its images can be used", do="Check them with 'manylabel inspect'")
        )
    report = judge(predictions, predictor.policy, predictor.bundle.manifest.provenance, name, skipped)
    if out is not None:
        _save(RunFolder(Path(out)), report, predictions)
    return report


def judge(
    predictions: Predictions,
    policy: DecisionPolicy,
    provenance: Mapping[str, Any],
    name: str,
    skipped: Mapping[str, str],
) -> Report:
    """Return the report of predictions, with the prior baseline from the training images' own frequencies."""
    prevalence = provenance.get("prevalence", {})
    prevalence_L = np.array([prevalence.get(label, np.nan) for label in policy.label_space], np.float64)
    return evaluate_predictions(
        predictions,
        policy,
        name=name,
        train_prevalence_L=None if np.isnan(prevalence_L).any() else prevalence_L,
        skipped=dict(skipped),
    )


def _save(folder: RunFolder, report: Report, predictions: Predictions) -> None:
    predictions.save(folder.predictions(report.name))
    save_metrics([report], folder.metrics)
    picture = folder.pictures / "confusion.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw_confusion_grid(report, picture)
    save_html(
        [report], folder.report, title=f"Evaluation of {report.name}", pictures={"confusion": picture.read_bytes()}
    )
