"""Average precision as Pascal VOC and COCO count it, against the definition written out point by point."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from manylabel.errors import ConfigError
from manylabel.metrics.interpolated import COUNTS, interpolated_average_precision
from manylabel.metrics.ranking import average_precision


def count_by_definition(probs: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_], count: str) -> float:
    """For each recall of the grid, the best precision over all thresholds that reach it."""
    if not truth.any():
        return float("nan")
    steps = [(truth[probs >= cut].sum() / truth.sum(), truth[probs >= cut].mean()) for cut in np.unique(probs)]
    if count == "voc_2010":
        grid = [(number + 1) / truth.sum() for number in range(int(truth.sum()))]
    else:
        grid = [number / 10 for number in range(11)] if count == "voc_2007" else [n / 100 for n in range(101)]
    return float(np.mean([max(p for reached, p in steps if reached >= recall - 1e-9) for recall in grid]))


@pytest.mark.parametrize("count", COUNTS)
def test_every_count_is_its_definition(case: Any, count: str) -> None:
    found_L = interpolated_average_precision(case.probs_NL, case.truth_NL, case.known_NL, count)
    for label, found in enumerate(found_L):
        known_N = case.all_known_NL[:, label]
        expected = count_by_definition(case.probs_NL[known_N, label], case.truth_NL[known_N, label], count)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_interpolation_never_lowers_and_a_perfect_order_scores_one(case: Any) -> None:
    plain_L = average_precision(case.probs_NL, case.truth_NL, case.known_NL)
    whole_L = interpolated_average_precision(case.probs_NL, case.truth_NL, case.known_NL)
    assert (whole_L[~np.isnan(plain_L)] >= plain_L[~np.isnan(plain_L)] - 1e-12).all()
    truth_NL = np.array([[True], [True], [False]])
    for count in COUNTS:
        assert interpolated_average_precision(np.array([[0.9], [0.8], [0.1]]), truth_NL, count=count) == [1.0]


def test_a_count_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^count: unknown count 'voc_2008' \(did you mean 'voc_20.."):
        interpolated_average_precision(np.array([[0.5]]), np.array([[True]]), count="voc_2008")
