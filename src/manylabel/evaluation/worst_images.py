"""The images that each label gets most wrong: missed though shown, given though not shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.labels.targets import BoolArray

DEFAULT_NUM_EACH = 4
"""How many images of each kind are kept for a label."""


@dataclass(frozen=True)
class ShownImage:
    """An image with the labels that it truly shows and those it was given, as columns."""

    image: str
    true: tuple[int, ...]
    given: tuple[int, ...]


@dataclass(frozen=True)
class Mistake:
    """A wrong decision: a row of `WorstImages.images`, and the probability it was made by."""

    place: int
    probability: float


@dataclass(frozen=True)
class WorstImages:
    """Per label, in label order, the mistakes that are furthest from right, the worst first."""

    images: tuple[ShownImage, ...]
    missed: tuple[tuple[Mistake, ...], ...]
    wrongly_given: tuple[tuple[Mistake, ...], ...]

    def overall(self, num_each: int) -> list[tuple[int, bool, Mistake]]:
        """Return the worst of all labels as (label, whether it was missed, mistake): `num_each` of each kind at most.

        An image stands there once, with the label that is furthest from right on it, and a label once of each kind.
        First come the wrongly given ones, the most probable first, then the missed ones, the least probable first.
        """
        found: list[tuple[int, bool, Mistake]] = []
        places: set[int] = set()
        for is_missed, by_label in ((False, self.wrongly_given), (True, self.missed)):
            sign = 1 if is_missed else -1
            firsts = [(mistakes[0], column) for column, mistakes in enumerate(by_label) if mistakes]
            ordered = sorted(firsts, key=lambda pair: sign * pair[0].probability)
            fresh: list[tuple[int, bool, Mistake]] = []
            for mistake, column in ordered:
                if mistake.place not in places and len(fresh) < num_each:
                    fresh.append((column, is_missed, mistake))
                    places.add(mistake.place)
            found.extend(fresh)
        return found


def find_worst_images(
    images: Sequence[str],
    probs_NL: npt.NDArray[np.floating],
    decisions_NL: BoolArray,
    truth_NL: BoolArray,
    known_NL: BoolArray,
    num_each: int = DEFAULT_NUM_EACH,
) -> WorstImages:
    """Return the missed images of the lowest probability and the wrongly given ones of the highest, for each label.

    Shapes: N images, L labels.
    """
    rows: dict[int, int] = {}  # row to its place among the kept images
    missed, wrongly_given = [], []
    for column, known_N in enumerate(known_NL.T):
        probs_N, truth_N, given_N = probs_NL[:, column], truth_NL[:, column], decisions_NL[:, column]
        missed.append(_keep(np.flatnonzero(known_N & truth_N & ~given_N), probs_N, 1, num_each, rows))
        wrongly_given.append(_keep(np.flatnonzero(known_N & ~truth_N & given_N), probs_N, -1, num_each, rows))
    shown = tuple(
        ShownImage(images[row], _columns(truth_NL[row] & known_NL[row]), _columns(decisions_NL[row])) for row in rows
    )
    return WorstImages(shown, tuple(missed), tuple(wrongly_given))


def _keep(
    candidates: npt.NDArray[np.int64], probs_N: npt.NDArray[np.floating], sign: int, num_each: int, rows: dict[int, int]
) -> tuple[Mistake, ...]:
    order = np.lexsort((candidates, sign * probs_N[candidates]))[:num_each]
    return tuple(Mistake(rows.setdefault(int(row), len(rows)), float(probs_N[row])) for row in candidates[order])


def _columns(flags_L: BoolArray) -> tuple[int, ...]:
    return tuple(int(column) for column in np.flatnonzero(flags_L))
