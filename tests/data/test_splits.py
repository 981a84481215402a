from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.splits import LabelShare, describe_split, split, split_folds
from manylabel.errors import ConfigError, DataError
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def build(num_images: int, num_labels: int, seed: int = 0, num_groups: int = 0, unknown: float = 0.0) -> Annotations:
    """Return a random table whose labels are on 1 to 50 % of the images."""
    rng = np.random.default_rng(seed)
    truth_NL = rng.random((num_images, num_labels)) < rng.uniform(0.01, 0.5, num_labels)
    known_NL = rng.random((num_images, num_labels)) >= unknown
    group_N = rng.integers(0, num_groups, num_images) if num_groups else np.zeros(num_images, int)
    records = tuple(
        ImageRecord(f"{row}.jpg", group=f"g{group_N[row]}" if num_groups else None, extras={"film": f"f{row // 3}"})
        for row in range(num_images)
    )
    names = tuple(f"label {column}" for column in range(num_labels))
    return Annotations(records, Targets.from_dense(truth_NL, known_NL), LabelSpace(names), "table")


def part_of_image(parts: Mapping[str, Annotations]) -> dict[str, str]:
    return {image: name for name, part in parts.items() for image in part.images}


def deviations(parts: Mapping[str, Annotations]) -> list[float]:
    return [abs(share.got - share.wanted) for share in describe_split(parts, SHARES)]


@settings(max_examples=25, deadline=None)
@given(
    num_images=st.integers(3, 60),
    num_labels=st.integers(1, 6),
    seed=st.integers(0, 1000),
    unknown=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_parts_are_disjoint_complete_and_of_the_wanted_size(
    num_images: int, num_labels: int, seed: int, unknown: float
) -> None:
    table = build(num_images, num_labels, seed, unknown=unknown)
    parts = split(table, SHARES, seed=seed)
    assert list(parts) == ["train", "val", "test"]
    assert sorted(image for part in parts.values() for image in part.images) == sorted(table.images)
    for name, part in parts.items():
        assert len(part) >= 1
        # No part gets more than one image too many, so at most one for each of the two others is missing.
        assert -2 < len(part) - SHARES[name] * num_images < 2
        assert {record.part for record in part.records} == {name}
        rows = [table.images.index(image) for image in part.images]
        assert rows == sorted(rows)
        assert part.targets == table.targets.select(rows)


@settings(max_examples=25, deadline=None)
@given(num_images=st.integers(30, 80), num_groups=st.integers(10, 30), seed=st.integers(0, 1000))
def test_groups_stay_together_and_parts_differ_by_a_group_at_most(num_images: int, num_groups: int, seed: int) -> None:
    table = build(num_images, 4, seed, num_groups)
    parts = split(table, SHARES, seed=seed)
    assert sum(len(part) for part in parts.values()) == num_images
    groups = [{record.group for record in part.records} for part in parts.values()]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    largest = max(np.unique([record.group for record in table.records], return_counts=True)[1])
    for name, part in parts.items():
        assert len(part) < SHARES[name] * num_images + largest


def test_the_same_seed_gives_the_same_split_and_another_one_another() -> None:
    table = build(100, 5)
    first = part_of_image(split(table, SHARES, seed=3))
    assert part_of_image(split(table, SHARES, seed=3)) == first
    assert part_of_image(split(table, SHARES, seed=4)) != first


def test_the_order_of_the_rows_changes_nothing() -> None:
    table = build(100, 5, num_groups=40)
    shuffled = table.select(np.random.default_rng(0).permutation(100))
    assert part_of_image(split(shuffled, SHARES)) == part_of_image(split(table, SHARES))


def test_the_split_is_pinned_for_every_machine() -> None:
    records = tuple(ImageRecord(name) for name in "abcdefgh")
    table = Annotations(
        records, Targets.from_columns([[0], [0], [0], [0], [1], [1], [], []], 2), LabelSpace(("x", "y"))
    )
    parts = split(table, {"train": 0.5, "val": 0.5})
    # Two images with x, one with y and one without a label each; which ones is chance that must not change.
    assert {name: "".join(part.images) for name, part in parts.items()} == {"train": "cdfg", "val": "abeh"}


@pytest.mark.parametrize(("num_images", "num_labels"), [(100, 5), (300, 12), (1000, 20)])
def test_every_label_has_its_share_within_one_image_on_average(num_images: int, num_labels: int) -> None:
    parts = split(build(num_images, num_labels), SHARES)
    assert np.mean(deviations(parts)) < 1
    assert max(deviations(parts)) < 3


@pytest.mark.parametrize("seed", range(5))
def test_every_label_with_enough_images_is_in_every_part(seed: int) -> None:
    for share in describe_split(split(build(400, 15, seed), SHARES, seed=seed), SHARES):
        if share.wanted >= 2:
            assert share.got >= 1, share


def test_labels_are_shared_out_better_than_by_chance() -> None:
    table = build(400, 15)
    rng = np.random.default_rng(0)
    rows = np.split(rng.permutation(400), [280, 340])
    by_chance = {name: table.select(chosen) for name, chosen in zip(SHARES, rows, strict=True)}
    assert np.mean(deviations(split(table, SHARES))) < np.mean(deviations(by_chance)) / 2


def test_an_extra_column_can_name_the_groups_and_they_are_kept() -> None:
    parts = split(build(90, 4), SHARES, group="film")
    films = [{record.extras["film"] for record in part.records} for part in parts.values()]
    assert sum(map(len, films)) == 30
    assert all(record.group == record.extras["film"] for part in parts.values() for record in part.records)


def test_a_blank_group_is_no_group() -> None:
    records = tuple(ImageRecord(f"{row}", extras={"film": "one" if row < 2 else ""}) for row in range(10))
    table = Annotations(records, Targets.from_columns([[0]] * 10, 1), LabelSpace(("x",)))
    parts = split(table, {"train": 0.5, "val": 0.5}, group="film")
    assert [len(part) for part in parts.values()] == [5, 5]
    assert part_of_image(parts)["0"] == part_of_image(parts)["1"]


def test_a_column_that_does_not_exist_is_answered_with_the_nearest() -> None:
    with pytest.raises(DataError) as error:
        split(build(10, 2), SHARES, group="flim")
    assert str(error.value) == "table: no column 'flim' to group by (did you mean 'film'?), expected one of film."


def test_a_table_without_groups_cannot_be_split_by_group() -> None:
    table = Annotations((ImageRecord("a"),), Targets.from_columns([[0]], 1), LabelSpace(("x",)), "table")
    with pytest.raises(DataError) as error:
        split(table, SHARES, group="group")
    assert str(error.value) == "table: no column 'group' to group by, expected a column beside the labels."


@pytest.mark.parametrize(
    ("num_images", "num_groups", "message"),
    [
        pytest.param(1, 0, "1 image cannot be divided into 3 parts", id="one image"),
        pytest.param(2, 0, "2 images cannot be divided into 3 parts", id="two images"),
        pytest.param(0, 0, "0 images cannot be divided into 3 parts", id="no image"),
        pytest.param(20, 1, "1 group of images cannot be divided into 3 parts", id="one group"),
        pytest.param(20, 2, "2 groups of images cannot be divided into 3 parts", id="two groups"),
    ],
)
def test_fewer_images_than_parts_are_refused(num_images: int, num_groups: int, message: str) -> None:
    with pytest.raises(DataError) as error:
        split(build(num_images, 2, num_groups=num_groups), SHARES)
    assert str(error.value) == f"table: {message}, expected at least 3. Add images or ask for fewer parts."


def test_three_images_give_three_parts_of_one() -> None:
    assert [len(part) for part in split(build(3, 2), SHARES).values()] == [1, 1, 1]


@pytest.mark.parametrize(
    "shares",
    [{}, {"train": 0.5}, {"train": 0.7, "val": 0.4}, {"a": 1.0, "b": 0.0}, {"a": 1.5, "b": -0.5}, {"a": float("nan")}],
    ids=str,
)
def test_shares_that_make_no_whole_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as error:
        split(build(10, 2), shares)
    assert str(error.value) == (
        f"--parts: shares have to be positive and sum to 1, got {shares!r}, expected train=0.7,val=0.15,test=0.15."
    )


def test_folds_are_equal_parts() -> None:
    folds = split_folds(build(50, 3), 5)
    assert {name: len(part) for name, part in folds.items()} == {f"fold{fold}": 10 for fold in range(5)}
    assert len(part_of_image(folds)) == 50


def test_one_fold_is_none() -> None:
    with pytest.raises(ConfigError, match=r"--folds: too few folds, got 1, expected 2 or more\."):
        split_folds(build(50, 3), 1)


def test_the_description_gives_what_each_part_wanted_and_got() -> None:
    table = Annotations(
        tuple(ImageRecord(name) for name in "abcd"),
        Targets.from_dense([[1, 1], [1, 0], [1, -1], [1, 0]]),
        LabelSpace(("x", "y")),
    )
    parts = {"train": table.select([0, 1, 2]), "val": table.select([3])}
    assert describe_split(parts, {"train": 0.5, "val": 0.5}) == [
        LabelShare("x", "train", 2.0, 3),
        LabelShare("x", "val", 2.0, 1),
        LabelShare("y", "train", 0.5, 1),
        LabelShare("y", "val", 0.5, 0),
    ]
