"""Places: regions of records as shares of the image, and what crops do to the truth of a table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from manylabel.augment.crops import find_cut_columns
from manylabel.augment.presets import AugmentSettings, build_augmentation
from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.preprocess import Preprocess
from manylabel.data.regions import Mask, Region
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets
from manylabel.training.loading import ImageDataset
from manylabel.training.places import RegionPlaces, find_corners

WHITE_BOX = (10.0, 10.0, 20.0, 15.0)
"""Left, top, width and height of the white object in an image of 200 x 100 pixels."""


def build_table(regions: tuple[Region, ...], num_images: int = 1, columns: tuple[int, ...] = (0,)) -> Annotations:
    """Return black images with a white object above left; labels a, b, c."""
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[10:25, 10:30] = 255
    records = tuple(ImageRecord(f"{row}.png", pixels=pixels, regions=regions) for row in range(num_images))
    return Annotations(records, Targets.from_columns([list(columns)] * num_images, 3), LabelSpace(("a", "b", "c")))


def truth(*columns: int) -> torch.Tensor:
    return torch.tensor([float(column in columns) for column in range(3)])


def test_boxes_polygons_and_masks_become_shares_of_the_image() -> None:
    pixels = np.zeros((100, 200), bool)
    pixels[50:60, 100:140] = True
    regions = (
        Region("a", WHITE_BOX),
        Region("b", polygons_px=((20, 30, 60, 30, 60, 80),)),
        Region("c", mask=Mask.from_pixels(pixels)),
    )
    places = RegionPlaces(build_table(regions, columns=(0, 1, 2))).find(0, truth(0, 1, 2))
    assert places.columns_R.tolist() == [0, 1, 2]
    assert places.boxes_R4.tolist() == [
        pytest.approx([0.05, 0.1, 0.15, 0.25]),
        pytest.approx([0.1, 0.3, 0.3, 0.8]),
        pytest.approx([0.5, 0.5, 0.7, 0.6]),
    ]


def test_what_says_nothing_of_a_present_label_is_left_out() -> None:
    regions = (
        Region("b", WHITE_BOX),  # a label that the image has not
        Region("z", WHITE_BOX),  # not in the label space
        Region("a"),  # without a place
        Region("a", (5, 5, 0, 10)),  # without area
        Region("a", (300, 5, 10, 10)),  # outside the image
        Region("a", (190, 90, 50, 50)),  # partly outside: cut at the edge
    )
    places = RegionPlaces(build_table(regions)).find(0, truth(0))
    assert places.columns_R.tolist() == [0]
    assert places.boxes_R4.tolist() == [pytest.approx([0.95, 0.9, 1.0, 1.0])]
    assert find_corners(Region("a", (1, 2, 3, 4))) == (1, 2, 4, 6)


def test_only_labels_with_a_place_in_every_image_can_be_dropped() -> None:
    table = build_table((Region("a", WHITE_BOX), Region("b", WHITE_BOX)), num_images=2, columns=(0, 1))
    bare = replace(table.records[1], regions=(Region("a", WHITE_BOX), Region("b")))
    table = replace(table, records=(table.records[0], bare))
    assert RegionPlaces(table).can_drop_L.tolist() == [True, False, True]


@pytest.mark.parametrize("orientation", [1, 6])
def test_places_hold_for_a_large_jpeg_that_is_decoded_small_and_turned(tmp_path: Path, orientation: int) -> None:
    """The regions are in pixels of the upright file, 1600 x 800; decoding gives a quarter of it or less."""
    pixels = np.zeros((800, 1600, 3), np.uint8)
    pixels[600:760, 1200:1520] = 255
    stored = Image.fromarray(pixels)
    if orientation == 6:  # stored turned to the left, shown turned to the right
        stored = stored.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "large.jpg", exif=exif)
    record = ImageRecord("large.jpg", str(tmp_path / "large.jpg"), regions=(Region("a", (1200, 600, 320, 160)),))
    table = Annotations((record,), Targets.from_columns([[0]], 1), LabelSpace(("a",)))
    places = RegionPlaces(table).find(0, torch.ones(1))
    assert places.boxes_R4.tolist() == [pytest.approx([0.75, 0.75, 0.95, 0.95])]
    preprocess = Preprocess(height_px=32, width_px=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    dataset = ImageDataset(table, preprocess, build_augmentation(AugmentSettings(crop=0.05), preprocess))
    for seed in range(30):
        example = dataset[0, seed]
        assert example.pixels_CHW is not None
        assert float(example.pixels_CHW.max()) > 0, "the object was cut out"


def build_dataset(table: Annotations, regions: str) -> ImageDataset:
    preprocess = Preprocess(height_px=32, width_px=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return ImageDataset(table, preprocess, build_augmentation(AugmentSettings(crop=0.05, regions=regions), preprocess))


def test_keep_never_cuts_a_label_out_and_ignore_does() -> None:
    table = build_table((Region("a", WHITE_BOX),))
    shown = {
        regions: [float(build_dataset(table, regions)[0, seed].pixels_CHW.max()) > 0 for seed in range(60)]  # type: ignore[union-attr]
        for regions in ("keep", "ignore")
    }
    assert all(shown["keep"])
    assert sum(shown["ignore"]) < 40


def test_drop_claims_a_label_only_where_its_object_is_seen() -> None:
    dataset = build_dataset(build_table((Region("a", WHITE_BOX),)), "drop")
    states = set()
    for seed in range(150):
        example = dataset[0, seed]
        assert example.pixels_CHW is not None
        state = (float(example.truth_L[0]), bool(example.known_L[0]))
        states.add(state)
        is_anything_seen = float(example.pixels_CHW.max()) > -1  # black is -1
        assert is_anything_seen == (state != (0.0, True))
    assert states == {(1.0, True), (0.0, True), (0.0, False)}
    assert dataset[0].truth_L.tolist() == [1, 0, 0]  # as validation sees it: whole


def test_drop_leaves_a_label_whose_regions_are_not_complete() -> None:
    table = build_table((Region("a", WHITE_BOX),), num_images=2)
    table = replace(table, records=(table.records[0], replace(table.records[1], regions=())))
    dataset = build_dataset(table, "drop")
    assert all(dataset[0, seed].truth_L[0] == 1 and dataset[0, seed].known_L[0] for seed in range(60))


def test_a_table_without_regions_costs_nothing() -> None:
    assert build_dataset(build_table(()), "keep").places is None
    assert build_dataset(build_table((Region("a", WHITE_BOX),)), "ignore").places is None
    assert find_cut_columns(RegionPlaces(build_table(())).find(0, truth(0)), (0.5, 0.5, 1, 1)) == []
