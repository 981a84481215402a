"""Duplicates: exact and near ones are found, unrelated images are not, and nothing is quadratic."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from manylabel.data.annotations import Annotations, annotations_from_arrays
from manylabel.data.demo import write_demo
from manylabel.data.duplicates import Relatives, find_duplicate_findings, find_near_pairs, find_relatives
from manylabel.data.formats.detect import load_annotations
from manylabel.data.scan import ImageFacts, scan_images

COCO = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "coco128"


def draw(number: int, side: int = 96) -> Image.Image:
    """Return a picture with structure at several scales."""
    rng = np.random.default_rng(number)
    layers = [Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)) for cells in (3, 6, 12)]
    large = [np.asarray(layer.resize((side, side), Image.Resampling.BICUBIC), np.float32) for layer in layers]
    return Image.fromarray(np.mean(large, axis=0).astype(np.uint8))


def encode_again(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=60)
    return Image.open(stream).convert("RGB")


def look(*images: Image.Image) -> list[ImageFacts]:
    return scan_images(build_table(*images))


def build_table(*images: Image.Image) -> Annotations:
    return annotations_from_arrays([np.asarray(image) for image in images], [["dog"]] * len(images))


def find_by_brute_force(bits_N: npt.NDArray[np.uint64], other_N: npt.NDArray[np.uint64]) -> set[tuple[int, int]]:
    return {
        (min(row, other), max(row, other))
        for row in range(len(bits_N))
        for other in range(len(bits_N))
        if row != other and int(bits_N[row] ^ other_N[other]).bit_count() <= 7
    }


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda image: image.resize((48, 48), Image.Resampling.BICUBIC), id="half the size"),
        pytest.param(lambda image: image.resize((200, 150), Image.Resampling.BICUBIC), id="larger, another shape"),
        pytest.param(encode_again, id="encoded again"),
        pytest.param(ImageOps.mirror, id="mirrored"),
        pytest.param(lambda image: encode_again(ImageOps.mirror(image)), id="mirrored and encoded again"),
    ],
)
def test_the_same_picture_is_found_however_it_was_changed(change: object) -> None:
    assert callable(change)
    facts = look(draw(1), draw(2), change(draw(1)), draw(3))
    assert find_relatives(facts) == [Relatives((0, 2), "near")]


def test_equal_files_are_exact_and_may_show_nothing() -> None:
    black, grey = Image.new("RGB", (64, 64)), Image.new("RGB", (64, 64), (9, 9, 9))
    assert find_relatives(look(black, draw(1), grey, black)) == [Relatives((0, 3), "exact")]


def test_relatives_of_relatives_are_one_group() -> None:
    facts = look(draw(1), encode_again(draw(1)), ImageOps.mirror(draw(1)), draw(1))
    assert find_relatives(facts) == [Relatives((0, 1, 2, 3), "near")]


def test_the_search_finds_what_comparing_all_pairs_finds() -> None:
    rng = np.random.default_rng(0)
    bits_N = rng.integers(0, 2**64, 300, dtype=np.uint64)
    for row in range(0, 300, 3):  # relatives at distances 0 to 9
        flips = sum(1 << int(bit) for bit in rng.choice(64, row // 3 % 10, replace=False))
        bits_N[row + 1] = bits_N[row] ^ np.uint64(flips)
    distinct = np.unique(bits_N)
    found = {tuple(pair) for pair in find_near_pairs(distinct).tolist()}
    assert found == find_by_brute_force(distinct, distinct)
    assert len(found) > 50
    mirror_N = rng.permutation(distinct)
    assert {tuple(pair) for pair in find_near_pairs(distinct, mirror_N).tolist()} == find_by_brute_force(
        distinct, mirror_N
    )


def test_a_hundred_thousand_equal_hashes_give_as_many_pairs() -> None:
    pairs = find_near_pairs(np.full(100_000, 7, np.uint64))
    assert len(pairs) == 99_999
    assert (pairs[:, 0] == 0).all()


def test_no_hash_no_pair() -> None:
    assert find_near_pairs(np.zeros(0, np.uint64)).shape == (0, 2)
    assert find_relatives([]) == []


def test_an_image_that_cannot_be_read_has_no_relatives() -> None:
    assert find_relatives([ImageFacts("a", "broken", "broken"), ImageFacts("b", "broken", "broken")]) == []


def test_drawings_on_the_same_paper_are_no_relatives(tmp_path: Path) -> None:
    write_demo(tmp_path, num_images={"train": 500, "val": 50, "test": 50})
    table = load_annotations(tmp_path / "labels.csv")
    assert [group for group in find_relatives(scan_images(table)) if group.kind == "near"] == []


@pytest.mark.parametrize("is_mirrored", [False, True])
def test_the_same_shape_in_another_colour_is_another_picture(is_mirrored: bool) -> None:
    blue, red = (40, 70, 190), (160, 35, 40)  # equally bright
    images = [Image.new("RGB", (60, 40), (210, 210, 210)) for _ in range(2)]
    for image, colour in zip(images, (blue, red), strict=True):
        image.paste(colour, (5, 8, 25, 20))
    turned = ImageOps.mirror(images[1]) if is_mirrored else images[1]
    assert find_relatives(look(images[0], turned)) == []
    assert find_relatives(look(images[0], ImageOps.mirror(images[0]))) == [Relatives((0, 1), "near")]


def test_findings_say_what_duplicates_do() -> None:
    table = build_table(draw(1), draw(2), encode_again(draw(1)), draw(2))
    facts = scan_images(table)
    table = table.with_parts(dict(zip(table.images, ("train", "train", "test", "train"), strict=True)))
    findings = list(find_duplicate_findings(table, facts))
    assert [(finding.severity, finding.kind, finding.rows) for finding in findings] == [
        ("error", "duplicate-in-two-parts", ("arrays/00000", "arrays/00002")),
        ("note", "exact-duplicate", ("arrays/00001", "arrays/00003")),
        ("note", "near-duplicate", ("arrays/00000", "arrays/00002")),
    ]
    assert findings[1].message == "Files that are equal byte by byte: 1 (arrays/00001 = arrays/00003)."
    other = annotations_from_arrays([record.pixels for record in table.records], [["a"], ["a"], ["b"], ["a"]])  # type: ignore[misc]
    kinds = {finding.kind: finding.rows for finding in find_duplicate_findings(other, facts)}
    assert kinds["contradicting-duplicates"] == ("arrays/00000", "arrays/00002")


def test_a_label_that_is_unknown_once_contradicts_nothing() -> None:
    table = build_table(draw(1), draw(1))
    facts = scan_images(table)
    unknown = replace(table, targets=table.targets.from_columns([[0], []], 1, [[], [0]]))
    assert {finding.kind for finding in find_duplicate_findings(unknown, facts)} == {"exact-duplicate"}


@pytest.mark.skipif(not COCO.is_dir(), reason="the real photographs are not beside this checkout")
def test_photographs_changed_are_found_and_others_left_alone() -> None:
    images = [Image.open(path).convert("RGB") for path in sorted(COCO.rglob("*.jpg"))[:40]]
    changed = [
        encode_again(image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)) for image in images
    ]
    groups = find_relatives(look(*images, *changed))
    assert [group.rows for group in groups] == [(row, row + 40) for row in range(40)]
