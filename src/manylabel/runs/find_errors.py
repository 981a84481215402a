"""Find errors: the cells of a table that a model which never saw the image disagrees with most."""

from __future__ import annotations

import os

from manylabel.data.annotations import Annotations
from manylabel.errors import DataError, build_message
from manylabel.evaluation.mistakes import Mistake, find_mistakes
from manylabel.labels.predictions import Predictions, load_predictions
from manylabel.runs.cross_validate import cross_validate
from manylabel.training.config import TrainConfig
from manylabel.training.events import OnEvent, tell_nobody

DEFAULT_CONFIG = TrainConfig(freeze="backbone")


def find_errors(
    annotations: Annotations,
    config: TrainConfig | None = None,
    *,
    answers: str | os.PathLike[str] | Predictions | None = None,
    num_folds: int = 5,
    max_mistakes: int | None = None,
    on_event: OnEvent | None = None,
) -> list[Mistake]:
    """Return the cells of a table that look wrong, the most suspicious first.

    Args:
        annotations: the table; its own cells are questioned, whatever the answers have beside them.
        config: how the models of the folds are trained; None trains heads on a frozen backbone.
        answers: what `cross_validate` found, or its `predictions/folds.parquet`; None trains the folds. The answers of
            a model that was trained on these images repeat their mistakes and find few.
        num_folds: how many models, each of which answers for one part.
        max_mistakes: how many cells at most; None returns all suspicious ones.

    Raises:
        DataError, ConfigError: see the message.
    """
    tell = on_event if on_event is not None else tell_nobody
    if answers is None:
        settings = config if config is not None else DEFAULT_CONFIG
        predictions = cross_validate(annotations, settings, num_folds=num_folds, on_event=tell).predictions
    else:
        predictions = answers if isinstance(answers, Predictions) else load_predictions(answers)
        predictions = _question(annotations, predictions, tell)
    return find_mistakes(predictions, max_mistakes)


def _question(annotations: Annotations, answers: Predictions, tell: OnEvent) -> Predictions:
    """Return the answers about the images of the table, with the table's own cells as the truth."""
    answered = set(answers.images)
    rows = [row for row, image in enumerate(annotations.images) if image in answered]
    if not rows:
        raise DataError(
            build_message("answers", f"they are about no image of {annotations.name}", do="Give those of this table")
        )
    if len(rows) < len(annotations):
        num_missing = len(annotations) - len(rows)
        tell("note", {"message": f"Warning: {num_missing:,} of {len(annotations):,} images have no answer."})
    table = annotations.select(rows).align(answers.label_space)
    probs_NL = answers.select(table.images).probs_NL
    return Predictions(table.images, table.label_space, probs_NL, table.targets)
