"""Decoding: every mode, every orientation, every way a file can be damaged."""

from __future__ import annotations

import errno
import io
import os
import pickle
import struct
import sys
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, PngImagePlugin, features

from manylabel.data import images
from manylabel.data.images import (
    MAX_PIXELS,
    ImageError,
    ImageErrorKind,
    ImageHeader,
    find_images,
    image_size_px,
    load_image,
    read_header,
    read_image_file,
)
from manylabel.data.preprocess import Preprocess
from manylabel.errors import ConfigError, DataError, ManylabelError

COCO = Path(__file__).parents[2].parent / "shared" / "data" / "coco128" / "images"

ORIENTATION = 274
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow is built without AVIF")
needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no FIFOs in folders")


def make_photo(width: int = 120, height: int = 80, seed: int = 0) -> Image.Image:
    """A smooth picture with no symmetry, so that every turn of it is another picture."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def to_bytes(image: Image.Image, format_name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def pixels(image: Image.Image) -> npt.NDArray[np.int64]:
    return np.asarray(image).astype(np.int64)


def first_pixel(image: Image.Image) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in np.asarray(image)[0, 0])
    return red, green, blue


def mean_difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(pixels(one) - pixels(other)).mean())


def refusal(source: Any, **options: Any) -> ImageError:
    with pytest.raises(ImageError) as caught:
        load_image(source, **options)
    return caught.value


def link(target: Path | str, at: Path) -> None:
    try:
        at.symlink_to(target)
    except OSError:
        pytest.skip("this account may not make symbolic links")


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def build_png(width: int, height: int, depth: int, colour_type: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def write_at(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


# --- the errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", get_args(ImageErrorKind))
def test_an_image_error_survives_the_trip_between_processes(kind: ImageErrorKind) -> None:
    error = pickle.loads(pickle.dumps(ImageError("a.jpg: broken.", kind)))

    assert (type(error), str(error), error.kind) == (ImageError, "a.jpg: broken.", kind)
    assert isinstance(error, ManylabelError)


def test_the_message_calls_a_path_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.jpg").write_text("not an image")
    monkeypatch.chdir(tmp_path)

    assert str(refusal("notes.jpg")) == (
        "notes.jpg: not an image in a supported format, expected JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF. "
        "Convert it, or take it out of the data."
    )


def test_the_message_holds_the_given_name_and_nothing_of_the_path(tmp_path: Path) -> None:
    path = tmp_path / "secret.jpg"
    path.write_bytes(to_bytes(make_photo(), "JPEG")[:-200])

    error = refusal(path, name="upload 3")

    assert str(error) == (
        "upload 3: damaged image: JPEG ends early, part of the image is missing. Copy or download it again."
    )


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        pytest.param(b"", "empty", id="no-bytes"),
        pytest.param(b"\xff\xd8\xff\xe0", "broken", id="header-only"),
        pytest.param(b"hello", "unsupported_format", id="text"),
        pytest.param(np.zeros((0, 3), np.uint8), "broken", id="array-without-pixels"),
        pytest.param(Image.new("RGB", (0, 3)), "broken", id="pillow-image-without-pixels"),
    ],
)
def test_what_has_no_path_is_called_image(source: Any, kind: str) -> None:
    error = refusal(source)

    assert error.kind == kind
    assert str(error).startswith("image: ")
    assert "<" not in str(error), "Pillow's own text names an object of Python's"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are text on this platform")
def test_a_file_name_that_is_no_text_still_makes_a_message_that_can_be_printed(tmp_path: Path) -> None:
    error = refusal(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))

    assert error.kind == "missing"
    assert r"\udce9.jpg" in str(error).encode("utf-8").decode("utf-8")


def test_another_type_of_source_is_a_programming_error() -> None:
    with pytest.raises(TypeError, match="not list"):
        load_image([1, 2])  # type: ignore[arg-type]


# --- files that are no images -------------------------------------------------------------------------------------


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"

    error = refusal(path)

    assert (error.kind, str(error)) == ("missing", f"{path}: there is no such file. Check the path.")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("a\0b.jpg", id="nul-in-the-name"),
        pytest.param("x" * 5000 + ".jpg", id="name-too-long"),
        pytest.param(f"{__file__}/cat.jpg", id="below-a-file"),
        pytest.param("http://example.com/cat.jpg", id="a-web-address-is-not-fetched"),
    ],
)
def test_a_path_that_cannot_exist_is_missing(path: str) -> None:
    assert refusal(path).kind == "missing"


def test_a_link_that_leads_to_itself_is_missing(tmp_path: Path) -> None:
    link("loop.jpg", tmp_path / "loop.jpg")

    assert refusal(tmp_path / "loop.jpg").kind == "missing"


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    error = refusal(tmp_path)

    assert (error.kind, str(error)) == ("not_a_file", f"{tmp_path}: this is a folder, expected an image file.")


@needs_fifo
def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")

    for read in (load_image, image_size_px):
        with pytest.raises(ImageError, match="this is a pipe, expected an image file") as caught:
            read(tmp_path / "pipe.jpg")
        assert caught.value.kind == "not_a_file"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="Windows has no device files in folders")
def test_a_device_is_refused_without_reading_it() -> None:
    error = refusal("/dev/zero")

    assert error.kind == "not_a_file"
    assert "this is a device" in str(error)


def test_an_empty_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"")

    error = refusal(tmp_path / "cat.jpg", name="cat.jpg")

    assert (error.kind, str(error)) == ("empty", "cat.jpg: the file is empty. Copy or download it again.")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root and Windows read files of mode 000")
def test_a_file_of_mode_000_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(to_bytes(make_photo(), "JPEG"))
    path.chmod(0)

    assert refusal(path).kind == "unreadable"


@pytest.mark.parametrize(
    ("number", "message"),
    [
        pytest.param(errno.EACCES, "cat.jpg: the file cannot be read: no. Check its permissions.", id="permission"),
        pytest.param(errno.EMFILE, "cat.jpg: the file cannot be read: no.", id="too-many-open-files"),
    ],
)
def test_a_file_that_cannot_be_opened_is_unreadable(
    number: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no", "/a/secret/path")

    (tmp_path / "cat.jpg").write_bytes(to_bytes(make_photo(), "JPEG"))
    monkeypatch.setattr(images, "open", refuse, raising=False)

    error = refusal(tmp_path / "cat.jpg", name="cat.jpg")

    assert (error.kind, str(error)) == ("unreadable", message)


def test_a_drive_that_fails_while_decoding_is_unreadable_and_not_a_broken_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FailingDrive(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= 54:  # the header is read, the pixels are not
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    path = tmp_path / "cat.bmp"
    path.write_bytes(to_bytes(make_photo(), "BMP"))
    monkeypatch.setattr(images, "open", lambda *_: FailingDrive(path.read_bytes()), raising=False)

    error = refusal(path, name="cat.bmp")

    assert (error.kind, str(error)) == ("unreadable", "cat.bmp: the file cannot be read: Input/output error.")


@pytest.mark.parametrize(
    ("data", "named"),
    [
        pytest.param(to_bytes(make_photo(), "EPS"), "PostScript", id="eps-starts-a-subprocess"),
        pytest.param(b"8BPS\x00\x01" + bytes(40), "a Photoshop file", id="psd"),
        pytest.param(to_bytes(make_photo(), "DDS"), "not an image", id="dds"),
        pytest.param(to_bytes(make_photo(), "ICO"), "not an image", id="ico"),
        pytest.param(to_bytes(make_photo(), "PPM"), "not an image", id="ppm"),
        pytest.param(to_bytes(make_photo(), "TGA"), "not an image", id="tga"),
        pytest.param(b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(40), "JPEG 2000", id="jpeg-2000"),
        pytest.param(b"\xff\x4f\xff\x51" + bytes(40), "JPEG 2000", id="jpeg-2000-codestream"),
        pytest.param(b"\x00\x00\x00\x18ftypheic" + bytes(40), "HEIC", id="photos-of-an-iphone"),
        pytest.param(b"%PDF-1.7" + bytes(40), "PDF", id="pdf"),
        pytest.param(b"<!DOCTYPE html><html>404</html>", "a web page", id="a-failed-download"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer", id="not-pulled"),
        pytest.param(b"hello, world", "not an image", id="text"),
        pytest.param(bytes(100), "not an image", id="zeros"),
    ],
)
def test_other_formats_are_refused_whatever_their_name(data: bytes, named: str, tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(data)

    for source in (path, data):
        error = refusal(source)
        assert error.kind == "unsupported_format"
        assert named in str(error)


def test_a_pillow_without_a_decoder_is_named_as_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    data = to_bytes(make_photo(), "WEBP")
    monkeypatch.setattr(features, "check", lambda _: False)

    error = refusal(data)

    assert error.kind == "unsupported_format"
    assert "this installation of Pillow cannot read WEBP" in str(error)


# --- formats ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format_name", "options"),
    [
        pytest.param("JPEG", {"quality": 95}, id="jpeg"),
        pytest.param("JPEG", {"quality": 95, "progressive": True}, id="jpeg-progressive"),
        pytest.param("MPO", {"quality": 95, "save_all": True, "append_images": [make_photo(seed=1)]}, id="phone-mpo"),
        pytest.param("PNG", {}, id="png"),
        pytest.param("PNG", {"save_all": True, "append_images": [make_photo(seed=1)]}, id="animated-png"),
        pytest.param("WEBP", {"lossless": True}, id="webp-lossless"),
        pytest.param("WEBP", {"lossless": True, "save_all": True, "append_images": [make_photo(seed=1)]}, id="webp-2"),
        pytest.param("BMP", {}, id="bmp"),
        pytest.param("TIFF", {}, id="tiff"),
        pytest.param("TIFF", {"compression": "tiff_deflate"}, id="tiff-deflate"),
        pytest.param("TIFF", {"save_all": True, "append_images": [make_photo(seed=1)]}, id="tiff-two-pages"),
        pytest.param("TIFF", {"big_tiff": True}, id="big-tiff"),
        pytest.param("AVIF", {"quality": 95}, id="avif", marks=needs_avif),
    ],
)
def test_the_first_frame_of_every_format_comes_out_the_same_from_a_path_and_from_bytes(
    format_name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    photo = make_photo()
    data = to_bytes(photo, format_name, **options)
    path = tmp_path / "photo"
    path.write_bytes(data)

    from_bytes, from_path = load_image(data), load_image(str(path))

    assert mean_difference(from_bytes, photo) < 3, "the other frame differs by more than 50"
    assert from_bytes.mode == "RGB"
    np.testing.assert_array_equal(pixels(from_bytes), pixels(from_path))
    assert image_size_px(data) == image_size_px(path) == photo.size


def test_the_first_frame_of_a_gif_is_taken() -> None:
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "green", "blue")]

    image = load_image(to_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:]))

    np.testing.assert_array_equal(pixels(image), np.full((4, 5, 3), (255, 0, 0)))


def test_the_result_is_a_plain_image_without_metadata_that_loads_to_itself() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    image = load_image(to_bytes(make_photo(), "JPEG", exif=exif, icc_profile=b"profile"))

    assert type(image) is Image.Image
    assert image.info == {}
    again = load_image(image)
    assert again is not image
    np.testing.assert_array_equal(pixels(again), pixels(image))


def test_an_image_of_pillows_is_not_changed() -> None:
    photo = make_photo()
    before = pixels(photo)

    load_image(photo).paste((0, 0, 0), (0, 0, 50, 50))

    np.testing.assert_array_equal(pixels(photo), before)


def test_an_open_file_of_pillows_is_read_and_turned() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    opened = Image.open(io.BytesIO(to_bytes(make_photo(120, 80), "PNG", exif=exif)))

    assert image_size_px(opened) == load_image(opened).size == (80, 120)


def test_a_damaged_open_file_of_pillows_is_an_image_error() -> None:
    opened = Image.open(io.BytesIO(to_bytes(make_photo(), "JPEG")[:-300]))

    assert refusal(opened, name="cat.jpg").kind == "broken"


# --- modes --------------------------------------------------------------------------------------------------------

HALF_CLEAR_RED_ON_WHITE = (255, 127, 127)


@pytest.mark.parametrize(
    ("mode", "value", "format_name", "expected"),
    [
        pytest.param("1", 1, "PNG", (255, 255, 255), id="1-bit"),
        pytest.param("L", 77, "PNG", (77, 77, 77), id="grey"),
        pytest.param("LA", (0, 0), "PNG", (255, 255, 255), id="clear-black-is-white"),
        pytest.param("LA", (40, 255), "PNG", (40, 40, 40), id="opaque-grey-alpha"),
        pytest.param("PA", (0, 0), "TIFF", (255, 255, 255), id="clear-palette-alpha"),
        pytest.param("RGB", (10, 20, 30), "PNG", (10, 20, 30), id="rgb"),
        pytest.param("RGBA", (255, 0, 0, 128), "PNG", HALF_CLEAR_RED_ON_WHITE, id="half-clear-red-is-pink"),
        pytest.param("RGBA", (255, 0, 0, 128), "TIFF", HALF_CLEAR_RED_ON_WHITE, id="half-clear-in-tiff"),
        pytest.param("RGBA", (9, 8, 7, 255), "PNG", (9, 8, 7), id="opaque-rgba"),
        pytest.param("RGBa", (128, 0, 0, 128), None, HALF_CLEAR_RED_ON_WHITE, id="premultiplied"),
        pytest.param("La", (0, 128), None, (127, 127, 127), id="premultiplied-grey"),
        pytest.param("RGBX", (10, 20, 30, 0), None, (10, 20, 30), id="padding-is-not-alpha"),
        pytest.param("CMYK", (0, 255, 255, 0), "TIFF", (255, 0, 0), id="cmyk-red"),
        pytest.param("CMYK", (0, 0, 0, 255), "JPEG", (0, 0, 0), id="cmyk-black-as-adobe-writes-it"),
        pytest.param("YCbCr", (128, 128, 128), "TIFF", (128, 128, 128), id="ycbcr-grey"),
        pytest.param("HSV", (0, 255, 255), None, (255, 0, 0), id="hsv-red"),
        pytest.param("I;16", 65535, "PNG", (255, 255, 255), id="16-bit-white"),
        pytest.param("I;16", 257 * 100, "PNG", (100, 100, 100), id="16-bit-grey"),
        pytest.param("I;16B", 257 * 100, "TIFF", (100, 100, 100), id="16-bit-big-endian"),
        pytest.param("I;16L", 257 * 100, None, (100, 100, 100), id="16-bit-little-endian"),
        pytest.param("I", 257 * 100, "TIFF", (100, 100, 100), id="32-bit-that-fits-in-16"),
        pytest.param("I", 1_000_000, "TIFF", (255, 255, 255), id="32-bit-scaled-by-its-maximum"),
        pytest.param("I", -5, "TIFF", (0, 0, 0), id="negative-is-black"),
        pytest.param("F", 0.5, "TIFF", (128, 128, 128), id="float-in-0-1"),
        pytest.param("F", 7.0, "TIFF", (0, 0, 0), id="float-of-one-large-value"),
        pytest.param("F", float("nan"), "TIFF", (0, 0, 0), id="nan-is-black"),
        pytest.param("F", float("inf"), "TIFF", (255, 255, 255), id="infinity-is-white"),
    ],
)
def test_every_mode_becomes_rgb(
    mode: str, value: Any, format_name: str | None, expected: tuple[int, int, int], tmp_path: Path
) -> None:
    source = Image.new(mode, (9, 7), value)

    image = load_image(source)

    assert (image.mode, image.size) == ("RGB", (9, 7))
    assert first_pixel(image) == expected
    if format_name is not None:
        source.save(tmp_path / "file", format_name)
        np.testing.assert_array_equal(pixels(load_image(tmp_path / "file")), pixels(image))


@pytest.mark.skipif(not features.check("littlecms2"), reason="this Pillow is built without LittleCMS")
def test_lab_becomes_rgb() -> None:
    # L* of 255 is white, a* and b* of 0 (stored as 128, or 0 in signed bytes) are grey.
    assert min(first_pixel(load_image(to_bytes(Image.new("LAB", (4, 4), (255, 128, 128)), "TIFF")))) >= 253


@pytest.mark.parametrize(
    ("transparency", "expected"),
    [
        pytest.param(None, [(200, 0, 0), (0, 0, 200)], id="opaque"),
        pytest.param(1, [(200, 0, 0), (255, 255, 255)], id="one-clear-entry"),
        pytest.param(b"\x00\xff", [(255, 255, 255), (0, 0, 200)], id="an-alpha-per-entry"),
    ],
)
def test_a_palette_is_resolved_with_its_transparency(transparency: Any, expected: list[tuple[int, ...]]) -> None:
    source = Image.new("P", (2, 1))
    source.putpalette([200, 0, 0, 0, 0, 200])
    source.putdata([0, 1])
    options = {} if transparency is None else {"transparency": transparency}

    image = load_image(to_bytes(source, "PNG", **options))

    assert [tuple(pixel) for pixel in pixels(image)[0]] == expected


@pytest.mark.parametrize(
    ("mode", "values", "key"),
    [
        pytest.param("L", [10, 20], 10, id="grey"),
        pytest.param("RGB", [(1, 2, 3), (20, 20, 20)], (1, 2, 3), id="rgb"),
        pytest.param("I;16", [300, 257 * 20], 300, id="16-bit"),
    ],
)
def test_a_single_transparent_colour_is_white(mode: str, values: list[Any], key: Any) -> None:
    source = Image.new(mode, (2, 1))
    for x, value in enumerate(values):
        source.putpixel((x, 0), value)

    image = load_image(to_bytes(source, "PNG", transparency=key))

    assert [tuple(pixel) for pixel in pixels(image)[0]] == [(255, 255, 255), (20, 20, 20)]


def test_32_bit_values_that_do_not_fit_in_16_are_scaled_by_the_largest() -> None:
    image = load_image(to_bytes(Image.fromarray(np.array([[-7, 0, 40_000, 100_000, 200_000]], np.int32)), "TIFF"))

    assert pixels(image)[0, :, 0].tolist() == [0, 0, 51, 128, 255]


def test_floats_outside_0_1_are_stretched_over_what_is_finite() -> None:
    values = np.array([[-10.0, 0.0, 10.0, np.nan, np.inf, -np.inf]], np.float32)

    image = load_image(Image.fromarray(values))

    assert pixels(image)[0, :, 0].tolist() == [0, 128, 255, 0, 255, 0]


@pytest.mark.parametrize(
    ("dtype", "format_name"),
    [
        pytest.param("<u2", "PNG", id="png"),
        pytest.param("<u2", "TIFF", id="tiff"),
        pytest.param(">u2", "TIFF", id="tiff-big-endian"),
    ],
)
def test_16_bits_are_scaled_and_not_clipped(dtype: str, format_name: str) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (40, 50)).astype(dtype)

    image = load_image(to_bytes(Image.fromarray(values), format_name))

    expected = np.repeat(values.astype(np.float64)[:, :, None] / 257, 3, axis=2)
    assert np.abs(pixels(image) - expected).max() <= 0.5


@pytest.mark.parametrize(
    ("colour_type", "num_channels"),
    [pytest.param(2, 3, id="rgb"), pytest.param(4, 2, id="grey-alpha"), pytest.param(6, 4, id="rgba")],
)
def test_16_bit_colour_is_scaled_too(colour_type: int, num_channels: int) -> None:
    # Pillow cannot write these, so the file is built by hand: every row is a filter byte and big-endian values.
    values = np.random.default_rng(0).integers(0, 65536, (20, 30, num_channels)).astype(">u2")
    if num_channels in (2, 4):
        values[:, :, -1] = 65535
    data = build_png(30, 20, 16, colour_type, b"".join(b"\0" + row.tobytes() for row in values))

    image = load_image(data)

    expected = values[:, :, : 1 if num_channels == 2 else 3].astype(np.float64) / 257
    assert np.abs(pixels(image) - expected).mean() <= 2


# --- orientation --------------------------------------------------------------------------------------------------

# How an upright picture is stored for each tag, from the EXIF table ("the 0th row is at the visual ...").
STORE: dict[int, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


def store_turned(upright: Image.Image, tag: int, format_name: str, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = tag
    stored = Image.fromarray(np.ascontiguousarray(STORE[tag](np.asarray(upright))))
    return to_bytes(stored, format_name, exif=exif, **options)


def at_224(image: Image.Image) -> Image.Image:
    return image.resize((224, 224), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [pytest.param((300, 200), id="landscape"), pytest.param((200, 300), id="portrait")])
@pytest.mark.parametrize("tag", range(1, 9))
def test_every_orientation_gives_the_upright_picture(tag: int, size: tuple[int, int]) -> None:
    upright = make_photo(*size)
    expected = load_image(store_turned(upright, 1, "JPEG", quality=90))

    data = store_turned(upright, tag, "JPEG", quality=90)
    image = load_image(data)

    assert image.size == image_size_px(data) == size
    assert mean_difference(at_224(image), at_224(expected)) <= 3
    if tag > 1:
        as_stored = Image.open(io.BytesIO(data))
        assert mean_difference(at_224(as_stored), at_224(expected)) > 20, "the picture must show a wrong turn"


@pytest.mark.parametrize("tag", [3, 6, 7])
@pytest.mark.parametrize(
    ("format_name", "options"),
    [
        pytest.param("PNG", {}, id="png"),
        pytest.param("WEBP", {"lossless": True}, id="webp"),
        pytest.param("TIFF", {}, id="tiff-which-pillow-turns-itself"),
        pytest.param("TIFF", {"compression": "tiff_deflate"}, id="tiff-through-libtiff"),
        pytest.param("AVIF", {"quality": 95}, id="avif", marks=needs_avif),
    ],
)
def test_orientation_is_applied_once_in_every_format(format_name: str, options: dict[str, Any], tag: int) -> None:
    upright = make_photo(96, 64)
    data = store_turned(upright, tag, format_name, **options)

    image = load_image(data)

    assert image.size == image_size_px(data) == (96, 64)
    assert mean_difference(image, upright) <= 3


def test_a_png_with_its_orientation_behind_the_pixels_is_turned() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    plain = to_bytes(make_photo(30, 20), "PNG")
    data = plain[:-12] + png_chunk(b"eXIf", exif.tobytes()[6:]) + plain[-12:]

    assert load_image(data).size == image_size_px(data) == (20, 30)


def test_an_orientation_in_xmp_counts_where_exif_has_none() -> None:
    packet = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    data = to_bytes(make_photo(30, 20), "JPEG", xmp=packet)

    assert load_image(data).size == image_size_px(data) == (20, 30)


@pytest.mark.parametrize(
    "exif",
    [
        pytest.param(b"Exif\0\0garbage that is no TIFF header", id="damaged"),
        pytest.param(b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0", id="orientation-99"),
        pytest.param(b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\0\x36\0\0\0\0\0\0\0", id="orientation-text"),
    ],
)
def test_damaged_metadata_does_not_cost_the_picture(exif: bytes) -> None:
    photo = make_photo(30, 20)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of the metadata
        image = load_image(to_bytes(photo, "JPEG", exif=exif))

    np.testing.assert_array_equal(pixels(image), pixels(load_image(to_bytes(photo, "JPEG"))))


# --- damage -------------------------------------------------------------------------------------------------------

WHOLE_FILES = {
    "jpeg": to_bytes(make_photo(), "JPEG"),
    "jpeg-progressive": to_bytes(make_photo(), "JPEG", progressive=True),
    "png": to_bytes(make_photo(), "PNG"),
    "png-palette": to_bytes(make_photo().quantize(64), "PNG"),
    "gif": to_bytes(make_photo(), "GIF"),
    "webp": to_bytes(make_photo(), "WEBP"),
    "webp-lossless": to_bytes(make_photo(), "WEBP", lossless=True),
    "bmp": to_bytes(make_photo(), "BMP"),
    "tiff": to_bytes(make_photo(), "TIFF"),
    "tiff-deflate": to_bytes(make_photo(), "TIFF", compression="tiff_deflate"),
}


@pytest.mark.parametrize("as_path", [pytest.param(False, id="bytes"), pytest.param(True, id="path")])
@pytest.mark.parametrize("name", WHOLE_FILES)
def test_a_cut_off_file_is_refused_or_whole_and_never_filled_with_grey(
    name: str, as_path: bool, tmp_path: Path
) -> None:
    whole = WHOLE_FILES[name]
    expected = pixels(load_image(whole))
    num_refused = 0
    kinds = set()
    for length in np.linspace(1, len(whole) - 1, 20).astype(int):
        path = tmp_path / "cut.jpg"
        path.write_bytes(whole[:length])
        try:
            image = load_image(path if as_path else whole[:length])
        except ImageError as error:
            kinds.add(error.kind)
            num_refused += 1
        else:
            np.testing.assert_array_equal(pixels(image), expected)
    assert kinds <= {"broken", "unsupported_format"}
    assert num_refused >= 18, "only a cut behind the last pixel may go unseen"


@pytest.mark.parametrize("name", ["jpeg", "jpeg-progressive", "png", "png-palette", "gif", "tiff-deflate"])
def test_a_file_whose_end_was_never_written_is_refused(name: str) -> None:
    # What a crash or a stopped download leaves: the right length, zeros from some point on.
    whole = WHOLE_FILES[name]

    for kept in (0.1, 0.3, 0.6, 0.9):
        length = int(len(whole) * kept)
        assert refusal(whole[:length] + bytes(len(whole) - length)).kind == "broken"


def test_a_png_whose_pixels_do_not_match_their_checksum_is_refused_although_pillow_reads_it() -> None:
    whole = to_bytes(Image.new("L", (8, 8), 1), "PNG")
    checksum = whole.index(b"IEND") - 8
    data = write_at(whole, checksum, b"\0\0\0\0")
    Image.open(io.BytesIO(data)).load()

    assert str(refusal(data, name="cat.png")) == (
        "cat.png: damaged image: PNG has a wrong checksum. Copy or download it again."
    )


def test_a_png_without_an_end_is_refused_although_its_pixels_are_there() -> None:
    whole = WHOLE_FILES["png"]

    assert str(refusal(whole[: whole.index(b"IEND") - 4], name="cat.png")) == (
        "cat.png: damaged image: PNG ends early, part of the image is missing. Copy or download it again."
    )


def test_a_tiff_whose_jpeg_was_cut_off_is_refused_although_libtiff_fills_it_with_grey() -> None:
    # One strip of "old-style" JPEG. Tags with their type (3: two bytes, 4: four) and count: 258 the bits of a pixel,
    # which stand at 180; 259 how it is packed; 273 and 513 where the strip is; 279 how long.
    jpeg = WHOLE_FILES["jpeg"]
    tags = [(256, 4, 1, 120), (257, 4, 1, 80), (258, 3, 3, 180), (259, 3, 1, 6), (262, 3, 1, 6), (273, 4, 1, 200)]
    tags += [(277, 3, 1, 3), (278, 4, 1, 80), (279, 4, 1, len(jpeg)), (513, 4, 1, 200)]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    whole = head.ljust(180, b"\0") + struct.pack("<HHH", 8, 8, 8).ljust(20, b"\0") + jpeg
    assert load_image(whole).size == (120, 80)

    cut = whole[: 200 + len(jpeg) // 2]
    with Image.open(io.BytesIO(cut)) as image:
        image.load()  # Pillow alone takes it
    assert str(refusal(cut, name="scan.tif")) == (
        "scan.tif: damaged image: TIFF ends early, part of the image is missing. Copy or download it again."
    )


def test_a_damaged_header_is_broken_and_not_another_format() -> None:
    error = refusal(write_at(WHOLE_FILES["png"], 16, bytes(8)), name="cat.png")

    assert (error.kind, str(error)) == (
        "broken",
        "cat.png: damaged image: PNG cannot be decoded. Copy or download it again.",
    )


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(sorted(WHOLE_FILES)),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    in_header=st.booleans(),
)
def test_changed_bytes_give_an_image_or_an_image_error(
    name: str, changes: list[tuple[float, int]], in_header: bool
) -> None:
    data = bytearray(WHOLE_FILES[name])
    for at, value in changes:
        data[int(at * (min(len(data), 200) if in_header else len(data)))] = value

    readers: list[Callable[..., Any]] = [load_image, image_size_px]
    for read in readers:
        try:
            result = read(bytes(data), max_pixels=1_000_000)
        except ImageError as error:
            result = error
        # Any other exception ends the test here.
        assert isinstance(result, ImageError | Image.Image | tuple)


@pytest.mark.parametrize(
    "raised",
    [
        OSError("image file is truncated"),
        SyntaxError("broken PNG file"),
        ValueError("bad"),
        RuntimeError("decoder"),
        EOFError(),
        TypeError("bad"),
        IndexError("bad"),
        KeyError("bad"),
        OverflowError("bad"),
        ZeroDivisionError("bad"),
        AttributeError("bad"),
        AssertionError(),
        struct.error("unpack"),
        zlib.error("incorrect header"),
        UserWarning("made an error by the program"),
    ],
    ids=lambda raised: type(raised).__name__,
)
def test_an_error_that_comes_late_is_an_image_error(raised: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise raised

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)

    error = refusal(WHOLE_FILES["png"], name="cat.png")

    assert error.kind == "broken"
    assert str(error).startswith("cat.png: damaged image: PNG ")
    assert error.__cause__ is raised


def test_too_little_memory_is_said_to_be_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)

    error = refusal(WHOLE_FILES["png"], name="cat.png")

    assert error.kind == "too_large"
    assert str(error) == "cat.png: there is not enough memory to decode the image. Resize the image."


def test_an_interrupt_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ImageFile.ImageFile, "load", interrupt)

    with pytest.raises(KeyboardInterrupt):
        load_image(WHOLE_FILES["png"])


def test_a_program_that_makes_pillow_accept_cut_off_files_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)

    with pytest.raises(ConfigError, match="LOAD_TRUNCATED_IMAGES: Pillow has been told to fill what is missing"):
        load_image(WHOLE_FILES["png"])


def test_pillows_global_state_is_left_alone() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))

    load_image(WHOLE_FILES["png"])
    refusal(WHOLE_FILES["png"][:100])

    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)) == before


def test_threads_do_not_disturb_each_other() -> None:
    sources = [(name, cut) for name in WHOLE_FILES for cut in (False, True)] * 5

    def read(source: tuple[str, bool]) -> str:
        name, cut = source
        whole = WHOLE_FILES[name]
        try:
            return load_image(whole[: len(whole) // 2] if cut else whole).mode
        except ImageError as error:
            return error.kind

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, sources)) == ["broken" if cut else "RGB" for _, cut in sources]


# --- bombs --------------------------------------------------------------------------------------------------------


def make_size_bombs() -> dict[str, bytes]:
    small = make_photo(32, 32)
    jpeg, webp = to_bytes(small, "JPEG"), to_bytes(small, "WEBP")
    return {
        "png": build_png(20_000, 20_000, 8, 2, b""),
        "gif": write_at(to_bytes(small, "GIF"), 6, struct.pack("<HH", 60_000, 60_000)),
        "bmp": write_at(to_bytes(small, "BMP"), 18, struct.pack("<ii", 20_000, 20_000)),
        "jpeg": write_at(jpeg, jpeg.index(b"\xff\xc0") + 5, struct.pack(">HH", 60_000, 60_000)),
        "webp": write_at(webp, webp.index(b"\x9d\x01\x2a") + 3, struct.pack("<HH", 16_383, 16_383)),
        "tiff": to_bytes(Image.new("1", (8_000, 8_000)), "TIFF", compression="group4"),
    }


@pytest.mark.parametrize(("name", "data"), make_size_bombs().items(), ids=make_size_bombs())
def test_a_size_bomb_is_refused_before_it_is_decoded(
    name: str, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(_: object) -> None:
        raise AssertionError("a bomb was decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    path = tmp_path / name
    path.write_bytes(data)

    for read in (load_image, image_size_px):
        with pytest.raises(ImageError) as caught:
            read(path)
        assert caught.value.kind == "too_large"


def test_the_limit_is_said_with_the_size() -> None:
    error = refusal(WHOLE_FILES["png"], name="cat.png", max_pixels=9_599)

    assert error.kind == "too_large"
    assert str(error) == (
        "cat.png: 120 x 80 pixels are 9,600, expected at most 9,599. "
        "Resize the image, or raise max_pixels if it is meant to be so large."
    )
    assert load_image(WHOLE_FILES["png"], max_pixels=9_600).size == (120, 80)


@pytest.mark.parametrize(
    "source", [pytest.param(np.zeros((10, 10), np.uint8), id="array"), pytest.param(make_photo(10, 10), id="pillow")]
)
def test_the_limit_holds_for_pixels_in_memory_too(source: Any) -> None:
    assert refusal(source, max_pixels=99).kind == "too_large"
    assert load_image(source, max_pixels=100).size == (10, 10)


def test_pillows_warning_of_a_bomb_counts_as_an_error() -> None:
    data = build_png(10_000, 10_000, 8, 2, b"")  # 100 million: above Pillow's warning, below its error

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refusal(data, max_pixels=10**9).kind == "too_large"
        warnings.simplefilter("ignore")
        assert refusal(data, max_pixels=10**9).kind == "too_large"


def test_pillows_limit_holds_where_it_is_the_smaller_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5_000)
    assert "at most 5,000" in str(refusal(make_photo(120, 80)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert f"at most {MAX_PIXELS:,}" in str(refusal(build_png(20_000, 20_000, 8, 2, b"")))


def test_a_tiff_tile_larger_than_its_image_is_refused_before_it_is_decoded() -> None:
    tags = [(256, 16), (257, 16), (258, 8), (259, 8), (262, 1), (277, 1), (322, 16_000), (323, 16_000), (324, 8)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in [*tags, (325, 100)])
    data = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 10) + entries + bytes(200)

    error = refusal(data)

    assert error.kind == "too_large"
    assert "16000 x 16000" in str(error)


def split_last_scan(jpeg: bytes) -> tuple[bytes, bytes]:
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:last], jpeg[last:-2]


def make_scan_bomb(num_scans: int) -> bytes:
    before, scan = split_last_scan(to_bytes(make_photo(), "JPEG", progressive=True))
    return before + scan * (num_scans - before.count(b"\xff\xda")) + b"\xff\xd9"


def test_a_jpeg_with_too_many_scans_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = make_scan_bomb(257)
    Image.open(io.BytesIO(bomb)).load()  # Pillow has no limit, so the check here is what stops it

    error = refusal(bomb, name="cat.jpg")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("a bomb was decoded"))
    refusal(bomb)

    assert (error.kind, str(error)) == (
        "too_many_scans",
        "cat.jpg: the JPEG has more than 256 scans. Save it again with another program.",
    )


def test_the_scans_of_a_large_jpeg_are_fewer_since_each_costs_more(monkeypatch: pytest.MonkeyPatch) -> None:
    # 120 x 80 are 9,600 pixels: 30 scans of them are 288,000.
    monkeypatch.setattr("manylabel.data.images.MAX_SCAN_PIXELS", 288_000)
    assert load_image(make_scan_bomb(30)).size == (120, 80)
    error = refusal(make_scan_bomb(31), name="cat.jpg")
    assert (error.kind, str(error)) == (
        "too_many_scans",
        "cat.jpg: the JPEG has more than 30 scans of 120 x 80 pixels. Save it again with another program.",
    )


def test_twenty_scans_are_allowed_however_large_the_jpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manylabel.data.images.MAX_SCAN_PIXELS", 1)
    assert load_image(make_scan_bomb(20)).size == (120, 80)
    assert refusal(make_scan_bomb(21)).kind == "too_many_scans"


def test_a_jpeg_with_256_scans_is_read() -> None:
    assert load_image(make_scan_bomb(256)).size == (120, 80)


@pytest.mark.parametrize(
    "disguise",
    [
        pytest.param(lambda head, scans: head + b"\xff\xfe\x00\x06abcd" + scans, id="comment-before-the-scans"),
        pytest.param(lambda head, scans: head + b"\xff\x02\xff\xff" + scans, id="a-length-behind-what-is-no-marker"),
        pytest.param(lambda head, scans: head + b"\xff" * 50_000 + scans[1:], id="fill-bytes"),
        pytest.param(lambda head, scans: head + b"\xff\xd0\xff\xff" + scans, id="a-length-behind-a-restart"),
    ],
)
def test_scans_cannot_be_hidden(disguise: Callable[[bytes, bytes], bytes]) -> None:
    head, scan = split_last_scan(to_bytes(make_photo(), "JPEG", progressive=True))

    assert refusal(disguise(head, scan * 300 + b"\xff\xd9")).kind == "too_many_scans"


@pytest.mark.parametrize(
    "add",
    [
        pytest.param(lambda jpeg: jpeg + b"\x00\x02" + b"\xff\xda\x00\x02" * 1000, id="a-video-behind-the-photograph"),
        pytest.param(
            lambda jpeg: jpeg[:2] + b"\xff\xed" + struct.pack(">H", 2002) + b"\xff\xda" * 1000 + jpeg[2:],
            id="previews-in-the-metadata",
        ),
    ],
)
def test_scan_marks_outside_the_image_do_not_count(add: Callable[[bytes], bytes]) -> None:
    np.testing.assert_array_equal(pixels(load_image(add(WHOLE_FILES["jpeg"]))), pixels(load_image(WHOLE_FILES["jpeg"])))


def test_scan_marks_are_counted_across_blocks_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    class SmallReads(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(1 if size == 1 << 20 else size)

    monkeypatch.setattr(io, "BytesIO", SmallReads)

    assert refusal(make_scan_bomb(257)).kind == "too_many_scans"


def test_a_text_bomb_in_a_png_is_an_image_error() -> None:
    info = PngImagePlugin.PngInfo()
    for number in range(5):
        info.add_text(f"key{number}", "a" * 30_000_000, zip=True)

    assert refusal(to_bytes(make_photo(4, 4), "PNG", pnginfo=info)).kind == "broken"


# --- arrays -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        pytest.param(np.full((2, 3), 9, np.uint8), (9, 9, 9), id="HxW"),
        pytest.param(np.full((2, 3, 1), 9, np.uint8), (9, 9, 9), id="HxWx1"),
        pytest.param(np.full((2, 3, 3), (1, 2, 3), np.uint8), (1, 2, 3), id="HxWx3"),
        pytest.param(np.full((2, 3, 4), (255, 0, 0, 128), np.uint8), HALF_CLEAR_RED_ON_WHITE, id="HxWx4-on-white"),
        pytest.param(np.full((2, 3), 257 * 9, np.uint16), (9, 9, 9), id="uint16"),
        pytest.param(np.full((2, 3), 257 * 9, ">u2"), (9, 9, 9), id="uint16-big-endian"),
        pytest.param(np.full((2, 3, 3), 65535, np.uint16), (255, 255, 255), id="uint16-colour"),
        pytest.param(np.full((2, 3, 3), 0.2, np.float32), (51, 51, 51), id="float32"),
        pytest.param(np.full((2, 3, 3), 1.0, np.float64), (255, 255, 255), id="float64"),
        pytest.param(np.full((2, 3), 0.2, np.float16), (51, 51, 51), id="float16"),
        pytest.param(np.full((3, 2, 3), (1, 2, 3), np.uint8).transpose(1, 0, 2), (1, 2, 3), id="not-contiguous"),
    ],
)
def test_arrays_become_rgb(array: npt.NDArray[Any], expected: tuple[int, int, int]) -> None:
    image = load_image(array)

    assert (image.mode, image.size) == ("RGB", (3, 2))
    assert image_size_px(array) == (3, 2)
    np.testing.assert_array_equal(pixels(image), np.full((2, 3, 3), expected))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        pytest.param(
            np.zeros((3, 20, 30), np.uint8),
            "x: an array of shape 3x20x30 is no image, expected HxW, HxWx1, HxWx3 or HxWx4.",
            id="channels-first",
        ),
        pytest.param(np.zeros((1, 2, 3, 3), np.uint8), "x: an array of shape 1x2x3x3 is no image", id="a-batch"),
        pytest.param(np.zeros((0, 4), np.uint8), "x: an array of shape 0x4 is no image", id="no-pixels"),
        pytest.param(
            np.zeros((2, 3), np.int64),
            "x: an array of int64 is no image, expected uint8, uint16 or floats in [0, 1].",
            id="int64-has-no-known-white",
        ),
        pytest.param(np.zeros((2, 3), bool), "x: an array of bool is no image", id="mask"),
        pytest.param(np.zeros((2, 3), object), "x: an array of object is no image", id="objects"),
        pytest.param(
            np.array([[0.0, 255.0]]),
            "x: an array of float64 with values from 0 to 255, expected values in [0, 1].",
            id="floats-up-to-255",
        ),
        pytest.param(np.array([[0.0, np.nan]]), "x: an array of float64 with values from nan to nan", id="nan"),
    ],
)
def test_other_arrays_are_refused_with_what_was_expected(array: npt.NDArray[Any], message: str) -> None:
    error = refusal(array, name="x")

    assert error.kind == "broken"
    assert str(error).startswith(message)


# --- sizes and folders --------------------------------------------------------------------------------------------


def test_the_size_is_read_without_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("the image was decoded"))

    assert {image_size_px(data) for data in WHOLE_FILES.values()} == {(120, 80)}


def test_the_size_has_the_same_errors(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "header.jpg").write_bytes(WHOLE_FILES["jpeg"][:20])

    sources: list[Any] = [tmp_path / "none.jpg", tmp_path, *sorted(tmp_path.iterdir()), np.zeros(3)]
    for source in sources:
        with pytest.raises(ImageError) as caught:
            image_size_px(source)
        expected = refusal(source)
        assert (str(caught.value), caught.value.kind) == (str(expected), expected.kind)


def test_a_folder_is_searched_at_every_depth_in_one_order(tmp_path: Path) -> None:
    names = ["b.JPG", "a/z.png", "a/b/c.Jpeg", "a-b/x.webp", "Z.gif", "é.bmp", "a/1.tif", "a/2.tiff", "a/3.avif"]
    for name in [*names, "notes.txt", "a/labels.csv", "jpg", "a/.jpg", "c.jpg.part"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    found = [path.relative_to(tmp_path).as_posix() for path in find_images(str(tmp_path))]

    # By the parts of the path, each by its code points: worked by hand.
    order = ["Z.gif", "a/1.tif", "a/2.tiff", "a/3.avif", "a/b/c.Jpeg", "a/z.png", "a-b/x.webp", "b.JPG", "é.bmp"]
    assert found == order


def test_paths_begin_as_the_folder_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    monkeypatch.chdir(tmp_path)

    assert find_images("photos") == [Path("photos/a.jpg")]
    assert find_images(Path("photos/../photos")) == [Path("photos/../photos/a.jpg")]


def test_a_folder_without_images_gives_an_empty_list(tmp_path: Path) -> None:
    assert find_images(tmp_path) == []


def test_a_folder_named_like_an_image_is_searched_and_not_listed(tmp_path: Path) -> None:
    (tmp_path / "album.jpg").mkdir()
    (tmp_path / "album.jpg" / "a.png").touch()

    assert find_images(tmp_path) == [tmp_path / "album.jpg" / "a.png"]


@needs_fifo
def test_what_cannot_be_read_is_listed_so_that_it_gets_an_answer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    link("nowhere.jpg", tmp_path / "broken.jpg")
    link("self.jpg", tmp_path / "self.jpg")
    (tmp_path / "empty.jpg").touch()

    found = find_images(tmp_path)

    assert [path.name for path in found] == ["broken.jpg", "empty.jpg", "pipe.jpg", "self.jpg"]
    assert [refusal(path).kind for path in found] == ["missing", "empty", "not_a_file", "missing"]


def test_links_to_files_and_folders_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    for folder in (outside, inside / "real"):
        folder.mkdir(parents=True)
        (folder / "a.jpg").touch()
    link(outside / "a.jpg", inside / "file.jpg")
    link(outside, inside / "linked")
    link(inside, inside / "real" / "loop")
    for alias in ("alias", "zalias"):  # before and behind the folder they lead to
        link(inside / "real", inside / alias)
    link(inside, outside / "back")

    found = [path.relative_to(inside).as_posix() for path in find_images(inside)]

    assert found == ["file.jpg", "linked/a.jpg", "real/a.jpg"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        pytest.param("none", "the folder cannot be read: ", id="missing"),
        pytest.param("file.jpg", "the folder cannot be read: ", id="a-file"),
    ],
)
def test_a_folder_that_is_none_is_said_so(name: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "file.jpg").touch()

    with pytest.raises(DataError) as caught:
        find_images(tmp_path / name)

    assert str(caught.value).startswith(f"{tmp_path / name}: {problem}")
    assert str(caught.value).endswith("Check the path and its permissions.")


def test_folders_that_may_not_be_listed_are_all_named_and_not_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "locked", "sealed"):
        (tmp_path / name).mkdir()
    list_folder = os.scandir

    def refuse(folder: Path) -> Any:
        if folder.name in ("locked", "sealed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return list_folder(folder)

    monkeypatch.setattr(os, "scandir", refuse)

    with pytest.raises(DataError) as caught:
        find_images(tmp_path)

    assert str(caught.value).splitlines() == [
        f"{tmp_path / name}: the folder cannot be read: Permission denied. Check the path and its permissions."
        for name in ("locked", "sealed")
    ]


@pytest.mark.skipif(not COCO.is_dir(), reason="the real photographs are not beside this checkout")
def test_all_128_photographs_are_decoded() -> None:
    found = find_images(COCO)

    assert len(found) == 128
    for path in found:
        assert load_image(path).size == image_size_px(path)


# --- decoding at a smaller scale ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [pytest.param((1000, 600), id="landscape"), pytest.param((600, 1000), id="portrait")])
@pytest.mark.parametrize("tag", range(1, 9))
def test_a_jpeg_decoded_at_a_smaller_scale_is_upright_and_large_enough(tag: int, size: tuple[int, int]) -> None:
    upright = make_photo(*size)
    data = store_turned(upright, tag, "JPEG", quality=90)

    image = load_image(data, min_size_px=(size[0] // 2 - 10, 150))

    assert image.size == (size[0] // 2, size[1] // 2), "half is enough, a quarter is too small in one direction"
    assert mean_difference(at_224(image), at_224(load_image(store_turned(upright, 1, "JPEG", quality=90)))) <= 3


@pytest.mark.parametrize("format_name", ["PNG", "BMP", "WEBP"])
def test_other_formats_come_at_full_size(format_name: str) -> None:
    assert load_image(to_bytes(make_photo(400, 300), format_name), min_size_px=(20, 20)).size == (400, 300)


def test_a_cut_off_jpeg_is_refused_at_a_smaller_scale_too() -> None:
    data = to_bytes(make_photo(800, 800), "JPEG", quality=90)
    with pytest.raises(ImageError, match="ends early"):
        load_image(data[: len(data) * 9 // 10], min_size_px=(100, 100))


@pytest.mark.skipif(not COCO.is_dir(), reason="the real photographs are not beside this checkout")
def test_photographs_differ_little_from_the_plain_path() -> None:
    preprocess = Preprocess(height_px=224, width_px=224, mean=(0, 0, 0), std=(1, 1, 1))
    differences = [
        mean_difference(preprocess.resize_image(load_image(path, min_size_px=(224, 224))), at_224(load_image(path)))
        for path in find_images(COCO)
    ]
    assert np.mean(differences) <= 2


# --- headers ------------------------------------------------------------------------------------------------------


def test_a_header_says_format_upright_size_and_orientation() -> None:
    data = store_turned(make_photo(30, 20), 6, "JPEG")
    assert read_header(data) == ImageHeader("JPEG", 30, 20, 6)
    assert read_header(to_bytes(make_photo(30, 20), "PNG")) == ImageHeader("PNG", 30, 20, 1)


def test_only_a_regular_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"123")
    assert read_image_file(tmp_path / "a.jpg") == b"123"
    with pytest.raises(ImageError, match="this is a folder"):
        read_image_file(tmp_path)
