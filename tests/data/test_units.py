from __future__ import annotations

import numpy as np
import pytest

import manylabel.data.units as units_module
from manylabel.data.units import Units, name_units
from manylabel.labels.targets import Targets


@pytest.fixture
def units() -> Units:
    """Return the units of six images: three of a film that stand apart, two of another, and one alone."""
    targets = Targets.from_dense([[1, 0], [0, 1], [1, 1], [0, 0], [1, 0], [0, -1]])
    return Units.build(targets, ["big", "small", "big", "alone", "big", "small"], seed=0)


def test_units_are_numbered_from_the_largest(units: Units) -> None:
    assert units.unit_N.tolist() == [0, 1, 0, 2, 0, 1]
    assert units.sizes_U.tolist() == [3, 2, 1]
    assert [units.rows_N[start:end].tolist() for start, end in zip(units.starts, units.starts[1:], strict=False)] == [
        [0, 2, 4],
        [1, 5],
        [3],
    ]


@pytest.mark.parametrize("chunk_cells", [1, 6, 2**24])
def test_units_count_the_images_with_each_label_whatever_is_unpacked_at_once(
    units: Units, monkeypatch: pytest.MonkeyPatch, chunk_cells: int
) -> None:
    monkeypatch.setattr(units_module, "_CHUNK_CELLS", chunk_cells)
    assert units.count(np.array([0, 1, 2])).tolist() == [[3, 1, 3], [0, 1, 2], [0, 0, 1]]
    assert units.count(np.array([2, 0])).tolist() == [[0, 0, 1], [3, 1, 3]]
    assert units.count(np.array([], int)).shape == (0, 3)


def test_units_with_a_label_are_found(units: Units) -> None:
    assert [units.find_with_label(column).tolist() for column in range(3)] == [[0], [0, 1], [0, 1, 2]]


def test_parts_are_counted(units: Units) -> None:
    assert units.count_by_part(np.array([1, 0, -1]), 3).tolist() == [[0, 3, 0], [1, 1, 0], [2, 3, 0]]


def test_the_seed_orders_units_of_one_size() -> None:
    targets = Targets.from_columns([[]] * 20, 1)
    names = [str(number) for number in range(20)]
    first, again, other = (Units.build(targets, names, seed).unit_N.tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_a_unit_is_named_by_its_group_or_its_image() -> None:
    assert name_units(["a", "b"], [None, "film"]) == ["image a", "group film"]


@pytest.mark.parametrize(
    ("relatives", "names"),
    [
        pytest.param([{"c", "b"}], ["image a", "image b", "image b", "group f", "group f"], id="two images"),
        pytest.param([{"b", "d"}], ["image a", "group f", "image c", "group f", "group f"], id="image and group"),
        pytest.param([["c", "b"], ["b", "a"]], ["image a"] * 3 + ["group f"] * 2, id="a chain"),
        pytest.param([["a", "b"], ["c", "e"], ["c", "b"]], ["group f"] * 5, id="two chains joined"),
        pytest.param([["d", "e"], [], ["a"]], ["image a", "image b", "image c"] + ["group f"] * 2, id="nothing new"),
    ],
)
def test_relatives_are_one_unit_with_their_groups(relatives: list[list[str]], names: list[str]) -> None:
    images, groups = list("abcde"), [None, None, None, "f", "f"]
    assert name_units(images, groups, relatives) == names
    backwards = name_units(images[::-1], groups[::-1], [list(family)[::-1] for family in relatives[::-1]])
    assert backwards[::-1] == names
