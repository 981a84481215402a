"""Augmentation: each part does what it says on an image whose pixels tell where they came from."""

from __future__ import annotations

import pickle
import random
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from manylabel.augment.presets import PRESETS, AugmentSettings, build_augmentation, parse_augment
from manylabel.data.preprocess import Preprocess
from manylabel.errors import ConfigError

SIZE = 32
GREY = 128
PREPROCESS = Preprocess(height_px=SIZE, width_px=SIZE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def quarters() -> Image.Image:
    """Red above left, green above right, blue below left, white below right."""
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    half = SIZE // 2
    pixels[:half, :half, 0] = pixels[:half, half:, 1] = pixels[half:, :half, 2] = 255
    pixels[half:, half:] = 255
    return Image.fromarray(pixels)


def ramp(width: int = 64, height: int = 64) -> Image.Image:
    """Red says how far to the right a pixel was, green how far below."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)[None, :]
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


def change(image: Image.Image, seed: int = 0, preprocess: Any = PREPROCESS, **settings: float) -> npt.NDArray[np.uint8]:
    torch.manual_seed(seed)
    return np.asarray(build_augmentation(AugmentSettings(**settings), preprocess)(image))


def test_none_is_exactly_the_preprocessing() -> None:
    image = ramp(57, 91)
    changed = build_augmentation(PRESETS["none"], PREPROCESS)(image)
    assert np.array_equal(np.asarray(changed), np.asarray(PREPROCESS.resize_image(image)))


def test_a_horizontal_flip_swaps_left_and_right() -> None:
    assert np.array_equal(change(quarters(), horizontal_flip=1.0), np.asarray(quarters())[:, ::-1])


def test_a_vertical_flip_swaps_above_and_below() -> None:
    assert np.array_equal(change(quarters(), vertical_flip=1.0), np.asarray(quarters())[::-1])


@pytest.mark.parametrize("name", ["horizontal_flip", "vertical_flip"])
def test_flips_come_as_often_as_asked(name: str) -> None:
    original = np.asarray(quarters())
    num_flipped = sum(not np.array_equal(change(quarters(), seed, **{name: 0.25}), original) for seed in range(200))
    assert 30 <= num_flipped <= 70  # 50 expected; seeded, so never by chance


def test_a_rotation_turns_about_the_middle_and_fills_with_the_mean_colour() -> None:
    angles = []
    for seed in range(20):
        turned = change(quarters(), seed, rotation_degrees=30.0)
        assert tuple(turned[SIZE // 2 - 4, SIZE // 2 - 4]) in {(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)}
        is_filled = (turned == GREY).all(axis=2)
        angles.append(int(is_filled.sum()))
        assert not is_filled[SIZE // 4 : -SIZE // 4, SIZE // 4 : -SIZE // 4].any()
    assert len(set(angles)) > 5
    assert max(angles) > 30


def test_a_rotation_goes_either_way_and_not_further_than_asked() -> None:
    # A line from the middle to the right; where it ends up says by how much it was turned.
    pixels = np.zeros((101, 101, 3), np.uint8)
    pixels[49:52, 50:] = 255
    preprocess = Preprocess(height_px=101, width_px=101, mean=(0, 0, 0), std=(1, 1, 1))
    degrees = []
    for seed in range(40):
        turned = change(Image.fromarray(pixels), seed, preprocess, rotation_degrees=20.0)[..., 0]
        down, right = (np.argwhere(turned > 128) - 50).mean(axis=0)
        degrees.append(np.degrees(np.arctan2(-down, right)))
    assert max(np.abs(degrees)) <= 20.5
    assert min(degrees) < -10
    assert max(degrees) > 10


@pytest.mark.parametrize("least", [0.25, 0.6])
def test_a_crop_keeps_at_least_the_share_of_the_area_that_it_says(least: float) -> None:
    shares = []
    for seed in range(60):
        cropped = change(ramp(200, 200), seed, crop=least).astype(float)
        # The ramp spans 255 over the whole image; the outermost pixels stand half a pixel inside the crop.
        width = np.ptp(cropped[..., 0].mean(axis=0)) / 255 * SIZE / (SIZE - 1)
        height = np.ptp(cropped[..., 1].mean(axis=1)) / 255 * SIZE / (SIZE - 1)
        shares.append(width * height)
        assert 0.7 < width / height < 1.4
    assert min(shares) >= least - 0.03
    assert min(shares) < least + 0.2
    assert max(shares) > 0.85


def test_a_crop_of_a_wide_image_has_the_shape_that_validation_shows() -> None:
    # Validation squashes 4:1 into a square; a crop of absolute shape would show a quarter of the width at most.
    widths = [np.ptp(change(ramp(400, 100), seed, crop=0.6)[..., 0].mean(axis=0)) / 255 for seed in range(40)]
    assert min(widths) > 0.6


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        pytest.param("brightness", lambda pixels: pixels.mean(), id="brightness"),
        pytest.param("contrast", lambda pixels: pixels.std(), id="contrast"),
        pytest.param("saturation", lambda pixels: np.ptp(pixels, axis=2).mean(), id="saturation"),
    ],
)
def test_colour_jitter_changes_what_it_names_both_ways(name: str, measure: object) -> None:
    pixels = np.full((SIZE, SIZE, 3), (90, 110, 130), np.uint8)
    pixels[: SIZE // 2] //= 2
    image = Image.fromarray(pixels)
    before = measure(pixels.astype(float))  # type: ignore[operator]
    after = [measure(change(image, seed, **{name: 0.5}).astype(float)) for seed in range(30)]  # type: ignore[operator]
    assert min(after) < 0.8 * before
    assert max(after) > 1.2 * before
    assert max(after) <= 1.55 * before


def test_hue_changes_the_colour_but_not_how_light_it_is() -> None:
    image = Image.new("RGB", (SIZE, SIZE), (200, 40, 40))
    colours = {tuple(change(image, seed, hue=0.5)[0, 0]) for seed in range(20)}
    assert len(colours) > 10
    assert {max(colour) for colour in colours} <= {199, 200, 201}


def test_erasing_puts_one_rectangle_of_the_mean_colour() -> None:
    white = Image.new("RGB", (SIZE, SIZE), (255, 255, 255))
    num_erased = 0
    for seed in range(100):
        is_erased = (change(white, seed, erasing=0.25) == GREY).all(axis=2)
        if is_erased.any():
            num_erased += 1
            rows, columns = np.nonzero(is_erased)
            assert is_erased.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)  # a rectangle without gaps
            assert is_erased.mean() <= 0.4  # torchvision erases 2 % to 33 %, rounded to pixels
    assert 13 <= num_erased <= 37  # 25 expected; seeded, so never by chance


@pytest.mark.parametrize("name", ["randaugment", "trivialaugment"])
def test_an_automatic_policy_changes_an_image_in_many_ways(name: str) -> None:
    drawn = {change(ramp(SIZE, SIZE), seed, **{name: 1.0}).tobytes() for seed in range(40)}
    assert len(drawn) > 12
    plain = np.asarray(ramp(SIZE, SIZE))
    assert np.array_equal(change(ramp(SIZE, SIZE), **{name: 0.0}), plain)


def test_a_larger_magnitude_changes_more() -> None:
    plain = np.asarray(ramp(SIZE, SIZE)).astype(float)

    def measure(magnitude: float) -> float:
        changed = [change(ramp(SIZE, SIZE), seed, randaugment=1, magnitude=magnitude) for seed in range(60)]
        return float(np.mean([np.abs(pixels - plain).mean() for pixels in changed]))

    assert measure(3) < 0.7 * measure(20)


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "none"])
def test_the_changes_come_from_torchs_generator_alone(name: str) -> None:
    augmentation = build_augmentation(PRESETS[name], PREPROCESS)
    drawn = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(11)
        drawn.append(np.asarray(augmentation(ramp())))
    assert np.array_equal(drawn[0], drawn[1])


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "none"])
def test_the_same_seed_gives_the_same_pixels_and_another_seed_others(name: str) -> None:
    augmentation = build_augmentation(PRESETS[name], PREPROCESS)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(np.asarray(augmentation(ramp())))
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (400, 5), (57, 91)], ids=str)
def test_any_image_comes_out_at_the_size_of_the_model(name: str, resize: str, size: tuple[int, int]) -> None:
    preprocess = Preprocess(
        height_px=24, width_px=40, mean=(0.5, 0.5, 0.5), std=(1, 1, 1), resize=resize,  # type: ignore[arg-type]
    )  # fmt: skip
    changed = build_augmentation(PRESETS[name], preprocess)(ramp(*size))
    assert (changed.size, changed.mode) == ((40, 24), "RGB")


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_worker_receives_the_same_augmentation_by_pickling(name: str) -> None:
    augmentation = build_augmentation(PRESETS[name], PREPROCESS)
    copied = pickle.loads(pickle.dumps(augmentation))
    torch.manual_seed(3)
    expected = np.asarray(augmentation(ramp()))
    torch.manual_seed(3)
    assert np.array_equal(np.asarray(copied(ramp())), expected)


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_is_read_by_its_name(name: str) -> None:
    assert parse_augment(name) == PRESETS[name]


def test_settings_after_a_comma_change_a_preset() -> None:
    changed = parse_augment(" light , vertical_flip = 0.5, crop=1")
    assert changed.vertical_flip == 0.5
    assert changed.crop == 1
    assert changed.horizontal_flip == PRESETS["light"].horizontal_flip


PRESET_NAMES = "none, light, medium, strong, randaugment, trivialaugment"
NAMES = ", ".join(field.name for field in fields(AugmentSettings))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "lihgt",
            f"augment: unknown preset 'lihgt' (did you mean 'light'?), expected {PRESET_NAMES}.",
            id="misspelt preset",
        ),
        pytest.param("", f"augment: unknown preset '', expected {PRESET_NAMES}.", id="nothing"),
        pytest.param(
            "light,rotation_degree=5",
            f"augment: unknown setting 'rotation_degree' (did you mean 'rotation_degrees'?), expected {NAMES}.",
            id="misspelt setting",
        ),
        pytest.param("light,", f"augment: unknown setting '', expected {NAMES}.", id="comma at the end"),
        pytest.param("none,hue=much", "augment hue: not a number, got 'much'.", id="value in words"),
        pytest.param("none,hue", "augment hue: not a number, got ''.", id="no value"),
        pytest.param("none,hue=0.6", "augment hue: out of range, got 0.6, expected 0 to 0.5.", id="too much"),
        pytest.param("none,crop=0", "augment crop: out of range, got 0.0, expected 0.01 to 1.", id="no image left"),
        pytest.param("none,crop=nan", "augment crop: out of range, got nan, expected 0.01 to 1.", id="not a number"),
        pytest.param(
            "none,rotation_degrees=-5",
            "augment rotation_degrees: out of range, got -5.0, expected 0 to 180.",
            id="a direction",
        ),
        pytest.param(
            "none,randaugment=1.5",
            "augment randaugment: not a whole number, got 1.5, expected 0 to 16.",
            id="half an operation",
        ),
        pytest.param(
            "none,regions=keeps",
            "augment regions: unknown choice 'keeps' (did you mean 'keep'?), expected keep, drop, ignore.",
            id="misspelt choice",
        ),
        pytest.param(
            "lihgt,hue=2,erase=1",
            f"augment: unknown preset 'lihgt' (did you mean 'light'?), expected {PRESET_NAMES}.\n"
            "augment hue: out of range, got 2.0, expected 0 to 0.5.\n"
            f"augment: unknown setting 'erase' (did you mean 'erasing'?), expected {NAMES}.",
            id="all at once",
        ),
    ],
)
def test_a_mistake_is_one_sentence(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_augment(text)
    assert str(caught.value) == message
