from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.checks import find_findings
from manylabel.data.cures import CURES, DECIDED_BY_READING, CuredTable, cure_findings, merge_labels
from manylabel.data.duplicates import find_duplicate_findings
from manylabel.data.findings import FINDING_KINDS, build_finding
from manylabel.data.perceptual_hash import COLOUR_SIDE_PX, THUMBNAIL_SIDE_PX
from manylabel.data.regions import Region
from manylabel.data.scan import ImageFacts
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


def test_without_a_label_left_there_is_no_table() -> None:
    with pytest.raises(DataError, match="no image has any label, so no label would be left"):
        cure_findings(build([[0, -1]], "a", "b"), [build_finding("label-without-positive", "...", ["a", "b"])])


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


def facts_of(**digest_of: str) -> list[ImageFacts]:
    """Return facts of images by their digests; images of one letter show the same picture, `A` and `a` resized."""
    rng = {letter: np.random.default_rng(ord(letter)).integers(0, 256, 4096, np.uint8) for letter in "abcdefgh"}
    facts = []
    for name, digest in digest_of.items():
        pixels = rng[digest[0].lower()]
        bits = int.from_bytes(pixels[:8].tobytes(), "big")
        mirror = int.from_bytes(pixels[8:16].tobytes(), "big")
        thumbnail = pixels[: THUMBNAIL_SIDE_PX**2 + 2 * COLOUR_SIDE_PX**2].tobytes()
        facts.append(
            ImageFacts(f"{name[1:]}.jpg", digest=digest, hash_bits=bits, mirror_bits=mirror, thumbnail=thumbnail)
        )
    return facts


def cure(table: Annotations, facts: list[ImageFacts]) -> CuredTable:
    found = [*find_findings(table), *find_duplicate_findings(table, facts)]
    return cure_findings(table, found, facts)


def test_of_equal_files_one_is_kept_and_a_contradiction_becomes_unknown() -> None:
    table = build([[1, 0, 0], [0, 1, 1], [1, -1, 0], [1, 0, 1], [-1, -1, 1]], "a", "b", "c")
    cured = cure(table, facts_of(_0="a", _1="b", _2="c", _3="a", _4="c"))
    assert cured.annotations.images == ("0.jpg", "1.jpg", "2.jpg")
    assert read(cured.annotations) == [[1, 0, -1], [0, 1, 1], [1, -1, -1]]  # c: 0 and 1 contradict each other
    assert cured.changes[0] == (
        "Removed 2 images of which an equal copy is kept: 3.jpg, 4.jpg. "
        "Made unknown what the copies of 2 images contradict each other on."
    )
    assert not {"contradicting-duplicates", "exact-duplicate"} & {finding.kind for finding in cured.left}


def test_the_copy_that_judges_is_kept() -> None:
    table = build([[1, 0], [1, 0], [0, 1], [0, 1]], "a", "b").with_parts(
        {"0.jpg": "train", "1.jpg": "test", "2.jpg": "val", "3.jpg": "train"}
    )
    facts = facts_of(_0="a", _1="a", _2="b", _3="b")
    found = {finding.kind for finding in find_duplicate_findings(table, facts)}
    assert found == {"duplicate-in-two-parts", "exact-duplicate"}
    cured = cure(table, facts)
    assert cured.annotations.images == ("1.jpg", "2.jpg")
    assert [record.part for record in cured.annotations.records] == ["test", "val"]
    assert "duplicate-in-two-parts" not in {finding.kind for finding in cured.left}


def test_images_of_one_picture_get_a_group_and_groups_they_had_are_joined() -> None:
    table = build([[1, 0], [1, 0], [0, 1], [1, 1], [0, 1], [1, 0], [0, 1]], "a", "b")
    groups = [None, "x", "y", None, None, "y", None]
    records = tuple(replace(record, group=group) for record, group in zip(table.records, groups, strict=True))
    # 0 and 4 show a picture, 1 and 2 another; 5 is in the group of 2.
    facts = facts_of(_0="a", _1="b", _2="B", _3="c", _4="A", _5="d", _6="e")
    cured = cure(replace(table, records=records), facts)
    assert [record.group for record in cured.annotations.records] == [
        "0.jpg", "x", "x", None, "0.jpg", "x", None,
    ]  # fmt: skip
    assert cured.changes == ("Gave 4 images that show 2 pictures a common group: 0.jpg = 4.jpg, 1.jpg = 2.jpg.",)
    assert "contradicting-duplicates" in {finding.kind for finding in cured.left}


def test_without_facts_nothing_is_said_of_duplicates() -> None:
    table = build([[1, 0], [0, 1]] * 6, "a", "b")
    assert cure_findings(table, find_findings(table)).left == ()
