"""Handwritten digits composed into images: a fair truth, parts that share no scan, the same data for the same seed."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manylabel.data import demo
from manylabel.errors import ConfigError, DataError, ManylabelError

PARTS = {"train": 30, "val": 8, "test": 8}

PINNED = """\
image,labels,part
images/test-00001.png,3|6|8|9,test
images/test-00002.png,,test
images/train-00001.png,3|5|8|9,train
images/train-00002.png,2|8|9,train
images/train-00003.png,2|5|8,train
"""


@pytest.fixture(scope="module")
def scans() -> tuple[np.ndarray, np.ndarray]:
    return demo.load_scans()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo.write_demo(tmp_path_factory.mktemp("demo"), num_images=PARTS, seed=3)


def read_rows(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def make_bars(number: int) -> np.ndarray:
    """Scans with a vertical bar three pixels wide: easy to find again in a picture."""
    bars = np.zeros((number, 8, 8))
    bars[:, :, 3:6] = 16
    return bars


# --- what is written


def test_the_table_has_one_sorted_row_per_image_and_the_images_exist(table: Path) -> None:
    rows = read_rows(table)
    names = [row["image"] for row in rows]
    assert table.name == "labels.csv"
    assert list(rows[0]) == ["image", "labels", "part"]
    assert names == sorted(names)
    assert "images/train-00001.png" in names
    assert {part: sum(row["part"] == part for row in rows) for part in PARTS} == PARTS
    assert all(row["image"].startswith(f"images/{row['part']}-") for row in rows)
    assert {f"images/{path.name}" for path in (table.parent / "images").iterdir()} == set(names)


def test_every_image_is_a_small_colour_png(table: Path) -> None:
    for row in read_rows(table):
        with Image.open(table.parent / row["image"]) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "RGB", (demo.CANVAS_PX, demo.CANVAS_PX))


def test_the_table_is_utf_8_with_unix_line_ends_and_leaves_no_unfinished_file(table: Path) -> None:
    text = table.read_bytes()
    assert b"\r" not in text
    assert text.endswith(b"\n")
    assert text.decode("utf-8").startswith("image,labels,part\n")
    assert [path.name for path in table.parent.iterdir() if path.name != "images"] == ["labels.csv"]


def test_labels_are_sorted_and_named_once_even_when_a_digit_is_written_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose_three_two_three(rows_by_digit: list[np.ndarray], _rng: np.random.Generator) -> list[int]:
        return [int(rows_by_digit[3][0]), int(rows_by_digit[2][0]), int(rows_by_digit[3][1])]

    monkeypatch.setattr(demo, "choose_scans", choose_three_two_three)
    [row] = read_rows(demo.write_demo(tmp_path, num_images={"val": 1}))
    assert row == {"image": "images/val-00001.png", "labels": "2|3", "part": "val"}


def test_the_truth_of_every_row_is_the_set_of_the_scans_that_were_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scans: tuple[np.ndarray, np.ndarray]
) -> None:
    scans_S, digits_S = scans
    digit_of = {scan.tobytes(): str(digit) for scan, digit in zip(scans_S, digits_S, strict=True)}
    drawn: list[set[str]] = []
    compose = demo.compose_image

    def compose_and_note(scans_S: np.ndarray, rng: np.random.Generator) -> Image.Image:
        drawn.append({digit_of[scan.tobytes()] for scan in scans_S})
        return compose(scans_S, rng)

    monkeypatch.setattr(demo, "compose_image", compose_and_note)
    rows = read_rows(demo.write_demo(tmp_path, num_images={"train": 40}))
    assert [set(row["labels"].split("|")) - {""} for row in rows] == drawn
    assert set() in drawn, "an image without a digit is part of the data"


def test_progress_is_told_after_every_image(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    demo.write_demo(
        tmp_path, num_images={"val": 2, "test": 1}, on_progress=lambda done, total: told.append((done, total))
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


# --- the same seed, the same data


def test_the_same_seed_gives_the_same_table_and_the_same_pixels(table: Path, tmp_path: Path) -> None:
    again = demo.write_demo(tmp_path, num_images=PARTS, seed=3)
    assert again.read_bytes() == table.read_bytes()
    for row in read_rows(table):
        assert pixels(again.parent / row["image"]) == pixels(table.parent / row["image"])


def test_another_seed_gives_other_labels(table: Path, tmp_path: Path) -> None:
    assert demo.write_demo(tmp_path, num_images=PARTS, seed=4).read_bytes() != table.read_bytes()


def test_asking_for_more_images_or_fewer_parts_changes_no_image(table: Path, tmp_path: Path) -> None:
    more = demo.write_demo(tmp_path, num_images={"train": PARTS["train"] + 5}, seed=3)
    rows = {row["image"]: row for row in read_rows(more)}
    for row in read_rows(table):
        if row["part"] == "train":
            assert rows[row["image"]] == row
            assert pixels(more.parent / row["image"]) == pixels(table.parent / row["image"])


def test_the_labels_of_a_seed_stay_the_same_from_release_to_release(tmp_path: Path) -> None:
    # Written down on Linux: a change here changes everybody's demo and its figures in the docs.
    table = demo.write_demo(tmp_path, num_images={"train": 3, "test": 2}, seed=0)
    assert table.read_text(encoding="utf-8") == PINNED


# --- nothing leaks from one part into another


def test_no_scan_is_in_two_parts_and_every_scan_is_in_one(scans: tuple[np.ndarray, np.ndarray]) -> None:
    _, digits_S = scans
    rows_by_part = demo.divide_scans(digits_S, seed=0)
    every = np.concatenate([rows for by_digit in rows_by_part.values() for rows in by_digit])
    assert sorted(every.tolist()) == list(range(1797))


def test_every_digit_is_divided_in_the_same_shares(scans: tuple[np.ndarray, np.ndarray]) -> None:
    _, digits_S = scans
    for part, rows_by_digit in demo.divide_scans(digits_S, seed=0).items():
        for digit, rows in enumerate(rows_by_digit):
            assert (digits_S[rows] == digit).all()
            assert abs(len(rows) - demo.PART_SHARES[part] * (digits_S == digit).sum()) <= 1


def test_no_two_scans_are_pixel_for_pixel_the_same(scans: tuple[np.ndarray, np.ndarray]) -> None:
    # Otherwise a copy of a training scan could stand in a test image although the rows differ.
    assert len({scan.tobytes() for scan in scans[0]}) == len(scans[0])


def test_digits_are_equally_likely_and_a_fifteenth_of_the_images_is_empty(scans: tuple[np.ndarray, np.ndarray]) -> None:
    _, digits_S = scans
    rows_by_digit = demo.divide_scans(digits_S, seed=0)["train"]
    rng = np.random.default_rng(0)
    chosen = [demo.choose_scans(rows_by_digit, rng) for _ in range(4000)]
    counts = np.bincount([len(rows) for rows in chosen], minlength=5) / len(chosen)
    # Five standard errors of a share of 4,000 images are at most 0.04.
    np.testing.assert_allclose(counts, demo.COUNT_SHARES, atol=0.04)
    assert 0.05 < counts[0] < 0.09
    digits = np.bincount(digits_S[[row for rows in chosen for row in rows]], minlength=10)
    np.testing.assert_allclose(digits / digits.sum(), 0.1, atol=0.02)


# --- the picture


def test_an_empty_sheet_is_one_plain_colour() -> None:
    image = demo.compose_image(np.zeros((0, 8, 8)), np.random.default_rng(0))
    assert [count for count, _ in image.getcolors() or []] == [demo.CANVAS_PX**2]


@pytest.mark.parametrize("number", [1, 2, 3, 4], ids=lambda number: f"{number} digits")
def test_nearly_always_as_many_separate_marks_are_seen_as_scans_were_drawn(number: int) -> None:
    measure = pytest.importorskip("scipy.ndimage", reason="comes with scikit-learn")
    separate = 0
    for seed in range(40):
        image = demo.compose_image(make_bars(number), np.random.default_rng(seed), coloured=False)
        dark = np.asarray(image.convert("L")) < 100
        separate += measure.label(dark, np.ones((3, 3)))[1] == number
    # A stroke may graze another one now and then, as in handwriting; in one sheet of ten it would be too often.
    assert separate >= 36


def test_ink_covers_hardly_any_earlier_ink(scans: tuple[np.ndarray, np.ndarray]) -> None:
    for seed in range(60):
        rng = np.random.default_rng(seed)
        places = demo.place_scans(scans[0][rng.integers(1797, size=4)], rng, demo.CANVAS_PX)
        if places is None:
            continue
        layers = np.zeros((len(places), demo.CANVAS_PX, demo.CANVAS_PX))
        for layer, (ink, top, left) in zip(layers, places, strict=True):
            layer[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
        for later in range(1, len(layers)):
            hidden = np.minimum(layers[later], layers[:later].max(axis=0)).sum()
            assert hidden <= demo.MAX_HIDDEN_SHARE * layers[later].sum()


def test_digits_stay_one_pixel_away_from_the_edge(scans: tuple[np.ndarray, np.ndarray]) -> None:
    for seed in range(60):
        rng = np.random.default_rng(seed)
        image = demo.compose_image(scans[0][rng.integers(1797, size=3)], rng)
        edge = np.asarray(image).copy()
        paper = edge[0, 0].copy()
        edge[1:-1, 1:-1] = paper
        assert (edge == paper).all()


def test_a_scan_drawn_upright_and_eight_times_larger_keeps_its_shape() -> None:
    # A square of ink in rows 2 to 5 and columns 2 to 5 of a scan is 32 x 32 px, less the soft edge.
    square = np.zeros((8, 8))
    square[2:6, 2:6] = 16
    ink_HW = demo.draw_scan(square, size_px=64, angle_degrees=0)
    assert abs(ink_HW.shape[0] - 32) <= 4
    assert ink_HW.shape[0] == ink_HW.shape[1]
    assert ink_HW.max() == 255
    np.testing.assert_array_equal(ink_HW, ink_HW[::-1])
    np.testing.assert_array_equal(ink_HW, ink_HW[:, ::-1])


def test_a_turned_bar_leans_by_the_angle_that_was_asked_for() -> None:
    [bar] = make_bars(1)
    ink_HW = demo.draw_scan(bar, size_px=80, angle_degrees=10)
    middles = [np.flatnonzero(row > 127).mean() for row in ink_HW[20:-20]]
    slope = np.polyfit(np.arange(len(middles)), middles, 1)[0]
    assert abs(abs(np.degrees(np.arctan(slope))) - 10) < 1


def test_a_scan_without_ink_is_drawn_as_nothing() -> None:
    image = demo.compose_image(np.zeros((2, 8, 8)), np.random.default_rng(0))
    assert len(image.getcolors() or []) == 1


def test_too_many_digits_for_the_canvas_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^compose_image: 40 digits do not fit on 48 x 48 px\. Draw fewer digits"):
        demo.compose_image(make_bars(40), np.random.default_rng(0))


# --- wrong use


@pytest.mark.parametrize(
    ("num_images", "seed", "message"),
    [
        pytest.param(
            {"tset": 3},
            0,
            r"num_images: unknown part \(did you mean 'test'\?\), got 'tset', expected train, val, test\.",
            id="a part that does not exist",
        ),
        pytest.param(
            {"train": 0},
            0,
            r"num_images: too few images for the part 'train', got 0, expected 1 or more\. Leave the part out",
            id="no image asked for",
        ),
        pytest.param({}, 0, r"num_images: no part to write, expected train, val, test\.", id="no part at all"),
        pytest.param({"train": 1}, -1, r"seed: below zero, got -1, expected 0 or more\.", id="a seed below zero"),
    ],
)
def test_wrong_numbers_are_refused_before_anything_is_written(
    tmp_path: Path, num_images: dict[str, int], seed: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        demo.write_demo(tmp_path / "demo", num_images=num_images, seed=seed)
    assert not (tmp_path / "demo").exists()


def test_files_that_would_be_left_over_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "cat.png").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"images: holds files that are not part of this demo \(cat\.png\)\. Choose"):
        demo.write_demo(tmp_path, num_images={"train": 1})
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["cat.png", "images"]


def test_a_file_in_the_place_of_the_folder_of_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"images: is a file, expected a folder\. Choose another folder\."):
        demo.write_demo(tmp_path, num_images={"train": 1})


def test_without_scikit_learn_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(
        ManylabelError, match=r'scikit-learn, which is not installed\. .* pip install "manylabel\[train\]"'
    ):
        demo.write_demo(tmp_path / "demo", num_images={"train": 1})
    assert not (tmp_path / "demo").exists()
