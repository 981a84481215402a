"""Two bits per cell, compared with plain boolean tables."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from manylabel.errors import DataError
from manylabel.labels import targets as module
from manylabel.labels.targets import Targets

NAN = float("nan")
PRESENT, ABSENT, UNKNOWN = 1, 0, -1

# Up to 19 labels: no whole byte, several bytes, and whole bytes.
tables = hnp.arrays(np.int8, st.tuples(st.integers(0, 9), st.integers(1, 19)), elements=st.integers(-1, 1))


def build(state_NL: np.ndarray) -> Targets:
    return Targets.from_dense(state_NL == PRESENT, state_NL != UNKNOWN)


def read(targets: Targets) -> np.ndarray:
    return np.where(targets.known_NL(), targets.present_NL().astype(np.int8), UNKNOWN)


@given(tables)
def test_a_dense_table_comes_back_as_it_was(state_NL: np.ndarray) -> None:
    np.testing.assert_array_equal(read(build(state_NL)), state_NL)


@given(tables)
def test_columns_and_a_dense_table_build_the_same(state_NL: np.ndarray) -> None:
    targets = Targets.from_columns(
        [list(np.flatnonzero(row == PRESENT)) for row in state_NL],
        state_NL.shape[1],
        [list(np.flatnonzero(row == UNKNOWN)) for row in state_NL],
    )
    assert targets == build(state_NL)
    assert targets.digest == build(state_NL).digest


@given(tables)
def test_numbers_with_nan_for_unknown_build_the_same(state_NL: np.ndarray) -> None:
    numbers_NL = np.where(state_NL == UNKNOWN, NAN, state_NL.astype(float))
    assert Targets.from_dense(numbers_NL) == Targets.from_dense(state_NL) == build(state_NL)


@given(tables)
def test_every_count_is_that_of_the_plain_table(state_NL: np.ndarray) -> None:
    targets = build(state_NL)
    np.testing.assert_array_equal(targets.num_present_L, (state_NL == PRESENT).sum(axis=0))
    np.testing.assert_array_equal(targets.num_absent_L, (state_NL == ABSENT).sum(axis=0))
    np.testing.assert_array_equal(targets.num_unknown_L, (state_NL == UNKNOWN).sum(axis=0))
    np.testing.assert_array_equal(targets.num_known_L, (state_NL != UNKNOWN).sum(axis=0))
    np.testing.assert_array_equal(targets.num_present_N, (state_NL == PRESENT).sum(axis=1))
    np.testing.assert_array_equal(targets.num_known_N, (state_NL != UNKNOWN).sum(axis=1))
    for row in range(len(state_NL)):
        assert targets.present_columns(row) == list(np.flatnonzero(state_NL[row] == PRESENT))
        assert targets.unknown_columns(row) == list(np.flatnonzero(state_NL[row] == UNKNOWN))
    for column in range(state_NL.shape[1]):
        assert targets.present_rows(column).tolist() == np.flatnonzero(state_NL[:, column] == PRESENT).tolist()


@given(tables, st.data())
def test_rows_are_chosen_as_numpy_chooses_them(state_NL: np.ndarray, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(state_NL) - 1)) if len(state_NL) else st.just([]))
    index = np.array(rows, np.int64)
    np.testing.assert_array_equal(read(build(state_NL).select(rows)), state_NL[index])
    np.testing.assert_array_equal(build(state_NL).present_NL(index), state_NL[index] == PRESENT)


@given(tables, st.data())
def test_labels_are_chosen_as_numpy_chooses_them(state_NL: np.ndarray, data: st.DataObject) -> None:
    columns = data.draw(st.lists(st.none() | st.integers(0, state_NL.shape[1] - 1), min_size=1, max_size=20))
    for missing_is_known, filling in ((False, UNKNOWN), (True, ABSENT)):
        expected_NL = np.full((len(state_NL), len(columns)), filling)
        for position, column in enumerate(columns):
            if column is not None:
                expected_NL[:, position] = state_NL[:, column]
        chosen = build(state_NL).select_labels(columns, missing_is_known=missing_is_known)
        np.testing.assert_array_equal(read(chosen), expected_NL)
        assert chosen == build(expected_NL)


@given(tables, tables)
def test_tables_are_joined_as_numpy_joins_them(first_NL: np.ndarray, second_NL: np.ndarray) -> None:
    num_labels = min(first_NL.shape[1], second_NL.shape[1])
    first_NL, second_NL = first_NL[:, :num_labels], second_NL[:, :num_labels]
    joined = build(first_NL).concatenate(build(second_NL))
    np.testing.assert_array_equal(read(joined), np.concatenate([first_NL, second_NL]))


@given(tables)
def test_tables_are_equal_if_and_only_if_every_cell_is(state_NL: np.ndarray) -> None:
    targets = build(state_NL)
    for row, column in list(np.ndindex(state_NL.shape))[:5]:
        other_NL = state_NL.copy()
        other_NL[row, column] = (state_NL[row, column] + 2) % 3 - 1  # another of the three states
        assert build(other_NL) != targets
        assert build(other_NL).digest != targets.digest
    assert targets != state_NL.tolist()


def test_small_chunks_count_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    state_NL = np.random.default_rng(0).integers(-1, 2, (50, 11))
    monkeypatch.setattr(module, "_CHUNK_BYTES", 40)  # three rows at a time
    targets = build(state_NL)
    np.testing.assert_array_equal(targets.num_present_L, (state_NL == PRESENT).sum(axis=0))
    np.testing.assert_array_equal(targets.num_known_N, (state_NL != UNKNOWN).sum(axis=1))
    np.testing.assert_array_equal(read(targets.select_labels([10, 0])), state_NL[:, [10, 0]])


def test_a_cell_that_is_not_known_is_not_present_whatever_was_written_there() -> None:
    assert read(Targets.from_dense([[1, 7, NAN]], [[False, False, True]])).tolist() == [[-1, -1, -1]]


def test_a_column_that_is_both_present_and_unknown_is_unknown() -> None:
    assert read(Targets.from_columns([[0, 1]], 2, [[1]])).tolist() == [[1, -1]]


@pytest.mark.parametrize(
    ("truth", "known", "message"),
    [
        pytest.param([1, 0], None, "targets: not a table, got (2,), expected images x labels.", id="one row"),
        pytest.param([[0, 2]], None, "targets: a cell is neither 0 nor 1, got 2.0, expected 0, 1 or NaN.", id="a two"),
        pytest.param(
            [[0.5, 1]], None, "targets: a cell is neither 0 nor 1, got 0.5, expected 0, 1 or NaN.", id="a probability"
        ),
        pytest.param(
            [[1, 0]],
            [[True]],
            "targets: truth and known differ in shape, got (1, 1), expected (1, 2).",
            id="a mask of another shape",
        ),
        pytest.param(
            [["yes"]],
            None,
            "targets: the cells are not numbers (could not convert string to float: np.str_('yes')), "
            "expected 0, 1 or NaN.",
            id="text",
        ),
    ],
)
def test_a_table_that_holds_something_else_is_refused(truth: Any, known: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        Targets.from_dense(truth, known)
    assert str(error.value).replace("np.str_('yes')", "'yes'") == message.replace("np.str_('yes')", "'yes'")


@pytest.mark.parametrize("column", [-1, 3])
def test_a_column_outside_the_table_is_refused_by_its_number(column: int) -> None:
    with pytest.raises(DataError) as error:
        Targets.from_columns([[0], [2, column]], 3)
    assert str(error.value) == f"targets: a column is outside the table, got {column}, expected 0 to 2."


def test_a_mask_is_not_taken_for_row_numbers() -> None:
    with pytest.raises(AssertionError, match="not a mask"):
        build(np.zeros((2, 2))).select(np.array([True, False]))


def test_targets_cannot_be_written_to() -> None:
    targets = build(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="read-only"):
        targets.present_bits[0, 0] = 255
    with pytest.raises(TypeError, match="unhashable"):
        hash(targets)


def test_a_cell_takes_two_bits_and_working_with_it_little_more(monkeypatch: pytest.MonkeyPatch) -> None:
    # The promise is 500 MB for 1,000,000 images x 1,000 labels, half a byte per cell, here at a five-hundredth of it.
    num_images, num_labels = 2_000, 1_000
    monkeypatch.setattr(module, "_CHUNK_BYTES", 64 * 2**20 // 500)
    columns = [[row % num_labels, (7 * row) % num_labels] for row in range(num_images)]
    unknown: list[list[int]] = [[] for _ in columns]
    tracemalloc.start()
    targets = Targets.from_columns(columns, num_labels, unknown)
    stored, peak = tracemalloc.get_traced_memory()
    targets.num_present_L, targets.num_known_N, targets.digest  # noqa: B018 - what they need is measured
    counting_peak = tracemalloc.get_traced_memory()[1] - stored
    tracemalloc.stop()
    num_cells = num_images * num_labels
    assert (targets.present_bits.nbytes + targets.known_bits.nbytes) / num_cells == 0.25
    assert stored / num_cells < 0.26
    assert peak / num_cells < 0.75
    assert counting_peak / num_cells < 0.5


@pytest.mark.parametrize("how", ["columns", "dense"])
def test_targets_are_built_by_chunks_and_take_little_more_than_they_store(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("manylabel.labels.targets._CHUNK_BYTES", 800_000)
    monkeypatch.setattr("manylabel.labels.targets._ROWS_AT_ONCE", 300)
    truth_NL = np.random.default_rng(0).choice(np.array([0, 0, 0, 0, 1, -1], np.int8), (5000, 1000))
    present, unknown = ([np.flatnonzero(row == state).tolist() for row in truth_NL] for state in (1, -1))
    tracemalloc.start()
    targets = Targets.from_columns(present, 1000, unknown) if how == "columns" else Targets.from_dense(truth_NL)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(targets.present_NL(), truth_NL == 1)
    assert np.array_equal(targets.known_NL(), truth_NL >= 0)
    stored_bytes = targets.present_bits.nbytes + targets.known_bits.nbytes
    assert peak_bytes < 6 * stored_bytes  # a table of floats takes 32 times as much


def test_a_column_outside_the_table_is_found_in_every_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manylabel.labels.targets._ROWS_AT_ONCE", 2)
    with pytest.raises(DataError, match="a column is outside the table, got 7, expected 0 to 2"):
        Targets.from_columns([[0], [1], [2], [7]], 3)
