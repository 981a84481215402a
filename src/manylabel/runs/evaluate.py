"""Evaluate: let a model answer for a table, and judge the answers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from manylabel.bundle.bundle import Bundle
from manylabel.data.annotations import Annotations
from manylabel.data.checks import find_findings
from manylabel.decisions.policy import DecisionPolicy
from manylabel.errors import DataError, build_message, join_names, suggest_name
from manylabel.evaluation.evaluate import Report, evaluate_predictions
from manylabel.evaluation.pictures import draw_confusion_grid, draw_curves
from manylabel.evaluation.report.html import save_html
from manylabel.evaluation.report.metrics import save_metrics
from manylabel.evaluation.slices import slice_predictions
from manylabel.inference.predictor import Predictor, collect_predictions, load
from manylabel.labels.groups import NO_GROUPS
from manylabel.labels.predictions import Predictions
from manylabel.runs.facts import collect_versions
from manylabel.runs.folder import RunFolder, open_empty_folder
from manylabel.runs.mistake_maps import explain_mistakes
from manylabel.training.events import OnEvent, tell_nobody


def evaluate(
    model: Bundle | Predictor | str | os.PathLike[str],
    annotations: Annotations,
    *,
    name: str = "test",
    out: str | os.PathLike[str] | None = None,
    unknown_labels: str = "stop",
    slice_by: str | None = None,
    on_event: OnEvent | None = None,
) -> Report:
    """Predict the images of a table with a model and judge the label sets against its truth.

    Args:
        model: a bundle, a loaded model, or the path of a bundle or a run.
        annotations: images with their truth; labels are matched by name, and one that the table lacks is unknown
            there (or absent, if the table lists all labels of an image).
        name: what the report calls the part.
        out: a folder for predictions, metrics, report and pictures, which is new or empty; None writes nothing.
        unknown_labels: what to do with labels that the model does not have: `stop` or `drop`.
        slice_by: a column of the table (`group`, `part` or any extra one); its values are judged one by one, too.

    Raises:
        DataError: a label that the model does not have, no image that can be used, no such column.
        RunError: `out` holds a run, another evaluation or anything else, or another run works there.
    """
    predictor = (
        model if isinstance(model, Predictor) else Predictor(model) if isinstance(model, Bundle) else load(model)
    )
    values = {} if slice_by is None else _read_column(annotations, slice_by)
    tell = on_event if on_event is not None else tell_nobody
    place: AbstractContextManager[RunFolder | None] = nullcontext() if out is None else open_empty_folder(Path(out))
    with place as folder:
        aligned = annotations.align(predictor.label_space, unknown_labels)
        tell("stage", {"name": f"Predicting {name}", "total": len(aligned)})
        predictions, skipped = collect_predictions(predictor, aligned, lambda: tell("progress", {}))
        if not len(predictions):
            raise DataError(
                build_message(
                    annotations.name, "none of its images can be used", do="Check them with 'manylabel inspect'"
                )
            )
        group_of = find_groups(annotations)
        report = judge(predictions, predictor.policy, predictor.bundle.manifest.provenance, name, skipped, group_of)
        if slice_by is not None:
            slices = slice_predictions(predictions, predictor.policy, slice_by, values, group_of=group_of)
            report = replace(report, slices=slices)
        if folder is not None:
            predictions.save(folder.predictions(name))
            save_reports(
                folder,
                {name: report},
                title=f"Evaluation of {name}",
                annotations=aligned,
                predictor=predictor,
                on_event=tell,
            )
        return report


def judge(
    predictions: Predictions,
    policy: DecisionPolicy,
    provenance: Mapping[str, Any],
    name: str,
    skipped: Mapping[str, str],
    group_of: Mapping[str, str] = NO_GROUPS,
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
        group_of=group_of,
    )


def find_groups(annotations: Annotations) -> dict[str, str]:
    """Return the group of each image that has one."""
    return {record.id: record.group for record in annotations.records if record.group}


def _read_column(annotations: Annotations, column: str) -> dict[str, str]:
    """Return the value of a column for each image.

    Raises:
        DataError: the table has no such column.
    """
    own = {"group": lambda record: record.group, "part": lambda record: record.part}
    extras = dict.fromkeys(name for record in annotations.records for name in record.extras)
    if column in extras:
        return {record.id: record.extras.get(column, "") for record in annotations.records}
    if column not in own:
        known = [*extras, *own]
        problem = f"the table has no column {column!r}{suggest_name(column, known)}"
        raise DataError(build_message("--slice", problem, expected=f"one of {join_names(known)}"))
    return {record.id: value if (value := own[column](record)) else "" for record in annotations.records}


def save_reports(
    folder: RunFolder,
    reports: Mapping[str, Report],
    *,
    title: str,
    annotations: Annotations,
    history: Sequence[Mapping[str, Any]] | None = None,
    config: Mapping[str, Any] | None = None,
    predictor: Predictor | None = None,
    on_event: OnEvent = tell_nobody,
) -> None:
    """Write `metrics.json`, the pictures and the page of reports, by part; the test part is the one that is drawn.

    `annotations` are the images of the parts: the doctor's look at their table and their thumbnails go on the page, and
    with `predictor` what in the worst of the first part spoke for the label that is wrong.
    """
    save_metrics(list(reports.values()), folder.metrics)
    # Files count epochs from 0, people from 1; and the part that nothing was chosen on comes first.
    shown = None if history is None else [{**row, "epoch": row["epoch"] + 1} for row in history]
    ordered = sorted(reports.values(), key=lambda report: report.judged_on_tuning_data)
    folder.pictures.mkdir(parents=True, exist_ok=True)
    if shown:
        draw_curves(shown, folder.pictures / "curves.png")
    if reports:
        judged = reports["test"] if "test" in reports else next(iter(reports.values()))
        draw_confusion_grid(judged, folder.pictures / "confusion.png")
    mistake_maps = {}
    if predictor is not None and ordered:
        mistake_maps[ordered[0].name] = explain_mistakes(predictor, ordered[0], annotations, on_event)
    save_html(
        ordered,
        folder.report,
        title=title,
        history=shown,
        config=config,
        versions=collect_versions(),
        findings=find_findings(annotations, parts=("all",)),
        sources={record.id: record.source for record in annotations.records},
        mistake_maps=mistake_maps,
    )
