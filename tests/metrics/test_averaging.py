from __future__ import annotations

import numpy as np
import pytest

from manylabel.errors import DataError
from manylabel.metrics.averaging import fraction, macro, mean_over_labels, weighted

NAN = float("nan")


def test_a_fraction_is_undefined_exactly_where_the_denominator_is_zero() -> None:
    np.testing.assert_array_equal(fraction([3, 0, 0], [4, 5, 0]), [0.75, 0.0, NAN])


def test_a_fraction_stretches_a_column_over_a_table() -> None:
    np.testing.assert_array_equal(fraction([[1, 2]], [[2], [0]]), [[0.5, 1.0], [NAN, NAN]])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([0.2, 0.4], 0.3, id="the plain mean"),
        pytest.param([1.0, NAN], 1.0, id="a label without a value is left out, not counted as 0"),
        pytest.param([NAN, NAN], NAN, id="no label has a value"),
        pytest.param([], NAN, id="no label at all"),
    ],
)
def test_macro_is_the_mean_of_the_labels_that_have_a_value(values: list[float], expected: float) -> None:
    assert macro(np.array(values)) == pytest.approx(expected, nan_ok=True)


# By hand, after the rule of scikit-learn's mean that leaves NaN out.
@pytest.mark.parametrize(
    ("values", "weights", "expected"),
    [
        pytest.param([1.0, 0.5], [3, 1], 0.875, id="the weighted mean"),
        pytest.param([1.0, NAN, 0.5], [3, 100, 1], 0.875, id="an undefined label takes its weight with it"),
        pytest.param([1.0, 0.5], [0, 1], 0.5, id="a label of weight 0 does not count"),
        pytest.param([1.0, 0.5, NAN], [0, 0, 0], 0.75, id="weights that are all 0 are ignored"),
        pytest.param([1.0, 0.5, NAN], [0, 0, 7], 0.75, id="weights that are 0 where it is defined are ignored"),
        pytest.param([NAN, NAN], [1, 2], NAN, id="no label has a value"),
    ],
)
def test_weighted_is_the_weighted_mean_of_the_labels_that_have_a_value(
    values: list[float], weights: list[int], expected: float
) -> None:
    assert weighted(np.array(values), np.array(weights)) == pytest.approx(expected, nan_ok=True)


def test_each_row_of_a_table_is_averaged_alone() -> None:
    values_RL = np.array([[1.0, 0.5], [NAN, 0.25], [NAN, NAN]])
    np.testing.assert_array_equal(mean_over_labels(values_RL), [0.75, 0.25, NAN])
    np.testing.assert_array_equal(mean_over_labels(values_RL, np.array([[3, 1], [1, 0], [1, 1]])), [0.875, 0.25, NAN])


def test_a_missing_weight_is_an_error() -> None:
    with pytest.raises(DataError, match=r"^weights_L: wrong shape, got \(1,\), expected \(2,\)\.$"):
        weighted(np.array([1.0, 0.5]), np.array([3]))
