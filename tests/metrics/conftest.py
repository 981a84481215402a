"""Sets of probabilities, decisions and truth on which every metric is compared with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest


@dataclass(frozen=True)
class Case:
    """What a metric is given; `known_NL` is None when all is known."""

    probs_NL: npt.NDArray[np.float64]
    decisions_NL: npt.NDArray[np.bool_]
    truth_NL: npt.NDArray[np.bool_]
    known_NL: npt.NDArray[np.bool_] | None = None

    @property
    def all_known_NL(self) -> npt.NDArray[np.bool_]:
        return np.ones(self.truth_NL.shape, np.bool_) if self.known_NL is None else self.known_NL


def _random_case(
    num_images: int = 40,
    num_labels: int = 7,
    prevalence: float = 0.25,
    decimals: int | None = None,
    unknown_share: float = 0.0,
    seed: int = 0,
) -> Case:
    generator = np.random.default_rng(seed)
    shape = (num_images, num_labels)
    truth_NL = generator.random(shape) < prevalence
    probs_NL = np.clip(0.7 * generator.random(shape) + 0.3 * truth_NL, 0, 1)
    if decimals is not None:
        probs_NL = probs_NL.round(decimals)
    known_NL = generator.random(shape) >= unknown_share if unknown_share else None
    return Case(probs_NL, probs_NL >= 0.5, truth_NL, known_NL)


def _with_truth(case: Case, label: int, truth: bool) -> Case:
    truth_NL = case.truth_NL.copy()
    truth_NL[:, label] = truth
    return Case(case.probs_NL, case.decisions_NL, truth_NL, case.known_NL)


def _with_unknown(case: Case, rows: slice, columns: slice) -> Case:
    known_NL = case.all_known_NL.copy()
    known_NL[rows, columns] = False
    return Case(case.probs_NL, case.decisions_NL, case.truth_NL, known_NL)


def _constant(shape: tuple[int, int], prob: float, truth: bool) -> Case:
    probs_NL = np.full(shape, prob)
    return Case(probs_NL, probs_NL >= 0.5, np.full(shape, truth))


EVERYTHING = slice(None)
CASES = {
    "random scores": _random_case(),
    "many labels per image": _random_case(prevalence=0.8, seed=1),
    "scores tied at one decimal": _random_case(decimals=1, seed=2),
    "scores tied at 0 and 1": _random_case(decimals=0, seed=3),
    "all scores equal": Case(np.full((20, 5), 0.5), np.ones((20, 5), np.bool_), _random_case(20, 5).truth_NL),
    "label without a positive": _with_truth(_random_case(seed=4), label=2, truth=False),
    "label without a negative": _with_truth(_random_case(seed=5), label=2, truth=True),
    "one image": _random_case(num_images=1, prevalence=0.5, seed=6),
    "one label": _random_case(num_labels=1, seed=7),
    "one cell": _random_case(1, 1, prevalence=1, seed=8),
    "no label anywhere and none given": _constant((6, 3), 0.2, truth=False),
    "no label anywhere and all given": _constant((6, 3), 0.9, truth=False),
    "all labels everywhere and none given": _constant((6, 3), 0.2, truth=True),
    "all labels everywhere and all given": _constant((6, 3), 0.9, truth=True),
    "images without labels": _random_case(prevalence=0.05, seed=9),
    "more labels than images": _random_case(num_images=5, num_labels=12, seed=10),
    "some cells unknown": _random_case(unknown_share=0.3, seed=11),
    "most cells unknown and scores tied": _random_case(unknown_share=0.8, decimals=1, seed=12),
    "a label unknown everywhere": _with_unknown(_random_case(unknown_share=0.2, seed=13), EVERYTHING, slice(1, 2)),
    "images with nothing known": _with_unknown(_random_case(unknown_share=0.2, seed=14), slice(0, 9), EVERYTHING),
    "nothing known at all": _with_unknown(_random_case(12, 3, seed=15), EVERYTHING, EVERYTHING),
}


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    found = request.param
    assert isinstance(found, Case)
    return found
