"""Against numbers worked by hand on one small table."""

from __future__ import annotations

import math

import numpy as np
import pytest

from manylabel.labels import statistics as module
from manylabel.labels.statistics import co_occurrence, describe_targets, prevalence
from manylabel.labels.targets import Targets

#                            a  b  c  d      d is never known, the last image neither in part
TARGETS = Targets.from_dense(
    [
        [1, 1, 0, -1],
        [1, 0, 0, -1],
        [1, 1, -1, -1],
        [0, 0, 0, -1],
    ]
)


def test_prevalence_is_the_share_of_the_known_cells_and_nan_where_nothing_is_known() -> None:
    np.testing.assert_array_equal(prevalence(TARGETS), [0.75, 0.5, 0.0, math.nan])


def test_co_occurrence_counts_the_images_that_have_both(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [[3, 2, 0, 0], [2, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(co_occurrence(TARGETS), expected)
    monkeypatch.setattr(module, "_CHUNK_ROWS", 3)
    np.testing.assert_array_equal(co_occurrence(TARGETS), expected)


def test_the_description_is_the_one_worked_by_hand() -> None:
    statistics = describe_targets(TARGETS)
    assert (statistics.num_images, statistics.num_labels) == (4, 4)
    assert (statistics.num_present, statistics.num_unknown) == (5, 5)
    assert statistics.cardinality == 5 / 4
    assert statistics.density == 5 / 16
    assert statistics.imbalance_ratio == 3 / 2
    assert statistics.cardinality_counts == (1, 1, 2)


def test_an_image_with_an_unknown_cell_is_not_said_to_have_no_label() -> None:
    assert describe_targets(TARGETS).num_without_labels == 0
    assert describe_targets(TARGETS.select_labels([0, 1, 2])).num_without_labels == 1


def test_an_empty_table_has_no_mean() -> None:
    statistics = describe_targets(Targets.from_columns([], 2))
    assert statistics.num_images == 0
    assert math.isnan(statistics.cardinality)
    assert math.isnan(statistics.imbalance_ratio)
    assert statistics.cardinality_counts == ()
