from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.splits import (
    LabelShare,
    choose_fold,
    describe_absent_labels,
    describe_split,
    split,
    split_folds,
)
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


def build_table(label_sets: list[str], groups: str = "", parts: str = "") -> Annotations:
    """Return a table of images `a`, `b`, ... whose labels, groups and parts are single letters; a dot is none."""
    records = tuple(
        ImageRecord(
            chr(ord("a") + row),
            group=groups[row] if groups and groups[row] != "." else None,
            part=parts[row] if parts and parts[row] != "." else None,
        )
        for row in range(len(label_sets))
    )
    names = sorted(set("".join(label_sets)) - {"."})
    columns = [[names.index(label) for label in labels if label != "."] for labels in label_sets]
    return Annotations(records, Targets.from_columns(columns, len(names)), LabelSpace(tuple(names)), "table")


def images_of(parts: Mapping[str, Annotations]) -> dict[str, str]:
    return {name: "".join(part.images) for name, part in parts.items()}


def groups_of(parts: Mapping[str, Annotations]) -> dict[str, str | None]:
    return {record.id: record.group for part in parts.values() for record in part.records}


# Relatives.


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), num_relatives=st.integers(1, 12), num_groups=st.sampled_from([0, 30]))
def test_relatives_stay_together_with_the_groups_of_each(seed: int, num_relatives: int, num_groups: int) -> None:
    table = build(60, 4, seed, num_groups)
    rng = np.random.default_rng(seed)
    relatives = [{table.images[row] for row in rng.integers(0, 60, 2)} for _ in range(num_relatives)]
    parts = split(table, SHARES, relatives=relatives, seed=seed)
    part_of = part_of_image(parts)
    assert all(len({part_of[image] for image in family}) == 1 for family in relatives)
    part_of_group = {(record.group, part_of[record.id]) for record in table.records if record.group}
    assert len(part_of_group) == len({group for group, _ in part_of_group})
    shuffled = table.select(rng.permutation(60))
    assert part_of_image(split(shuffled, SHARES, relatives=relatives[::-1], seed=seed)) == part_of


def test_relatives_without_a_group_carry_one_in_the_result() -> None:
    table = build_table(["x"] * 8, groups="..ff..gg")
    parts = split(table, {"1": 0.5, "2": 0.5}, relatives=[{"a", "b"}, {"c", "e"}, {"f"}, {"d", "g"}])
    assert groups_of(parts) == {
        "a": "like a",
        "b": "like a",
        "c": "f",
        "d": "f",
        "e": "f",
        "f": None,
        "g": "g",
        "h": "g",
    }
    # Seven of the eight images are united in one unit and a pair; the pair and the single one are the other side.
    assert sorted(images_of(parts).values()) == ["abf", "cdegh"]


def test_a_result_split_again_keeps_its_relatives_without_being_told() -> None:
    table = build_table(["x"] * 30)
    relatives = [{"a", "k"}, {"b", "l"}, {"c", "m"}]
    parts = split(table, {"1": 0.5, "2": 0.5}, relatives=relatives)
    again = split(parts["1"].merge(parts["2"]), {"1": 0.5, "2": 0.5}, seed=7)
    part_of = part_of_image(again)
    assert all(len({part_of[image] for image in family}) == 1 for family in relatives)


def test_relatives_that_the_table_lacks_are_named() -> None:
    with pytest.raises(DataError) as error:
        split(build_table(["x"] * 5), {"1": 0.5, "2": 0.5}, relatives=[{"a", "z"}, {"y"}])
    assert str(error.value) == "table: relatives that are not in the table: y, z, expected ids of its images."


# Kept parts.


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), num_groups=st.sampled_from([0, 40]), num_kept=st.integers(40, 100))
def test_rows_that_are_added_change_no_part_and_fill_what_is_lacking(seed: int, num_groups: int, num_kept: int) -> None:
    table = build(100, 4, seed, num_groups)
    first = part_of_image(split(table.select(range(num_kept)), SHARES, seed=seed))
    parts = split(table.with_parts(first), SHARES, seed=seed, keep_parts=True)
    part_of = part_of_image(parts)
    assert {image: part_of[image] for image in first} == first
    assert len(part_of) == 100
    groups = [{record.group for record in part.records} - {None} for part in parts.values()]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    if not num_groups:
        for name, part in parts.items():
            # A part that was one image too large already may stay so.
            assert abs(len(part) - SHARES[name] * 100) < 2
    shuffled = table.with_parts(first).select(np.random.default_rng(0).permutation(100))
    assert part_of_image(split(shuffled, SHARES, seed=seed, keep_parts=True)) == part_of


def test_a_table_without_parts_is_split_alike_whether_they_are_kept_or_not() -> None:
    table = build(100, 5)
    assert part_of_image(split(table, SHARES, keep_parts=True)) == part_of_image(split(table, SHARES))


def test_parts_are_divided_anew_unless_they_are_to_be_kept() -> None:
    table = build(100, 5)
    renamed = table.with_parts(dict.fromkeys(table.images, "old"))
    assert part_of_image(split(renamed, SHARES)) == part_of_image(split(table, SHARES))


def test_new_images_go_where_their_label_is_lacking() -> None:
    table = build_table(["x", "x", "x", "x", "y", "y", "x", "y"], parts="112211..")
    assert images_of(split(table, {"1": 0.5, "2": 0.5}, keep_parts=True)) == {"1": "abef", "2": "cdgh"}


def test_new_images_go_where_their_relatives_are_even_if_the_part_is_full() -> None:
    table = build_table(["x"] * 8, groups="f......f", parts="111122..")
    parts = split(table, {"1": 0.5, "2": 0.5}, keep_parts=True, relatives=[{"b", "g"}])
    assert images_of(parts) == {"1": "abcdgh", "2": "ef"}
    assert groups_of(parts)["g"] == groups_of(parts)["b"] == "like b"


def test_a_group_in_two_parts_cannot_be_kept() -> None:
    table = build_table(["x"] * 8, groups="fggh.ff.", parts="121122..")
    with pytest.raises(DataError) as error:
        split(table, {"1": 0.5, "2": 0.5}, keep_parts=True)
    assert str(error.value) == (
        "table: 2 groups of images sit in several parts: f, g, expected relatives in one part. "
        "Correct the part column, or divide anew with --fresh."
    )
    assert len(split(table, {"1": 0.5, "2": 0.5})) == 2


def test_a_part_that_nobody_asked_for_cannot_be_kept() -> None:
    with pytest.raises(ConfigError) as error:
        split(build_table(["x"] * 4, parts="123."), {"1": 0.5, "4": 0.5}, keep_parts=True)
    assert str(error.value) == (
        "table: images are in parts that are not asked for: 2, 3, expected 1, 4. "
        "Name every part in --parts, give the --folds it was made with, or divide anew with --fresh."
    )


def test_a_part_that_no_new_image_can_fill_is_an_error() -> None:
    with pytest.raises(DataError) as error:
        split(build_table(["x"] * 5, parts="1111."), {"1": 0.4, "2": 0.3, "3": 0.3}, keep_parts=True)
    assert str(error.value) == (
        "table: too few images without a part to fill the parts that have none: 2, 3. "
        "Ask for the parts that DATA has, or divide anew with --fresh."
    )


def test_new_images_fill_the_parts_that_have_none_first() -> None:
    parts = split(build_table(["x"] * 6, parts="1111.."), {"1": 0.9, "2": 0.05, "3": 0.05}, keep_parts=True)
    assert [len(part) for part in parts.values()] == [4, 1, 1]


def test_a_table_that_is_placed_already_stays_as_it_is() -> None:
    table = build_table(["x", "y", "x", "y"], parts="2112")
    assert images_of(split(table, {"1": 0.5, "2": 0.5}, keep_parts=True)) == {"1": "bc", "2": "ad"}


# Every label in every part.


def count_lacking(table: Annotations, part_of: Mapping[str, str], names: list[str]) -> int:
    """Return how many pairs of a label that enough units have and a part without it there are."""
    num_lacking = 0
    for column in range(len(table.label_space)):
        holders = [
            record for record, has in zip(table.records, table.targets.present_NL()[:, column], strict=True) if has
        ]
        if len({record.group or record.id for record in holders}) >= len(names):
            num_lacking += len(set(names) - {part_of[record.id] for record in holders})
    return num_lacking


@pytest.mark.parametrize("seed", range(10))
def test_rare_labels_are_in_every_part(seed: int) -> None:
    # Ten labels of three images each, on 400 images: shares alone would put 2.1, 0.45 and 0.45 of them into the parts.
    rng = np.random.default_rng(seed)
    label_sets: list[list[int]] = [[0] if row % 2 else [] for row in range(400)]
    for label in range(1, 11):
        for row in rng.choice(400, 3, replace=False):
            label_sets[row].append(label)
    records = tuple(ImageRecord(f"{row}.jpg") for row in range(400))
    table = Annotations(records, Targets.from_columns(label_sets, 11), LabelSpace(tuple(map(str, range(11)))))
    parts = split(table, SHARES, seed=seed)
    assert all(share.got >= 1 for share in describe_split(parts, SHARES))
    assert [len(part) for part in parts.values()] == [280, 60, 60]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_images=st.integers(6, 14),
    num_labels=st.integers(1, 5),
    num_groups=st.sampled_from([0, 8]),
    shares=st.sampled_from([SHARES, {"a": 0.5, "b": 0.5}, {"a": 0.4, "b": 0.4, "c": 0.2}]),
    with_kept=st.booleans(),
)
def test_no_swap_would_bring_more_labels_into_parts_without_them(
    seed: int, num_images: int, num_labels: int, num_groups: int, shares: dict[str, float], with_kept: bool
) -> None:
    rng = np.random.default_rng(seed)
    table = build(num_images, num_labels, seed, num_groups)
    names = list(shares)
    units = sorted({record.group or record.id for record in table.records})
    if len(units) < 2 * len(names):
        return
    kept = dict(zip(rng.permutation(units)[: len(names)].tolist(), names, strict=True)) if with_kept else {}
    table = table.with_parts(
        {record.id: kept[record.group or record.id] for record in table.records if (record.group or record.id) in kept}
    )
    part_of = part_of_image(split(table, shares, seed=seed, keep_parts=True))
    best = count_lacking(table, part_of, names)
    members = {unit: [r.id for r in table.records if (r.group or r.id) == unit] for unit in units}
    part_of_unit = {unit: part_of[images[0]] for unit, images in members.items()}
    sizes = {name: sum(part == name for part in part_of.values()) for name in names}

    def has_room(part: str, num_taken: int) -> bool:
        return sizes[part] - num_taken < shares[part] * num_images

    free = [unit for unit in units if unit not in kept]
    for one, here in ((unit, part_of_unit[unit]) for unit in free):
        for there in (name for name in names if name != here):
            moved = part_of | dict.fromkeys(members[one], there)
            if has_room(there, 0) and sizes[here] > len(members[one]):
                assert count_lacking(table, moved, names) >= best
            for other in (unit for unit in free if part_of_unit[unit] == there):
                if has_room(there, len(members[other])) and has_room(here, len(members[one])):
                    assert count_lacking(table, moved | dict.fromkeys(members[other], here), names) >= best


# The sentences.


def test_the_reasons_why_labels_are_absent_are_told() -> None:
    table = build_table(["wx", "xyz", "yz", "y", "z", "."], groups="gggh..")
    table = table.align(LabelSpace((*table.label_space.names, "never")))
    parts = {"1": table.select([0, 1, 2, 4]), "2": table.select([3]), "3": table.select([5])}
    assert describe_absent_labels(parts) == [
        "Labels of fewer images than there are parts, so absent from some: w (1, none in 2, 3), x (2, none in 2, 3).",
        "Labels of fewer groups than there are parts, so absent from some: y (3, none in 3), z (3, none in 2, 3).",
        "No image has these labels: never.",
    ]


def test_a_label_that_no_room_was_left_for_is_told() -> None:
    table = build_table(["x", "x", "."])
    assert describe_absent_labels({"1": table.select([0, 1]), "2": table.select([2])}) == [
        "Labels of which a part has none, for want of room or because images keep their parts: x (2, none in 2)."
    ]
    assert describe_absent_labels({"1": table.select([0, 2]), "2": table.select([1])}) == []


# One turn of a cross-validation.


def test_a_fold_is_tested_and_the_others_train() -> None:
    table = build(50, 3)
    folds = split_folds(table, 5)
    turns = [choose_fold(folds, fold) for fold in range(5)]
    assert [list(turn) for turn in turns] == [["train", "test"]] * 5
    assert [turn["test"].images for turn in turns] == [fold.images for fold in folds.values()]
    for turn in turns:
        assert sorted(turn["train"].images + turn["test"].images) == sorted(table.images)
        assert {record.part for record in turn["train"].records} == {"train"}
        assert {record.part for record in turn["test"].records} == {"test"}


@pytest.mark.parametrize("fold", [-1, 5])
def test_a_fold_that_does_not_exist_is_refused(fold: int) -> None:
    with pytest.raises(ConfigError) as error:
        choose_fold(split_folds(build(50, 3), 5), fold)
    assert str(error.value) == f"--fold: no such fold, got {fold}, expected 0 to 4."
