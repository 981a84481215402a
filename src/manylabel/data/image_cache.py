"""A cache of decoded images: what `load_image` gave for a file, kept as plain pixels in a folder.

It holds what comes before anything random and before the last resize, so a model sees the same bits with and without
it, in training and in validation. Worth it where decoding is slower than reading: photographs, PNG, network drives.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import tempfile
import threading
import zlib
from pathlib import Path

from PIL import Image

from manylabel.data.images import load_image

_HEAD = struct.Struct("<4sIII")
"""The mark, width, height, and the checksum of the pixels."""

_MARK = b"mli1"
_BLOCK_BYTES = 4096
"""A full disk takes names of files, and no block of one."""

_MAX_PIXELS = 4_000_000
"""A larger image takes longer to read than it is worth, and fills the disk."""


class ImageCache:
    """Decoded images by path, size and time of their file and by the size that is needed.

    Several processes may use one folder: an entry is written beside its place and moved there whole. An entry that is
    damaged is decoded again. When nothing can be written (a full disk, a folder that is none of ours) what is cached is
    still read, and everything else is decoded.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.is_writable = True

    def load(self, path: str, *, name: str, min_size_px: tuple[int, int]) -> Image.Image:
        """Return what `load_image` returns, from the cache where it is there.

        Raises:
            ImageError: as in `load_image`.
        """
        entry = self._find_entry(path, min_size_px)
        image = None if entry is None else _read(entry)
        if image is None:
            image = load_image(path, name=name, min_size_px=min_size_px)
            if entry is not None and self.is_writable and image.width * image.height <= _MAX_PIXELS:
                self.is_writable = _write(entry, image)
        return image

    def prepare(self) -> str:
        """Make the folder, and return a warning where nothing can be kept in it; "" where it can."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as file:
                file.write(bytes(_BLOCK_BYTES))
                file.flush()
                return ""
        except OSError as error:
            reason = error.strerror if error.strerror else str(error)
            return f"Warning: nothing can be kept in {self.folder} ({reason}): images are decoded in every epoch."

    def _find_entry(self, path: str, min_size_px: tuple[int, int]) -> Path | None:
        """Return where the image of a file is kept; None for what is no file."""
        try:
            info = os.stat(path)  # noqa: PTH116 - called once per image and epoch
        except (OSError, ValueError):
            return None
        whole = os.path.abspath(path)  # noqa: PTH100
        key = f"{whole}\n{info.st_size}\n{info.st_mtime_ns}\n{min_size_px}".encode("utf-8", "surrogateescape")
        digest = hashlib.blake2b(key, digest_size=16).hexdigest()
        return self.folder / digest[:2] / digest[2:]


def _read(entry: Path) -> Image.Image | None:
    """Return the image of an entry; None where there is none or it is damaged."""
    try:
        data = entry.read_bytes()
    except OSError:
        return None
    if len(data) < _HEAD.size:
        return None
    mark, width, height, checksum = _HEAD.unpack_from(data)
    pixels = memoryview(data)[_HEAD.size :]
    if mark != _MARK or len(pixels) != width * height * 3 or zlib.crc32(pixels) != checksum or not len(pixels):
        return None
    return Image.frombytes("RGB", (width, height), bytes(pixels))


def _write(entry: Path, image: Image.Image) -> bool:
    """Write an entry whole or not at all; False where it cannot be written."""
    pixels = image.tobytes()
    partial = entry.with_name(f"{entry.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        # Not forced to the disk: what a crash of the machine damages has a wrong checksum.
        partial.write_bytes(_HEAD.pack(_MARK, image.width, image.height, zlib.crc32(pixels)) + pixels)
        partial.replace(entry)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        return False
    return True
