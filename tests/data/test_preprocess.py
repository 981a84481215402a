"""Preprocess: one way from image to array, the same wherever the object comes from."""

from __future__ import annotations

import dataclasses
import json
import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from manylabel.data.preprocess import Preprocess
from manylabel.errors import ConfigError

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def make_preprocess(height_px: Any = 20, width_px: Any = 30, **options: Any) -> Preprocess:
    return Preprocess(height_px=height_px, width_px=width_px, **{**IMAGENET, **options})


def make_photo(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def pixels(image: Image.Image) -> npt.NDArray[np.int64]:
    return np.asarray(image).astype(np.int64)


def striped(columns: list[tuple[int, tuple[int, int, int]]], height: int) -> Image.Image:
    """Upright stripes from left to right, each of a width and a colour."""
    rows = np.concatenate([np.full((height, width, 3), colour, np.uint8) for width, colour in columns], axis=1)
    return Image.fromarray(rows)


RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


# --- resize -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "size",
    [
        pytest.param((640, 480), id="landscape"),
        pytest.param((480, 641), id="portrait-odd"),
        pytest.param((30, 20), id="the-size-itself"),
        pytest.param((1, 1), id="one-pixel"),
        pytest.param((1, 3000), id="a-line-down"),
        pytest.param((3000, 1), id="a-line-across"),
        pytest.param((31, 19), id="one-more-one-less"),
        pytest.param((4000, 3000), id="so-large-that-it-is-reduced-first"),
    ],
)
def test_every_image_gets_exactly_the_size(size: tuple[int, int], interpolation: str, resize: str) -> None:
    preprocess = make_preprocess(resize=resize, interpolation=interpolation)
    image = Image.new("RGB", size, (200, 100, 50))

    resized = preprocess.resize_image(image)

    assert (resized.mode, resized.size) == ("RGB", (30, 20))
    # One colour stays that colour wherever the image is, so no padding and no rounding leaks into it.
    assert tuple(pixels(resized)[9, 14]) == (200, 100, 50)
    assert preprocess(image).shape == (3, 20, 30)


@pytest.mark.parametrize(
    ("interpolation", "pillow_filter"),
    [("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)],
)
def test_squash_is_pillows_resize_with_the_named_filter(interpolation: str, pillow_filter: Image.Resampling) -> None:
    photo = make_photo(100, 90)

    resized = make_preprocess(interpolation=interpolation).resize_image(photo)

    np.testing.assert_array_equal(pixels(resized), pixels(photo.resize((30, 20), pillow_filter)))


def test_squash_keeps_what_stands_at_the_border() -> None:
    image = striped([(30, RED), (240, GREEN), (30, BLUE)], height=50)

    resized = pixels(make_preprocess(20, 20).resize_image(image))

    assert tuple(resized[10, 0]) == RED
    assert tuple(resized[10, -1]) == BLUE


@pytest.mark.parametrize("turn", [pytest.param(False, id="landscape"), pytest.param(True, id="portrait")])
def test_crop_takes_the_largest_centred_part_with_its_shape_kept(turn: bool) -> None:
    # 300 x 100 to a square shows the middle 100 x 100, which is green; the filter sees a little beyond the edge.
    image = striped([(100, RED), (100, GREEN), (100, BLUE)], height=100)
    if turn:
        image = image.transpose(Image.Transpose.ROTATE_90)

    resized = pixels(make_preprocess(20, 20, resize="crop").resize_image(image))

    np.testing.assert_array_equal(resized[1:-1, 1:-1], np.full((18, 18, 3), GREEN))
    assert resized[:, :, 1].min() > 200, "no edge is mostly of another stripe"


def test_crop_cuts_equally_on_both_sides() -> None:
    # 200 x 100 to 20 x 20 shows columns 50 to 150: 25 red, 50 green, 25 blue, so 5, 10 and 5 pixels.
    image = striped([(75, RED), (50, GREEN), (75, BLUE)], height=100)

    row = pixels(make_preprocess(20, 20, resize="crop", interpolation="bilinear").resize_image(image))[10]

    assert [tuple(row[column]) for column in (0, 3, 6, 13, 16, 19)] == [RED, RED, GREEN, GREEN, BLUE, BLUE]
    np.testing.assert_array_equal(row[:, 0], row[::-1, 2])


def test_crop_is_resizing_the_shorter_side_and_cutting_the_centre() -> None:
    photo = make_photo(600, 448)  # exactly 300 x 224 when halved, so that the classic way has nothing to round
    classic = photo.resize((300, 224), Image.Resampling.BICUBIC).crop((38, 0, 262, 224))

    resized = make_preprocess(224, 224, resize="crop").resize_image(photo)

    assert np.abs(pixels(resized) - pixels(classic)).max() <= 1


def test_pad_keeps_the_whole_image_on_the_mean_colour() -> None:
    # 200 x 100 to 20 x 20 is 20 x 10 with five rows above and below; the mean is (51, 102, 153) of 255.
    image = striped([(100, RED), (100, BLUE)], height=100)
    preprocess = make_preprocess(20, 20, resize="pad", mean=(0.2, 0.4, 0.6), std=(0.1, 0.1, 0.1))

    resized = pixels(preprocess.resize_image(image))

    for row in (0, 4, 15, 19):
        np.testing.assert_array_equal(resized[row], np.full((20, 3), (51, 102, 153)))
    assert [tuple(resized[row, column]) for row in (5, 14) for column in (0, 19)] == [RED, BLUE, RED, BLUE]
    np.testing.assert_allclose(preprocess(image)[:, 0, 0], 0, atol=1e-6)


def test_pad_centres_a_tall_image_between_the_sides() -> None:
    image = Image.new("RGB", (100, 200), RED)

    row = pixels(make_preprocess(20, 20, resize="pad", **PLAIN).resize_image(image))[10]

    assert [tuple(value) for value in row] == [(0, 0, 0)] * 5 + [RED] * 10 + [(0, 0, 0)] * 5


def test_a_mean_outside_the_colours_pads_with_the_nearest_colour() -> None:
    preprocess = make_preprocess(20, 20, resize="pad", mean=(-1.0, 0.5, 2.0))

    assert tuple(pixels(preprocess.resize_image(Image.new("RGB", (100, 200))))[0, 0]) == (0, 128, 255)


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_a_large_photograph_is_reduced_first_with_almost_the_same_result(resize: str) -> None:
    rng = np.random.default_rng(0)
    noisy = Image.fromarray(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)).resize((2000, 1500))
    preprocess = make_preprocess(60, 80, resize=resize)  # 25 times smaller, and of the same shape: no crop, no pad

    exact = noisy.resize((80, 60), Image.Resampling.BICUBIC)

    assert np.abs(pixels(preprocess.resize_image(noisy)) - pixels(exact)).mean() <= 1


@pytest.mark.parametrize("size", [(1, 2_000_000), (2_000_000, 1)])
@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_a_line_of_millions_of_pixels_is_an_image_like_any_other(resize: str, size: tuple[int, int]) -> None:
    assert make_preprocess(224, 224, resize=resize)(Image.new("RGB", size)).shape == (3, 224, 224)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_an_image_that_is_not_rgb_was_not_loaded_by_us(mode: str) -> None:
    with pytest.raises(ValueError, match=f"mode {mode} cannot be resized here: call load_image first"):
        make_preprocess()(Image.new(mode, (5, 5)))


# --- normalise ----------------------------------------------------------------------------------------------------


def test_normalise_is_the_formula_in_double_precision() -> None:
    pixels_HWC = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)

    pixels_CHW = make_preprocess().normalise(pixels_HWC)

    expected_HWC = (pixels_HWC / 255 - np.array(IMAGENET["mean"])) / np.array(IMAGENET["std"])
    np.testing.assert_allclose(pixels_CHW, expected_HWC.transpose(2, 0, 1), rtol=0, atol=2e-6)
    assert pixels_CHW.dtype == np.float32
    assert pixels_CHW.flags.c_contiguous


def test_normalise_by_hand() -> None:
    # Red 255: (1 - 0.5) / 0.25 = 2. Green 0: (0 - 0.5) / 0.5 = -1. Blue 51: (0.2 - 0) / 1 = 0.2.
    preprocess = make_preprocess(mean=(0.5, 0.5, 0.0), std=(0.25, 0.5, 1.0))

    normalised = preprocess.normalise(np.array([[[255, 0, 51]]], np.uint8))

    np.testing.assert_allclose(normalised.ravel(), [2, -1, 0.2], rtol=1e-6)


@pytest.mark.parametrize(
    ("pixels_HWC", "message"),
    [
        pytest.param(np.zeros((4, 5, 3), np.float32), "got float32 of shape", id="floats-would-be-almost-black"),
        pytest.param(np.zeros((3, 4, 5), np.uint8), r"got uint8 of shape \(3, 4, 5\)", id="channels-first"),
        pytest.param(np.zeros((4, 5), np.uint8), r"got uint8 of shape \(4, 5\)", id="grey"),
        pytest.param(np.zeros((4, 5, 4), np.uint8), r"got uint8 of shape \(4, 5, 4\)", id="alpha"),
    ],
)
def test_normalise_refuses_what_it_would_get_wrong(pixels_HWC: npt.NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"expected uint8 of shape HxWx3, {message}"):
        make_preprocess().normalise(pixels_HWC)


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_a_call_is_resize_then_normalise(resize: str) -> None:
    preprocess, photo = make_preprocess(resize=resize), make_photo(90, 50)

    np.testing.assert_array_equal(
        preprocess(photo), preprocess.normalise(np.asarray(preprocess.resize_image(photo), np.uint8))
    )


def test_the_image_is_not_changed() -> None:
    photo = make_photo(30, 20)
    before = pixels(photo)

    result = make_preprocess()(photo)
    result[:] = 0

    np.testing.assert_array_equal(pixels(photo), before)


# --- the object ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_an_object_that_was_saved_is_equal_and_gives_equal_arrays(resize: str) -> None:
    preprocess, photo = make_preprocess(resize=resize, interpolation="bilinear"), make_photo(640, 480)

    from_json = Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict())))
    from_pickle = pickle.loads(pickle.dumps(preprocess))

    for other in (from_json, from_pickle):
        assert other == preprocess
        assert hash(other) == hash(preprocess)
        assert other(photo).tobytes() == preprocess(photo).tobytes()


def test_the_saved_form_is_plain() -> None:
    assert make_preprocess(20, 30).to_dict() == {
        "height_px": 20,
        "width_px": 30,
        "resize": "squash",
        "interpolation": "bicubic",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }


def test_numbers_of_numpy_become_plain_ones() -> None:
    preprocess = make_preprocess(np.int64(20), np.int32(30), mean=[0, 1, np.float64(0.5)])

    assert json.loads(json.dumps(preprocess.to_dict())) == preprocess.to_dict()
    assert preprocess == make_preprocess(20, 30, mean=(0.0, 1.0, 0.5))
    assert [type(value) for value in preprocess.mean] == [float] * 3


def test_it_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_preprocess().height_px = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            {"height_px": 0}, "height_px: not a size in pixels, got 0, expected a whole number from 1.", id="zero"
        ),
        pytest.param({"width_px": -3}, "width_px: not a size in pixels, got -3", id="negative"),
        pytest.param({"width_px": 224.0}, "width_px: not a size in pixels, got 224.0", id="float"),
        pytest.param({"width_px": "224"}, "width_px: not a size in pixels, got '224'", id="text"),
        pytest.param({"height_px": True}, "height_px: not a size in pixels, got True", id="true-is-not-1"),
        pytest.param({"height_px": None}, "height_px: not a size in pixels", id="none"),
        pytest.param(
            {"resize": "sqash"},
            "resize: unknown mode (did you mean 'squash'?), got 'sqash', expected squash, crop, pad.",
            id="misspelt",
        ),
        pytest.param({"resize": None}, "resize: unknown mode, expected squash, crop, pad.", id="no-mode"),
        pytest.param(
            {"interpolation": "nearest"},
            "interpolation: unknown mode, got 'nearest', expected bilinear, bicubic.",
            id="nearest-throws-pixels-away",
        ),
        pytest.param(
            {"mean": (0.5, 0.5)},
            "mean: not a colour, got (0.5, 0.5), expected three numbers from -1e+06 to 1e+06, for red, green and blue.",
            id="two-channels",
        ),
        pytest.param({"mean": 0.5}, "mean: not a colour, got 0.5", id="one-number"),
        pytest.param({"mean": "abc"}, "mean: not a colour, got 'abc'", id="three-letters"),
        pytest.param({"mean": (0, 0, float("nan"))}, "mean: not a colour", id="nan"),
        pytest.param({"mean": (0, 0, float("inf"))}, "mean: not a colour", id="infinite"),
        pytest.param({"mean": (0, 0, 10**400)}, "mean: not a colour", id="larger-than-any-float"),
        pytest.param({"mean": (0, 0, True)}, "mean: not a colour", id="truth-value"),
        pytest.param(
            {"std": (1, 0, 1)},
            "std: not a colour, got (1, 0, 1), expected three numbers from 1e-06 to 1e+06, for red, green and blue.",
            id="division-by-zero",
        ),
        pytest.param({"std": (1, -1, 1)}, "std: not a colour", id="negative-std"),
        pytest.param({"std": (1e-320, 1, 1)}, "std: not a colour", id="a-std-that-overflows"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_when_the_object_is_built(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as built:
        make_preprocess(**options)
    with pytest.raises(ConfigError) as read:
        Preprocess.from_dict({**make_preprocess().to_dict(), **options}, where="manifest.json")

    assert str(built.value).startswith(message)
    assert str(read.value).startswith(f"manifest.json: {message}")


def test_all_problems_are_listed_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        make_preprocess(0, 0, resize="fit", interpolation="box", mean=(), std=())

    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["height_px", "width_px", "resize", "interpolation", "mean", "std"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda values: values.update(heigth_px=values.pop("height_px")),
            "preprocess: unknown field 'heigth_px' (did you mean 'height_px'?).\npreprocess: missing: height_px.",
            id="misspelt",
        ),
        pytest.param(lambda values: values.update(crop=1), "preprocess: unknown field 'crop'.", id="left-over"),
        pytest.param(
            lambda values: [values.pop(name) for name in ("resize", "std")],
            "preprocess: missing: resize, std.",
            id="a-default-is-not-assumed",
        ),
        pytest.param(
            lambda values: values.update({3: 4}), "preprocess: unknown field '3'.", id="a-key-that-is-no-text"
        ),
    ],
)
def test_a_table_with_other_fields_is_refused(change: Any, message: str) -> None:
    values = make_preprocess().to_dict()
    change(values)

    with pytest.raises(ConfigError) as caught:
        Preprocess.from_dict(values)

    assert str(caught.value) == message


@pytest.mark.parametrize("values", [[], "squash", 3])
def test_what_is_no_table_is_refused(values: Any) -> None:
    with pytest.raises(ConfigError, match="preprocess: this is no table of fields, got"):
        Preprocess.from_dict(values)
