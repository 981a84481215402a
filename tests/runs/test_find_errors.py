"""The queue of a table, from answers at hand or from folds of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.runs.conftest import LABELS, SETTINGS, build_table

from manylabel.errors import DataError
from manylabel.labels.predictions import Predictions
from manylabel.labels.space import LabelSpace
from manylabel.runs.find_errors import find_errors
from manylabel.training.config import TrainConfig

TABLE = build_table(24)


def answer(num_images: int = 24) -> Predictions:
    """The truth of the table as probabilities, labels the other way round, the first cell turned over."""
    truth_NL = TABLE.targets.present_NL()
    truth_NL[0, 0] ^= True
    probs_NL = np.where(truth_NL, 0.9, 0.1)[:num_images, ::-1]
    return Predictions(TABLE.images[:num_images], LabelSpace(LABELS[::-1]), probs_NL)


def test_the_cells_of_the_table_are_questioned_by_answers_matched_by_name() -> None:
    found = find_errors(TABLE, answers=answer())
    assert [(each.image, each.label) for each in found] == [(TABLE.images[0], LABELS[0])]


def test_images_without_an_answer_are_counted_and_answers_about_others_refused() -> None:
    told: list[str] = []

    def note(event: str, facts: Any) -> None:
        told.append(f"{event}: {facts['message']}")

    find_errors(TABLE, answers=answer(20), on_event=note)
    assert told == ["note: Warning: 4 of 24 images have no answer."]
    with pytest.raises(DataError, match="answers: they are about no image of other"):
        find_errors(build_table(4, name="other"), answers=answer())


def test_without_answers_folds_are_trained() -> None:
    config = TrainConfig(**{**SETTINGS, "epochs": 1, "freeze": "backbone"})
    found = find_errors(TABLE, config, num_folds=2, max_mistakes=3)
    assert len(found) <= 3
