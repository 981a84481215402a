"""The cache of decoded images: the same bits, never a stale or damaged entry, never in the way."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manylabel.data import image_cache
from manylabel.data.image_cache import ImageCache
from manylabel.data.images import ImageError, load_image

SIZE = (20, 20)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg")
    return tmp_path / "a.jpg"


def count_decodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    decoded: list[str] = []

    def load_and_count(path: str, *, name: str, min_size_px: tuple[int, int]) -> Image.Image:
        decoded.append(name)
        return load_image(path, name=name, min_size_px=min_size_px)

    monkeypatch.setattr(image_cache, "load_image", load_and_count)
    return decoded


def test_a_second_look_decodes_nothing_and_gives_the_same_bits(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = count_decodings(monkeypatch)
    cache = ImageCache(tmp_path / "cache")
    first, second = (cache.load(str(photo), name="a", min_size_px=SIZE) for _ in range(2))
    assert decoded == ["a"]
    assert first.tobytes() == second.tobytes() == load_image(photo, min_size_px=SIZE).tobytes()
    assert (second.size, second.mode) == ((30, 23), "RGB")


def test_another_size_a_changed_file_and_a_new_time_are_decoded(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = count_decodings(monkeypatch)
    cache = ImageCache(tmp_path / "cache")
    cache.load(str(photo), name="first", min_size_px=SIZE)
    cache.load(str(photo), name="size", min_size_px=(100, 80))
    info = photo.stat()
    os.utime(photo, ns=(info.st_atime_ns, info.st_mtime_ns + 1))
    cache.load(str(photo), name="time", min_size_px=SIZE)
    Image.new("RGB", (50, 50), "red").save(photo)
    assert cache.load(str(photo), name="content", min_size_px=SIZE).getpixel((0, 0))[0] > 200  # type: ignore[index]
    assert decoded == ["first", "size", "time", "content"]


@pytest.mark.parametrize("harm", ["cut off", "a flipped bit", "empty", "other bytes"])
def test_a_damaged_entry_is_decoded_again(photo: Path, tmp_path: Path, harm: str) -> None:
    cache = ImageCache(tmp_path / "cache")
    whole = cache.load(str(photo), name="a", min_size_px=SIZE).tobytes()
    (entry,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    data = entry.read_bytes()
    flipped = data[:-1] + bytes([data[-1] ^ 1])
    entry.write_bytes({"cut off": data[:-1], "a flipped bit": flipped, "empty": b"", "other bytes": b"x" * 99}[harm])
    assert cache.load(str(photo), name="a", min_size_px=SIZE).tobytes() == whole
    assert entry.read_bytes() == data


def test_a_full_disk_costs_nothing_but_time(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, data: bytes) -> int:  # noqa: ARG001 - the signature of write_bytes
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    cache = ImageCache(tmp_path / "cache")
    assert cache.load(str(photo), name="a", min_size_px=SIZE).size == (30, 23)
    assert not cache.is_writable
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_many_writers_leave_one_whole_entry(photo: Path, tmp_path: Path) -> None:
    def load(_: int) -> bytes:
        return ImageCache(tmp_path / "cache").load(str(photo), name="a", min_size_px=SIZE).tobytes()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(load, range(64)))) == 1
    assert len([path for path in (tmp_path / "cache").rglob("*") if path.is_file()]) == 1


def test_what_is_no_image_is_refused_as_without_a_cache(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"words")
    for path, kind in ((tmp_path / "a.jpg", "unsupported_format"), (tmp_path / "no.jpg", "missing")):
        with pytest.raises(ImageError) as error:
            ImageCache(tmp_path / "cache").load(str(path), name="a", min_size_px=SIZE)
        assert error.value.kind == kind


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    assert ImageCache(tmp_path / "new").prepare() == ""
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").touch()
    assert ImageCache(tmp_path / "file" / "cache").prepare() == (
        f"Warning: nothing can be kept in {tmp_path / 'file' / 'cache'} ({os.strerror(errno.ENOTDIR)}): "
        "images are decoded in every epoch."
    )
