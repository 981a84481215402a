"""Images: the only place that decodes pixels. Everything comes out upright and RGB, or as one clear `ImageError`.

Every mode becomes RGB in one way:

| pixels | become |
|---|---|
| 1, L, P, RGB, YCbCr, HSV, LAB, CMYK | Pillow's own conversion; colour profiles are not applied |
| anything transparent (alpha, palette, one colour) | laid on white |
| I;16, and I whose values fit in 16 bits | divided by 257, so 65535 is white; negative values are black |
| I with larger values | scaled by the largest value |
| F between 0 and 1 | times 255 |
| F with other values | smallest to 0, largest to 255; NaN is black |

A file that ends early is always refused, and so is a PNG with a wrong checksum. What this cannot see is damage inside
a file that is otherwise complete: WebP, BMP and plain TIFF have no checksums, and libjpeg repairs a JPEG in silence.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

# Importing a plugin registers its format. Without these, Image.open would import all of Pillow's plugins to find one.
from PIL import (
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    ExifTags,
    GifImagePlugin,  # noqa: F401
    Image,
    ImageFile,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,
    WebPImagePlugin,  # noqa: F401
    features,
)

from manylabel.errors import ConfigError, DataError, ManylabelError, build_message, join_problems

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
"""The extensions, in lower case, that make a file in a folder an image."""

MAX_PIXELS = 50_000_000
"""How many pixels (width x height) an image may have before it is refused without being decoded."""

MAX_SCANS = 256
"""How many scans a JPEG may have: each one costs a pass over the whole image, and 384 kB can hold 10,000 of them."""

MAX_SCAN_PIXELS = 1_000_000_000
"""How many pixels all scans of a JPEG may have together, half a second of work; 20 scans are always allowed."""

_ALWAYS_ALLOWED_SCANS = 20  # encoders write about ten

ImageErrorKind = Literal[
    "missing",
    "not_a_file",
    "empty",
    "unreadable",
    "unsupported_format",
    "too_large",
    "too_many_scans",
    "broken",
]
"""Why an image cannot be used; the value of `error.kind` in answers."""

ImageSource = str | os.PathLike[str] | bytes | npt.NDArray[Any] | Image.Image
"""What an image can be read from: a path, the bytes of a file, an array of pixels or an image of Pillow's."""

# MPO (phones, stereo cameras) is not named: its files are JPEGs and come through that reader, and naming it makes
# Pillow end in a KeyError on every file it does not know.
_SIGNATURES: tuple[tuple[str, int, tuple[bytes, ...]], ...] = (
    ("JPEG", 0, (b"\xff\xd8\xff",)),
    ("PNG", 0, (b"\x89PNG\r\n\x1a\n",)),
    ("WEBP", 8, (b"WEBP",)),
    ("GIF", 0, (b"GIF87a", b"GIF89a")),
    ("BMP", 0, (b"BM",)),
    ("TIFF", 0, (b"II\x2a\x00", b"MM\x00\x2a", b"II\x2b\x00", b"MM\x00\x2b")),
    ("AVIF", 4, (b"ftypavif", b"ftypavis", b"ftypmif1", b"ftypmsf1")),
)
_FORMATS_TEXT = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"

# Only for the message: what people have under an image's name when it is not one.
_OTHER_CONTENTS: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"%!PS", "PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript"),
    (0, b"%PDF", "PDF"),
    (0, b"<svg", "SVG"),
    (0, b"<!DOCTYPE", "a web page"),
    (0, b"<!doctype", "a web page"),
    (0, b"<html", "a web page"),
    (0, b"version https://git-lfs", "a Git LFS pointer"),
)

# What Pillow raises on damaged files, by where it comes from. OSError, SyntaxError, ValueError and RuntimeError are
# what a fuzzing run over Pillow's own test images met; DecompressionBombError is a plain Exception. TypeError,
# LookupError, ArithmeticError, EOFError, AttributeError, AssertionError, struct.error and zlib.error are what plugins
# written in Python end in when a header, palette or metadata block is not what they expect; Pillow turns them into
# SyntaxError while it opens a file, not while it loads one. ImportError: a Pillow built without a part (LittleCMS).
# Warning: the program has made warnings errors. Not caught: KeyboardInterrupt and SystemExit; MemoryError has a
# message of its own.
_DECODE_ERRORS = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    AttributeError,
    AssertionError,
    ImportError,
    struct.error,
    zlib.error,
    Warning,
)
_BOMB_ERRORS = (Image.DecompressionBombError, Image.DecompressionBombWarning)

_TRANSPOSE_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS_ORIENTATIONS = (5, 6, 7, 8)

_WHITE = (255, 255, 255)
_BYTE_BY_UINT16 = ((np.arange(65536, dtype=np.uint32) + 128) // 257).astype(np.uint8)


class ImageError(ManylabelError):
    """An image that cannot be used: `kind` says why for programs, the message for people.

    It is built by position and travels between processes with its kind.

    Example:
        >>> try:
        ...     load_image(b"", name="cat.jpg")
        ... except ImageError as error:
        ...     print(error.kind, "|", error)
        empty | cat.jpg: the file is empty. Copy or download it again.
    """

    def __init__(self, message: str, kind: ImageErrorKind) -> None:
        super().__init__(message)
        self.kind: ImageErrorKind = kind

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, ImageErrorKind]]:
        return type(self), (str(self), self.kind)


def load_image(
    source: ImageSource,
    *,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    min_size_px: tuple[int, int] | None = None,
) -> Image.Image:
    """Return the image upright, in mode RGB, and detached from its file.

    Only the first frame of a file is decoded. An image of Pillow's is taken at the frame it stands at and may be
    loaded by this, but is not changed. The result carries no metadata, so loading it again changes nothing.

    Shapes: arrays are HxW or HxWx1, HxWx3 or HxWx4 (alpha).
    Args:
        source: a path, the bytes of an image file, an array (uint8; uint16 with 65535 as white; floats in [0, 1]) or
            an image of Pillow's.
        name: what messages call the image; default the path as given, or "image".
        max_pixels: the largest width x height; Pillow's own Image.MAX_IMAGE_PIXELS holds where it is smaller.
        min_size_px: (width, height) that is enough. A JPEG at least twice as large both ways is then decoded at a half,
            a quarter or an eighth, never below this size: eight times faster for a photograph of 12 megapixels, and
            0.6 of 255 away from it on average once both are made 224 px. The damage that is found is the same.
    Raises:
        ImageError: there is no file, it is no regular file, is empty, may not be read, is of another format, has too
            many pixels or JPEG scans, or is damaged or cut off anywhere.
        ConfigError: the program has told Pillow to accept truncated files, which fills what is missing with grey.

    Example:
        >>> import numpy as np
        >>> image = load_image(np.zeros((2, 3), np.uint8))
        >>> image.mode, image.size
        ('RGB', (3, 2))
    """
    _check_pillow_refuses_truncated()
    where = _name_source(source, name)
    if isinstance(source, np.ndarray):
        return _array_to_rgb(source, where, max_pixels)
    if isinstance(source, Image.Image):
        _check_num_pixels(source.size, where, max_pixels)
        return _decode(source, where)
    with _open_stream(source, where) as stream, _open_header(stream, where, max_pixels) as image:
        if image.format in ("JPEG", "MPO"):
            _check_num_scans(stream, where, image.size)
            if min_size_px is not None:
                _scale_while_decoding(image, min_size_px)
        if image.format == "PNG":
            _check_png(stream, where)
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            _check_tiff(image, stream, where)
        return _decode(image, where)


@dataclass(frozen=True)
class ImageHeader:
    """What the head of a file says: format as Pillow names it, upright size, orientation tag (1 to 8)."""

    format: str
    width_px: int
    height_px: int
    orientation: int


def read_header(data: bytes, *, name: str = "image", max_pixels: int = MAX_PIXELS) -> ImageHeader:
    """Return what the head of an image file says, without decoding its pixels.

    Raises:
        ImageError: as in `load_image`, as far as the header shows it.
    """
    with _open_stream(data, name) as stream, _open_header(stream, name, max_pixels) as image:
        width, height = _size_upright(image)
        # A JPEG with a second picture inside (phones) is a JPEG to whoever named the file.
        format_name = "JPEG" if image.format == "MPO" else str(image.format)
        return ImageHeader(format_name, width, height, _find_orientation(image))


def read_image_file(path: str | os.PathLike[str], *, name: str | None = None) -> bytes:
    """Return the bytes of an image file; nothing but a regular file is opened, so a pipe cannot block.

    Raises:
        ImageError: there is no file, it is no regular file, is empty, or may not be read.
    """
    where = _name_source(path, name)
    with _open_stream(path, where) as stream:
        try:
            return stream.read()
        except OSError as error:
            raise _file_error(error, where) from error


def image_size_px(source: ImageSource, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return (width, height) as `load_image` would give it, from the header alone.

    Damage behind the header is not seen. A PNG with metadata behind its pixels is decoded, because its orientation
    may stand there.

    Args:
        source: as in `load_image`.
        name: as in `load_image`.
        max_pixels: as in `load_image`.
    Raises:
        ImageError: as in `load_image`, as far as the header shows it.

    Example:
        >>> import numpy as np
        >>> image_size_px(np.zeros((2, 3), np.uint8))
        (3, 2)
    """
    where = _name_source(source, name)
    if isinstance(source, np.ndarray):
        _check_array(source, where, max_pixels)
        return source.shape[1], source.shape[0]
    if isinstance(source, Image.Image):
        _check_num_pixels(source.size, where, max_pixels)
        return _size_upright(source)
    with _open_stream(source, where) as stream, _open_header(stream, where, max_pixels) as image:
        with _decode_errors_named(where, "PNG"):
            is_late = image.format == "PNG" and _has_late_metadata(stream)
        if is_late:
            return load_image(source, name=name, max_pixels=max_pixels).size
        return _size_upright(image)


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Return every path below the folder with an image extension, readable or not, sorted by its parts.

    Args, Raises and order: as `list_images`.
    """
    return [Path(path) for path in list_images(folder)]


def list_images(folder: str | os.PathLike[str]) -> list[str]:
    """Return `find_images` as text, in a fifth of the memory.

    Links to folders are followed; a folder is visited once however many links lead to it, by its own path if it has
    one below `folder`. Whatever is no folder is listed, so that broken links and special files get an answer too.

    Args:
        folder: where to look, at any depth; extensions match in upper and lower case.
    Returns: paths that begin with `folder` as given; the order is the same on every platform.
    Raises:
        DataError: the folder does not exist, is no folder, or one below it may not be listed.
    """
    top = Path(folder)
    found: list[str] = []
    problems: list[str] = []
    visited: set[tuple[int, int] | Path] = set()
    pending, linked = [top], list[Path]()
    while pending or linked:
        here = pending.pop() if pending else linked.pop(0)
        try:
            identity = _identify_folder(here)
            if identity in visited:
                continue
            visited.add(identity)
            prefix = "" if str(here) == "." else os.path.join(here, "")  # noqa: PTH118 - as Path spells it
            folders = []
            with os.scandir(here) as scan:
                for entry in scan:
                    if _is_folder(entry):
                        folders.append(entry)
                    elif os.path.splitext(entry.name)[1].lower() in IMAGE_EXTENSIONS:  # noqa: PTH122
                        found.append(prefix + entry.name)
        except OSError as error:
            do = "Check the path and its permissions"
            problems.append(build_message(here, f"the folder cannot be read: {_reason(error)}", do=do))
            continue
        for entry in sorted(folders, key=lambda entry: entry.name):
            (linked if entry.is_symlink() else pending).append(here / entry.name)
    if problems:
        raise DataError(join_problems(sorted(problems)))
    # As parts compare: what stands before a separator ends there.
    return sorted(found, key=lambda path: path.replace(os.sep, "\0"))


def _identify_folder(folder: Path) -> tuple[int, int] | Path:
    info = folder.stat()
    return (info.st_dev, info.st_ino) if info.st_ino else folder.resolve()  # some network drives number nothing


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, or to where we may not look
        return False


def _check_pillow_refuses_truncated() -> None:
    # The switch is global and read by Pillow while it decodes; setting it back here would race with other threads.
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ConfigError(
            build_message(
                "PIL.ImageFile.LOAD_TRUNCATED_IMAGES",
                "Pillow has been told to fill what is missing from cut-off files with grey",
                got=ImageFile.LOAD_TRUNCATED_IMAGES,
                expected="False",
                do="Remove the line that sets it; it is in this program or in a package it imports",
            )
        )


def _name_source(source: ImageSource, name: str | None) -> str:
    if name is None:
        name = os.fsdecode(source) if isinstance(source, str | os.PathLike) else "image"
    # File names on Linux may hold bytes that are no text; a message with them could not be printed or sent as JSON.
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _reason(error: OSError) -> str:
    # str(error) repeats the path; the name given by the caller already stands in front of the message.
    return error.strerror if error.strerror else type(error).__name__


# --- files --------------------------------------------------------------------------------------------------------


def _open_stream(source: str | os.PathLike[str] | bytes, where: str) -> BinaryIO:
    if isinstance(source, bytes):
        if not source:
            raise _empty_error(where)
        return io.BytesIO(source)
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"an image is a path, bytes, an array or an image of Pillow's, not {type(source).__name__}")
    try:
        info = os.stat(source)  # noqa: PTH116 - Path() would drop a trailing separator
        # Before opening: to open a FIFO waits for a writer, and to open a device may do anything.
        if not stat.S_ISREG(info.st_mode):
            raise ImageError(
                build_message(where, f"this is {_name_file_type(info.st_mode)}", expected="an image file"), "not_a_file"
            )
        if info.st_size == 0:
            raise _empty_error(where)
        # A stream and not a path: Pillow would map the file into memory, and die if it shrinks meanwhile.
        return open(source, "rb")  # noqa: PTH123
    except (OSError, ValueError) as error:
        raise _file_error(error, where) from error


def _empty_error(where: str) -> ImageError:
    return ImageError(build_message(where, "the file is empty", do="Copy or download it again"), "empty")


def _name_file_type(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _file_error(error: OSError | ValueError, where: str) -> ImageError:
    # ValueError: the path has a NUL in it or cannot be encoded, so no file has that name.
    absent = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL)
    if isinstance(error, ValueError) or error.errno in absent:
        return ImageError(build_message(where, "there is no such file", do="Check the path"), "missing")
    do = "Check its permissions" if isinstance(error, PermissionError) else ""
    return ImageError(build_message(where, f"the file cannot be read: {_reason(error)}", do=do), "unreadable")


def _find_format(head: bytes, where: str) -> str:
    for name, offset, signatures in _SIGNATURES:
        if head[offset:].startswith(signatures):
            return name
    got = next((name for at, signature, name in _OTHER_CONTENTS if head[at:].startswith(signature)), None)
    problem = f"this is {got}, not an image in a supported format" if got else "not an image in a supported format"
    raise ImageError(
        build_message(where, problem, expected=_FORMATS_TEXT, do="Convert it, or take it out of the data"),
        "unsupported_format",
    )


def _open_header(stream: BinaryIO, where: str, max_pixels: int) -> ImageFile.ImageFile:
    with _decode_errors_named(where, "the file"):
        head = stream.read(32)
    name = _find_format(head, where)
    if name in ("WEBP", "AVIF") and not features.check(name.lower()):
        raise ImageError(
            build_message(where, f"this installation of Pillow cannot read {name}", do="Install Pillow from a wheel"),
            "unsupported_format",
        )
    with _decode_errors_named(where, name):
        image = Image.open(stream, formats=(name,))
        # A tile may be larger than the image it belongs to, and is decoded whole.
        tile_px = (image.tag_v2.get(322, 0), image.tag_v2.get(323, 0)) if name == "TIFF" else (0, 0)  # type: ignore[attr-defined]
    _check_num_pixels(image.size, where, max_pixels)
    if all(isinstance(side, int) for side in tile_px) and tile_px[0] * tile_px[1] > 0:
        _check_num_pixels(tile_px, where, max_pixels)
    return image


@contextmanager
def _decode_errors_named(where: str, what: str) -> Iterator[None]:
    """Turn what Pillow raises into an ImageError about `what`, such as the name of a format."""
    try:
        yield
    except _BOMB_ERRORS as error:
        raise ImageError(
            build_message(where, "the image has more pixels than Pillow's own limit allows", do="Resize the image"),
            "too_large",
        ) from error
    except MemoryError as error:
        raise ImageError(
            build_message(where, "there is not enough memory to decode the image", do="Resize the image"), "too_large"
        ) from error
    except _DECODE_ERRORS as error:
        # The operating system's errors carry a number, Pillow's own do not; EINVAL is a damaged file's offset.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise _file_error(error, where) from error
        # Pillow's text is only looked at: it may hold other names and addresses.
        problem = "ends early, part of the image is missing" if "truncated" in str(error) else "cannot be decoded"
        raise _damage_error(where, what, problem) from error


def _damage_error(where: str, what: str, problem: str) -> ImageError:
    message = build_message(where, f"damaged image: {what} {problem}", do="Copy or download it again")
    return ImageError(message, "broken")


def _check_num_pixels(size: tuple[int, int], where: str, max_pixels: int) -> None:
    width, height = size
    limit = max_pixels if Image.MAX_IMAGE_PIXELS is None else min(max_pixels, Image.MAX_IMAGE_PIXELS)
    if width * height > limit:
        raise ImageError(
            build_message(
                where,
                f"{width} x {height} pixels are {width * height:,}",
                expected=f"at most {limit:,}",
                do="Resize the image, or raise max_pixels if it is meant to be so large",
            ),
            "too_large",
        )


# --- JPEG scans, PNG chunks, TIFF strips --------------------------------------------------------------------------

_BLOCK_BYTES = 1 << 20
_SCAN_START = b"\xff\xda"
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff])")
_TIFF_COMPRESSION = 259
_TIFF_PLACES = ((273, 279), (324, 325))
"""Tags of the offsets and lengths of strips and of tiles."""


def _check_num_scans(stream: BinaryIO, where: str, size_px: tuple[int, int]) -> None:
    """Refuse a progressive JPEG with more scans than any encoder writes, and leave the stream where it was."""
    affordable = MAX_SCAN_PIXELS // max(size_px[0] * size_px[1], 1)
    limit = min(MAX_SCANS, max(_ALWAYS_ALLOWED_SCANS, affordable))
    with _decode_errors_named(where, "the file"):
        at = stream.tell()
        # The two bytes also occur in previews and in videos behind the image, so this can only acquit.
        if _count_scan_starts(stream) > limit:
            stream.seek(0)
            num_scans = _count_scans(stream.read(), limit)
        else:
            num_scans = 0
        stream.seek(at)
    if num_scans > limit:
        of = "" if limit == MAX_SCANS else f" of {size_px[0]} x {size_px[1]} pixels"
        raise ImageError(
            build_message(where, f"the JPEG has more than {limit} scans{of}", do="Save it again with another program"),
            "too_many_scans",
        )


def _count_scan_starts(stream: BinaryIO) -> int:
    stream.seek(0)
    num, last = 0, b""
    while block := stream.read(_BLOCK_BYTES):
        num += block.count(_SCAN_START) + (last + block[:1] == _SCAN_START)
        last = block[-1:]
    return num


def _count_scans(data: bytes, limit: int) -> int:
    """Count the scans up to the end of the first image as libjpeg walks them, one more than the limit at most."""
    num, at = 0, 2
    while num <= limit and (marker := _JPEG_MARKER.search(data, at)):
        at = marker.end()
        code = marker[1][0]
        if code == 0xD9:  # end of image
            break
        num += code == 0xDA
        # Restart and start markers have no length. Codes below 0xC0 are no markers: libjpeg goes on right behind
        # them, so a length there could hide scans from us.
        if code >= 0xC0 and not 0xD0 <= code <= 0xD8:
            at += int.from_bytes(data[at : at + 2], "big")
    return num


def _walk_png(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield the name and length of each chunk with the stream at its content, up to the first that is none."""
    at = 8
    while len(head := _read_at(stream, at, 8)) == 8 and head[4:].isalpha():
        length = int.from_bytes(head[:4], "big")
        yield head[4:], length
        at += 12 + length


def _read_at(stream: BinaryIO, at: int, num_bytes: int) -> bytes:
    stream.seek(at)
    return stream.read(num_bytes)


def _check_png(stream: BinaryIO, where: str) -> None:
    """Refuse a PNG with a wrong checksum in its pixels or without an end, and leave the stream where it was.

    Pillow looks at neither: of a file whose end was never written it makes pixels from zeros.
    """
    problem = "ends early, part of the image is missing"
    with _decode_errors_named(where, "PNG"):
        start = stream.tell()
        for name, length in _walk_png(stream):
            if name == b"IEND":
                problem = ""
                break
            if name == b"IDAT" and not _is_checksum_right(stream, name, length):
                problem = "has a wrong checksum"
                break
        stream.seek(start)
    if problem:
        raise _damage_error(where, "PNG", problem)


def _check_tiff(image: TiffImagePlugin.TiffImageFile, stream: BinaryIO, where: str) -> None:
    """Refuse a compressed TIFF whose first frame goes on behind the end of the file, and leave the stream where it was.

    Of a JPEG inside that was cut off libtiff makes grey. Of plain pixels Pillow says so itself, and some programs write
    a wrong length for those.
    """
    tags = image.tag_v2
    with _decode_errors_named(where, "TIFF"):
        at = stream.tell()
        num_bytes = stream.seek(0, os.SEEK_END)
        stream.seek(at)
        is_cut = tags.get(_TIFF_COMPRESSION, 1) != 1 and any(
            offset + length > num_bytes
            for offsets, lengths in _TIFF_PLACES
            for offset, length in zip(_get_numbers(tags, offsets), _get_numbers(tags, lengths), strict=False)
        )
    if is_cut:
        raise _damage_error(where, "TIFF", "ends early, part of the image is missing")


def _get_numbers(tags: Any, tag: int) -> tuple[int, ...]:
    value = tags.get(tag, ())
    return tuple(each for each in (value if isinstance(value, tuple) else (value,)) if isinstance(each, int))


def _is_checksum_right(stream: BinaryIO, name: bytes, length: int) -> bool:
    checksum = zlib.crc32(name)
    # In blocks: the length is the file's word, and Python sets memory aside for it before it reads.
    while length > 0 and (block := stream.read(min(length, _BLOCK_BYTES))):
        checksum = zlib.crc32(block, checksum)
        length -= len(block)
    return stream.read(4) == checksum.to_bytes(4, "big")


def _has_late_metadata(stream: BinaryIO) -> bool:
    """Tell whether a PNG has text or EXIF behind the first pixels, and leave the stream where it was."""
    start = stream.tell()
    names = [name for name, _ in _walk_png(stream)]
    stream.seek(start)
    return any(name in (b"eXIf", b"tEXt", b"zTXt", b"iTXt") for name in dropwhile(lambda name: name != b"IDAT", names))


def _scale_while_decoding(image: ImageFile.ImageFile, min_size_px: tuple[int, int]) -> None:
    """Let libjpeg make the image smaller by 2, 4 or 8 while it decodes, as long as the upright size stays enough."""
    width, height = min_size_px
    if _find_orientation(image) in _SIDEWAYS_ORIENTATIONS:
        width, height = height, width
    image.draft(None, (max(1, width), max(1, height)))


# --- orientation --------------------------------------------------------------------------------------------------


def _find_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where there is none or the metadata is damaged, as the pixels are not."""
    try:
        # Not image.getexif(): a PNG would be decoded by it.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except _DECODE_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _size_upright(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    # Pillow turns TIFFs itself when it loads them, and already gives the turned size.
    if image.format != "TIFF" and _find_orientation(image) in _SIDEWAYS_ORIENTATIONS:
        return height, width
    return width, height


# --- pixels -------------------------------------------------------------------------------------------------------


def _decode(image: Image.Image, where: str) -> Image.Image:
    what = image.format if image.format is not None else "the image"
    if 0 in image.size:
        raise ImageError(build_message(where, f"the image has no pixels, its size is {image.size}"), "broken")
    with _decode_errors_named(where, what):
        image.load()
        rgb = _to_rgb(image)
        method = _TRANSPOSE_BY_ORIENTATION.get(_find_orientation(image))
        if method is not None:
            rgb = rgb.transpose(method)
        elif rgb is image:
            rgb = rgb.copy()
    rgb.info = {}
    return rgb


def _to_rgb(image: Image.Image) -> Image.Image:
    """Return the image in mode RGB; itself if it is so already."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _deep_grey_to_rgb(image)
    if image.has_transparency_data:
        return _lay_on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _lay_on_white(image: Image.Image) -> Image.Image:
    if image.mode == "La":  # premultiplied; Pillow has no direct way from here to RGBA
        image = image.convert("LA")
    rgba = image.convert("RGBA")
    if rgba.getchannel("A").getextrema()[0] == 255:
        return rgba.convert("RGB")
    canvas = Image.new("RGB", rgba.size, _WHITE)
    canvas.paste(rgba, mask=rgba)
    return canvas


def _deep_grey_to_rgb(image: Image.Image) -> Image.Image:
    values_HW = np.asarray(image)
    grey_HW = _floats_to_bytes(values_HW) if image.mode == "F" else _integers_to_bytes(values_HW)
    key = image.info.get("transparency")  # the one value that a 16-bit PNG may declare transparent
    if isinstance(key, int):
        grey_HW[values_HW == key] = 255
    return Image.fromarray(grey_HW).convert("RGB")


def _integers_to_bytes(values_HW: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    highest = int(values_HW.max())
    if highest > 65535:
        return np.rint(values_HW.clip(0) * (255.0 / highest)).astype(np.uint8)
    return np.take(_BYTE_BY_UINT16, values_HW.clip(0))


def _floats_to_bytes(values_HW: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    finite = values_HW[np.isfinite(values_HW)]
    lowest, highest = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if lowest < 0 or highest > 1:
        span = highest - lowest if highest > lowest else 1.0
        values_HW = (values_HW.astype(np.float64) - lowest) / span
    shares_HW = np.nan_to_num(values_HW, nan=0.0, posinf=1.0, neginf=0.0)
    grey_HW: npt.NDArray[np.uint8] = np.rint(shares_HW * 255).astype(np.uint8)
    return grey_HW


# --- arrays -------------------------------------------------------------------------------------------------------


def _check_array(pixels: npt.NDArray[Any], where: str, max_pixels: int) -> None:
    is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))
    if not is_image or pixels.size == 0:
        shape = "x".join(map(str, pixels.shape))
        raise _array_error(where, f"an array of shape {shape} is no image", "HxW, HxWx1, HxWx3 or HxWx4")
    _check_num_pixels((pixels.shape[1], pixels.shape[0]), where, max_pixels)
    is_unsigned = pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 2
    if pixels.dtype.kind != "f" and not is_unsigned:
        raise _array_error(where, f"an array of {pixels.dtype} is no image", "uint8, uint16 or floats in [0, 1]")


def _array_error(where: str, problem: str, expected: str) -> ImageError:
    return ImageError(build_message(where, problem, expected=expected), "broken")


def _array_to_rgb(pixels: npt.NDArray[Any], where: str, max_pixels: int) -> Image.Image:
    _check_array(pixels, where, max_pixels)
    if pixels.dtype.kind == "f":
        lowest, highest = float(pixels.min()), float(pixels.max())
        if not (lowest >= 0 and highest <= 1):  # NaN fails both
            problem = f"an array of {pixels.dtype} with values from {lowest:g} to {highest:g}"
            raise _array_error(where, problem, "values in [0, 1]")
        pixels = np.rint(pixels * 255.0).astype(np.uint8)
    elif pixels.dtype != np.uint8:  # uint16 in either byte order
        pixels = np.take(_BYTE_BY_UINT16, pixels)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return _to_rgb(Image.fromarray(pixels))
