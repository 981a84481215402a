from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.checks import find_findings
from manylabel.data.cures import CURES, DECIDED_BY_READING, cure_findings, merge_labels
from manylabel.data.findings import FINDING_KINDS, build_finding
from manylabel.data.regions import Region
from manylabel.errors import DataError
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets


def build(states: Sequence[Sequence[int]], *names: str) -> Annotations:
    records = tuple(ImageRecord(f"{row}.jpg") for row in range(len(states)))
    return Annotations(records, Targets.from_dense(np.array(states)), LabelSpace(names))


def read(table: Annotations) -> list[list[int]]:
    targets = table.targets
    states: list[list[int]] = np.where(targets.known_NL(), targets.present_NL().astype(int), -1).tolist()
    return states


def test_every_cure_is_of_a_known_kind_and_notes_alone_need_none() -> None:
    assert {*CURES, *DECIDED_BY_READING} <= set(FINDING_KINDS)
    assert not {*CURES} & {*DECIDED_BY_READING}


@pytest.mark.parametrize("kind", [kind for kind in CURES if "image" in kind and kind != "image-in-two-parts"])
def test_images_that_cannot_be_used_are_removed(kind: str) -> None:
    table = build([[1, 0], [0, 1], [1, 1]], "a", "b")
    cured = cure_findings(table, [build_finding(kind, "...", ["1.jpg"])])
    assert cured.annotations.images == ("0.jpg", "2.jpg")
    assert read(cured.annotations) == [[1, 0], [1, 1]]
    assert cured.changes[0] == f"Removed 1 image ({kind}): 1.jpg."
    assert len(table) == 3


def test_an_image_found_twice_is_removed_once() -> None:
    table = build([[1, 0], [0, 1], [1, 1]], "a", "b")
    findings = [build_finding("image-missing", "...", ["1.jpg"]), build_finding("missing-image", "...", ["1.jpg"])]
    cured = cure_findings(table, findings)
    assert len(cured.annotations) == 2
    assert cured.changes == ("Removed 1 image (missing-image): 1.jpg.",)


def test_without_an_image_left_there_is_no_table() -> None:
    with pytest.raises(DataError, match="no image with a label is left without the unusable ones"):
        cure_findings(build([[1]], "a"), [build_finding("image-empty", "...", ["0.jpg"])])


def test_a_merged_label_is_present_where_one_is_and_unknown_where_all_are() -> None:
    states = [[1, 0, 1], [0, 1, 0], [0, -1, 0], [-1, 0, 0], [1, -1, 0], [-1, -1, 1], [0, 0, 0], [1, 1, 0]]
    merged = merge_labels(build(states, "Dog", "dog", "cat"), {"Dog": "dog"})
    assert merged.label_space.names == ("dog", "cat")
    assert read(merged) == [[1, 1], [1, 0], [0, 0], [0, 0], [1, 0], [-1, 1], [0, 0], [1, 0]]


def test_merging_far_columns_and_several_spellings_at_once() -> None:
    names = [f"label {place}" for place in range(20)]
    states = np.zeros((3, 20), int)
    states[0, 2] = states[1, 9] = states[2, 17] = 1
    merged = merge_labels(build(states.tolist(), *names), {"label 2": "label 17", "label 9": "label 17"})
    assert len(merged.label_space) == 18
    assert merged.labels_of(0) == merged.labels_of(1) == merged.labels_of(2) == ["label 17"]


def test_regions_follow_a_merged_label() -> None:
    table = build([[1, 0]], "Dog", "dog")
    record = replace(table.records[0], regions=(Region("Dog", (0, 0, 2, 2)), Region("dog", (1, 1, 2, 2))))
    merged = merge_labels(replace(table, records=(record,)), {"Dog": "dog"})
    assert [region.label for region in merged.records[0].regions] == ["dog", "dog"]


def test_spellings_of_one_label_become_the_frequent_one_and_empty_labels_go() -> None:
    table = build([[1, 0, 0], [0, 1, 0], [0, 1, 0]], "sci fi", "Sci-Fi", "war")
    cured = cure_findings(table, find_findings(table))
    assert cured.annotations.label_space.names == ("Sci-Fi",)
    assert read(cured.annotations) == [[1], [1], [1]]
    assert cured.changes == ("Renamed labels: 'sci fi' to 'Sci-Fi'.", "Removed 1 label that no image has: war.")
    assert [finding.kind for finding in cured.left] == ["label-without-negative", "rare-label"]


def test_a_label_whose_only_image_is_removed_goes_too() -> None:
    table = build([[1, 0], [1, 0], [0, 1]], "a", "b")
    cured = cure_findings(table, [*find_findings(table), build_finding("image-broken", "...", ["2.jpg"])])
    assert cured.annotations.label_space.names == ("a",)
    assert cured.changes == ("Removed 1 image (image-broken): 2.jpg.", "Removed 1 label that no image has: b.")


def test_what_reading_decided_is_said_and_what_has_no_cure_is_left() -> None:
    table = build([[1, 0], [0, 1]] * 6, "motocycle", "motorcycle")
    noticed = (
        build_finding("repeated-image", "...", ["0.jpg", "1.jpg"]),
        build_finding("contradicting-rows", "...", ["2.jpg"]),
        build_finding("image-in-two-parts", "...", ["2.jpg"]),
    )
    table = replace(table, findings=noticed)
    cured = cure_findings(table, find_findings(table))
    assert cured.changes == (
        "Made one row of the rows of 2 images: 0.jpg, 1.jpg.",
        "Made unknown what the rows of 1 image contradict each other on: 2.jpg.",
        "Chose the part of the first row for 1 image: 2.jpg.",
    )
    assert [finding.kind for finding in cured.left] == ["similar-labels"]
    assert cured.annotations.label_space == table.label_space
