"""Compare: two runs, two files of predictions, or one of each, on the same images."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field
from pathlib import Path

from manylabel.bundle.bundle import load_bundle
from manylabel.decisions.policy import DecisionPolicy
from manylabel.decisions.thresholds import HALF
from manylabel.errors import DataError, build_message, join_names, suggest_name
from manylabel.evaluation.compare import NUM_RESAMPLES, Comparison, Contender, compare_predictions
from manylabel.evaluation.report.metrics import load_metrics
from manylabel.labels.foreign_predictions import load_foreign_predictions
from manylabel.labels.predictions import Predictions, load_predictions
from manylabel.metrics.intervals import DEFAULT_CONFIDENCE
from manylabel.runs.folder import RunFolder

DEFAULT_PART = "test"
_SEEN_PARTS = ("train", "val")


@dataclass(frozen=True)
class _RunTable:
    """What a run's own table says of its images."""

    group_of: dict[str, str] = field(default_factory=dict)
    seen: frozenset[str] = frozenset()


def compare(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    *,
    part: str | None = None,
    by: str = "average_precision",
    common: bool = False,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = DEFAULT_CONFIDENCE,
    seed: int = 0,
) -> Comparison:
    """Compare two models on the same images, matched by name, with the labels matched by name too.

    Args:
        first, second: a run, a folder that `evaluate` wrote, or a file of predictions (Parquet or CSV with a column
            image and a column of probabilities per label). A file of probabilities alone is decided at 0.5.
        part: of runs, the part to compare on; None takes test, or else the only one there is.
        by: the metric that labels are compared by.
        common: whether to go on with the common part of different images or labels.
        num_resamples, confidence, seed: as in `evaluation.compare.compare_predictions`.

    Raises:
        DataError, ConfigError, RunError: see the message.
    """
    names = _name_both(Path(first), Path(second))
    tables = [_read_table(Path(path)) for path in (first, second)]
    sides = [
        _load_side(Path(path), name, part, table)
        for path, name, table in zip((first, second), names, tables, strict=True)
    ]
    return compare_predictions(
        *sides,
        by=by,
        common=common,
        group_of=tables[1].group_of | tables[0].group_of,
        num_resamples=num_resamples,
        confidence=confidence,
        seed=seed,
    )


def _name_both(first: Path, second: Path) -> tuple[str, str]:
    """Return the last words of both paths, or all of them where these are the same."""
    short = first.resolve().name, second.resolve().name
    return short if short[0] != short[1] else (str(first), str(second))


def _load_side(path: Path, name: str, part: str | None, table: _RunTable) -> Contender:
    if not path.is_dir():
        predictions = load_foreign_predictions(path)
        return Contender(name, predictions, _decide_at_half(predictions))
    folder = RunFolder(path)
    chosen = _choose_part(folder, part)
    predictions = load_predictions(folder.predictions(chosen))
    return Contender(name, predictions, _load_policy(folder, chosen, predictions), table.seen)


def _choose_part(folder: RunFolder, part: str | None) -> str:
    there = sorted(path.stem for path in folder.predictions("any").parent.glob("*.parquet"))
    chosen = part if part is not None else DEFAULT_PART if DEFAULT_PART in there or len(there) != 1 else there[0]
    if chosen not in there:
        raise DataError(
            build_message(
                folder.path,
                f"it has no predictions of a part {chosen!r}{suggest_name(chosen, there)}",
                expected=f"one of {join_names(there)}" if there else "predictions/test.parquet",
                do="Name the part with --part, or evaluate the model on a table first",
            )
        )
    return chosen


def _load_policy(folder: RunFolder, part: str, predictions: Predictions) -> DecisionPolicy:
    """Return the policy of the run's model; an evaluation has no model, but its figures say the thresholds."""
    if folder.bundle.is_dir():
        return load_bundle(folder.bundle).manifest.policy
    if not folder.metrics.is_file():
        return _decide_at_half(predictions)
    judged = load_metrics(folder.metrics).get(part, {})
    threshold_of = {row["label"]: row["threshold"] for row in judged.get("labels", [])}
    if set(threshold_of) != set(predictions.label_space):
        return _decide_at_half(predictions)
    thresholds = tuple(threshold_of[name] for name in predictions.label_space)
    chosen_on = str(judged.get("policy", {}).get("chosen_on", ""))
    return DecisionPolicy(predictions.label_space, thresholds, chosen_on=chosen_on)


def _decide_at_half(predictions: Predictions) -> DecisionPolicy:
    return DecisionPolicy(predictions.label_space, (HALF,) * len(predictions.label_space))


def _read_table(path: Path) -> _RunTable:
    """Return the groups of a run's images, and which of them it was trained or tuned on; nothing for a file."""
    table = RunFolder(path).data
    if not table.is_file():
        return _RunTable()
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return _RunTable(
        {row["image"]: row["group"] for row in rows if row.get("group")},
        frozenset(row["image"] for row in rows if row.get("part") in _SEEN_PARTS),
    )
