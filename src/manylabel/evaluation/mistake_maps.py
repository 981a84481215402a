"""Mistake maps: where in an image that is wrong the model saw its label, as somebody else has found it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from manylabel.evaluation.evaluate import Report
from manylabel.evaluation.report.facts import MAX_OVERALL_MISTAKES

MAX_MAPS = 8
"""How many of the worst mistakes have a map: each costs as much as 80 answers."""


@dataclass(frozen=True)
class MistakeMap:
    """What speaks for the label that an image was wrongly given, or that was missed in it, and where.

    Shapes: a picture [height, width, 3], and a map of any size that covers it.

    Args:
        image: the image, by its name in the report.
        label: the label that is wrong.
        picture_HWC: the image as the page shows it.
        map_HW: how much a place speaks for the label; below 0, against it.
        peak: where it is strongest, as shares of width and height from the upper left.
        doubts: sentences on what is doubtful about the map.
    """

    image: str
    label: str
    picture_HWC: npt.NDArray[np.uint8]
    map_HW: npt.NDArray[np.float32]
    peak: tuple[float, float]
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class MistakeMaps:
    """The maps of a report's worst mistakes, all with one scale; `left_out` says why there are not more."""

    maps: tuple[MistakeMap, ...]
    unit: str
    strong: float = 1.0
    """The number that gets full colour at least."""
    left_out: str = ""


@dataclass(frozen=True)
class WorstMistake:
    """A mistake that is to be explained, with the other labels that the image shows or was given."""

    image: str
    label: str
    others: tuple[str, ...]


def list_worst_mistakes(report: Report, num: int = MAX_MAPS) -> list[WorstMistake]:
    """Return the first of the worst mistakes that the page shows: a wrongly given label, a missed one, and so on."""
    worst, names = report.details.worst, [row["label"] for row in report.labels]
    overall = worst.overall(MAX_OVERALL_MISTAKES)
    kinds = [
        [(column, mistake) for column, is_missed, mistake in overall if is_missed is kind] for kind in (False, True)
    ]
    in_turn = [each for pair in zip_longest(*kinds) for each in pair if each is not None]
    mistakes = []
    for column, mistake in in_turn[:num]:
        shown = worst.images[mistake.place]
        others = [names[other] for other in dict.fromkeys((*shown.given, *shown.true)) if other != column]
        mistakes.append(WorstMistake(shown.image, names[column], tuple(others)))
    return mistakes
