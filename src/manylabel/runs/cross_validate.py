"""Cross-validate: every image judged by a model that never saw it, and how much the figures vary between the folds."""

from __future__ import annotations

import math
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from manylabel.data.annotations import Annotations
from manylabel.data.splits import choose_fold, split_folds
from manylabel.decisions.thresholds import HALF
from manylabel.errors import ConfigError, DataError, RunError, build_message
from manylabel.labels.predictions import Predictions
from manylabel.losses import Loss
from manylabel.metrics.summary import summarise
from manylabel.runs.signals import exit_on_sigterm
from manylabel.runs.tables import check_some_present
from manylabel.runs.train import check_names
from manylabel.training.answers import collect_answers
from manylabel.training.checkpoints import Progress
from manylabel.training.config import TrainConfig
from manylabel.training.events import OnEvent, tell_nobody
from manylabel.training.history import save_history
from manylabel.training.loop import LoopParts, run_loop
from manylabel.training.processes import check_alone
from manylabel.training.setup import build_network, build_setup
from manylabel.training.workers import name_dead_workers


@dataclass(frozen=True)
class CrossValidation:
    """What the folds came to.

    `predictions` holds every usable image once, answered by the model of the fold that it was left out of. `folds` are
    the metrics of each fold at a threshold of one half.
    """

    predictions: Predictions
    folds: tuple[Mapping[str, float], ...]

    def summarise(self) -> dict[str, dict[str, float]]:
        """Return mean, deviation, low and high of each metric over the folds that define it; NaN where none does."""
        summary = {}
        for name in self.folds[0]:
            values = [fold[name] for fold in self.folds if not math.isnan(fold[name])]
            summary[name] = {
                "mean": statistics.mean(values) if values else math.nan,
                "deviation": statistics.stdev(values) if len(values) > 1 else math.nan,
                "low": min(values, default=math.nan),
                "high": max(values, default=math.nan),
            }
        return summary


def cross_validate(
    annotations: Annotations,
    config: TrainConfig | None = None,
    *,
    num_folds: int = 5,
    out: str | os.PathLike[str] | None = None,
    loss: Loss | None = None,
    on_event: OnEvent | None = None,
) -> CrossValidation:
    """Train once for each fold on all other images, and let that model answer for the fold.

    The weights of the last epoch answer: choosing an epoch by the images that it is judged on would flatter. With a
    frozen backbone its features are computed once for all folds.

    Args:
        annotations: all images; groups stay on one side.
        config: the settings; `patience` and `resume` have no part in it.
        out: a folder for `predictions/folds.parquet` and `folds.jsonl`, which has to be empty; None writes nothing.
        loss: a function in place of `config.loss`.

    Raises:
        DataError, ConfigError, RunError: see the message.
    """
    settings = replace(config if config is not None else TrainConfig(), patience=0, resume=False)
    tell = on_event if on_event is not None else tell_nobody
    check_alone("cross-validate")
    check_names(settings)
    check_some_present(annotations)
    if len(annotations) < num_folds:
        problem = f"{len(annotations)} images do not make {num_folds} folds"
        raise ConfigError(build_message("--folds", problem, do="Lower --folds"))
    folder = None if out is None else _open_folder(Path(out))
    folds = split_folds(annotations, num_folds, seed=settings.seed)
    answers, figures = [], []
    for fold in range(num_folds):
        tell("note", {"message": f"Fold {fold + 1} of {num_folds}"})
        predictions, settings = _run_fold(choose_fold(folds, fold), settings, loss, tell)
        answers.append(predictions)
        figures.append(_judge(predictions))
    found = CrossValidation(_merge(answers, annotations.images), tuple(figures))
    if folder is not None:
        found.predictions.save(folder / "predictions" / "folds.parquet")
        save_history(folder / "folds.jsonl", [{"fold": fold, **row} for fold, row in enumerate(figures)])
    return found


def _open_folder(folder: Path) -> Path:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(build_message(folder, "the folder is not empty", do="Choose another --out, or remove it"))
    return folder


def _run_fold(
    tables: Mapping[str, Annotations], config: TrainConfig, loss: Loss | None, tell: OnEvent
) -> tuple[Predictions, TrainConfig]:
    """Return the answers for the fold, and the settings with what was measured, which is measured once for all."""
    train, held_out = tables["train"], tables["test"]
    with tempfile.TemporaryDirectory() as folder, exit_on_sigterm(), name_dead_workers():
        checkpoints = Path(folder) / "checkpoints"
        checkpoints.mkdir()
        network = build_network(config, train)
        setup = build_setup(config, network, train, held_out, checkpoints, tell, loss=loss)
        run_loop(setup.parts, Progress(), tell, lambda: False)
    resolved = replace(config, budget="", epochs=setup.parts.config.epochs, precision=setup.precision.precision)
    return _predict(setup.parts, held_out), resolved


def _predict(parts: LoopParts, table: Annotations) -> Predictions:
    rows, probs_NL = collect_answers(parts, parts.val_loader)
    if not rows:
        raise DataError(build_message(table.name, "no image of a fold can be used", do="Check them with inspect"))
    usable = table.select(rows)
    return Predictions(usable.images, usable.label_space, probs_NL, usable.targets, data_digest=usable.digest)


def _judge(predictions: Predictions) -> dict[str, float]:
    assert predictions.targets is not None
    truth_NL, known_NL = predictions.targets.present_NL(), predictions.targets.known_NL()
    return summarise(predictions.probs_NL, predictions.probs_NL >= HALF, truth_NL, known_NL)


def _merge(answers: list[Predictions], images: Sequence[str]) -> Predictions:
    """Return the answers of all folds as one, in the order of the table."""
    targets = answers[0].targets
    assert targets is not None
    for answer in answers[1:]:
        assert answer.targets is not None
        targets = targets.concatenate(answer.targets)
    row_of = {image: row for row, image in enumerate(image for answer in answers for image in answer.images)}
    usable = [image for image in images if image in row_of]
    rows = [row_of[image] for image in usable]
    probs_NL = np.concatenate([answer.probs_NL for answer in answers])[rows]
    return Predictions(tuple(usable), answers[0].label_space, probs_NL, targets.select(rows))
