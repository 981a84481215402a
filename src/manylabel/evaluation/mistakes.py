"""Cells of a table that look wrong: labels that seem to be missing, and labels that seem not to be there.

What a model that never saw an image says about it is held against what the table says. A probability alone is not
enough, since a model that is timid about one label and bold about another says 0.6 for different reasons: a cell is
ranked by its log-odds beside those that the label's own images have. A present cell is judged by how far it falls
short of what the images with the label reach on average, an absent one by how far it exceeds what those without reach.

Source: Northcutt, Jiang and Chuang, "Confident learning", 2021: the average probability of a label's own images is its
threshold. Ours differs: both states of a cell have one, and the distance is measured in log-odds, so that cells of all
labels stand in one queue.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.errors import ConfigError, DataError, build_message
from manylabel.files import write_text_atomically
from manylabel.labels.predictions import Predictions
from manylabel.metrics.averaging import fraction
from manylabel.metrics.resampling import split_into_blocks

PRESENT, ABSENT = "present", "absent"
QUEUE_COLUMNS = ("image", "label", "given", "probability", "suggestion", "rank")

_SMALLEST = 1e-4
"""Log-odds of a probability nearer to 0 or 1 are those of this one: beyond it a model's digits mean nothing."""


@dataclass(frozen=True)
class Mistake:
    """A cell that looks wrong: what the table says, what a model that never saw the image says, and what to try."""

    image: str
    label: str
    given: str
    probability: float
    suggestion: str


def find_mistakes(predictions: Predictions, max_mistakes: int | None = None) -> list[Mistake]:
    """Return the cells that look wrong, the most suspicious first.

    A cell is suspicious where the probability is on the other side of the midpoint between what the label's present
    and its absent images have on average. Unknown cells are in no queue, and a label that is present, or absent, in no
    image has none either.

    Args:
        predictions: cross-fitted, that is from models that never saw the image; with the truth of the table.
        max_mistakes: how many at most; None returns all suspicious ones.

    Raises:
        DataError: the predictions have no truth.
        ConfigError: fewer than one.
    """
    if predictions.targets is None:
        raise DataError(
            build_message("predictions", "they have no truth to question", do="Give the answers of cross-validate")
        )
    if max_mistakes is not None and max_mistakes < 1:
        raise ConfigError(build_message("--max", "too few", got=max_mistakes, expected="1 or more"))
    present_NL, known_NL = predictions.targets.present_NL(), predictions.targets.known_NL()
    rows, columns = _rank_cells(predictions.probs_NL, present_NL, known_NL, max_mistakes)
    return [
        Mistake(
            predictions.images[row],
            predictions.label_space.names[column],
            PRESENT if present_NL[row, column] else ABSENT,
            float(predictions.probs_NL[row, column]),
            ABSENT if present_NL[row, column] else PRESENT,
        )
        for row, column in zip(rows, columns, strict=True)
    ]


def _rank_cells(
    probs_NL: npt.NDArray[np.floating],
    present_NL: npt.NDArray[np.bool_],
    known_NL: npt.NDArray[np.bool_],
    most: int | None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return rows and columns of the suspicious cells, the most suspicious first; of equal ones in the table's order.

    Some labels at a time, of which no more than `most` cells are kept: large tables stay within little memory.
    """
    num_images, num_labels = probs_NL.shape
    scores, cells = np.zeros(0), np.zeros(0, np.int64)
    for labels in split_into_blocks(num_labels, num_images):
        suspicion_NB = score_cells(probs_NL[:, labels], present_NL[:, labels], known_NL[:, labels])
        rows, columns = np.nonzero(suspicion_NB > 0)
        scores = np.concatenate([scores, suspicion_NB[rows, columns]])
        cells = np.concatenate([cells, rows * num_labels + columns + labels.start])
        order = np.lexsort((cells, -scores))[:most]
        scores, cells = scores[order], cells[order]
    return np.unravel_index(cells, probs_NL.shape) if cells.size else (cells, cells)  # type: ignore[return-value]


def score_cells(
    probs_NL: npt.NDArray[np.floating], present_NL: npt.NDArray[np.bool_], known_NL: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Return how suspicious each cell is: above 0 where it looks like the other state, -inf where nobody can say.

    Shapes: N images, L labels.
    """
    clipped_NL = np.clip(probs_NL.astype(np.float64), _SMALLEST, 1 - _SMALLEST)
    log_odds_NL = np.log(clipped_NL / (1 - clipped_NL))
    is_present_NL, is_absent_NL = present_NL & known_NL, ~present_NL & known_NL
    present_L, absent_L = (_average_log_odds(log_odds_NL, cells_NL) for cells_NL in (is_present_NL, is_absent_NL))
    # Half-way between both, in steps of the distance between them: a label that nobody tells apart has small steps.
    midpoint_L = (present_L + absent_L) / 2
    beyond_NL = np.where(is_present_NL, midpoint_L - log_odds_NL, log_odds_NL - midpoint_L)
    can_say_L = present_L > absent_L
    return np.where(known_NL & can_say_L, beyond_NL, -np.inf)


def _average_log_odds(log_odds_NL: npt.NDArray[np.float64], cells_NL: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    num_cells_L = cells_NL.sum(axis=0)
    sums_L = np.where(cells_NL, log_odds_NL, 0).sum(axis=0)
    return fraction(sums_L, num_cells_L)


def save_queue(mistakes: Sequence[Mistake], path: str | os.PathLike[str]) -> None:
    """Write the queue as CSV: image, label, what is given, the probability, what is suggested, and the rank from 1.

    The columns image, label and suggestion are a patch: `convert --apply` takes the file as it is, once the rows that
    are right after all are deleted.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(QUEUE_COLUMNS)
    for rank, mistake in enumerate(mistakes, start=1):
        probability = f"{mistake.probability:.4f}"
        writer.writerow([mistake.image, mistake.label, mistake.given, probability, mistake.suggestion, rank])
    write_text_atomically(path, text.getvalue())
