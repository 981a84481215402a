"""Scan: one look at every image file, kept on disk so that the next look only reads what is new.

Every file is decoded, so damage anywhere in it is found; JPEGs are decoded at a smaller scale, which finds the same.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from manylabel.cores import count_cores
from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.images import ImageError, load_image, read_header, read_image_file
from manylabel.data.perceptual_hash import hash_image

_SCAN_SIZE_PX = (128, 128)
_BLOCK_IMAGES = 256
_VERSION = 3


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What one look at an image tells; `error` and `error_kind` are "" where it can be decoded.

    `width_px` and `height_px` are upright. `digest` identifies the bytes of the file (or the pixels in memory).
    `hash_bits`, `mirror_bits` and `thumbnail` are those of `hash_image`.
    """

    image: str
    error: str = ""
    error_kind: str = ""
    format: str = ""
    width_px: int = 0
    height_px: int = 0
    orientation: int = 1
    num_bytes: int = 0
    digest: str = ""
    hash_bits: int = 0
    mirror_bits: int = 0
    thumbnail: bytes = b""


def find_cache_folder() -> Path:
    """Return where facts are kept: $MANYLABEL_CACHE, else $XDG_CACHE_HOME/manylabel, else ~/.cache/manylabel."""
    named = os.environ.get("MANYLABEL_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "manylabel"


def scan_images(
    annotations: Annotations,
    *,
    cache: Path | None = None,
    on_image: Callable[[], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    num_threads: int | None = None,
) -> list[ImageFacts]:
    """Look at every image of a table and return what it tells, in the order of the table.

    What was seen is written to the cache as it is seen, so a scan that was interrupted goes on where it stopped. A
    file counts as seen if its path, size and time are the same.

    Args:
        cache: the folder of the cache; None looks at everything. A cache that cannot be used never stops a scan.
        on_image: called once per image, for progress.
        on_note: told in a sentence if the cache cannot be used.
        num_threads: how many images are decoded at once; None takes a thread per core. It never changes a result.
    """
    threads = num_threads if num_threads is not None else count_cores()
    kept = _FactsCache(cache, on_note)
    facts: list[ImageFacts] = []
    records = annotations.records
    with ThreadPoolExecutor(threads) as pool:
        try:
            for start in range(0, len(records), _BLOCK_IMAGES):
                block = records[start : start + _BLOCK_IMAGES]
                known = kept.find([record.path for record in block if record.pixels is None])
                fresh: list[tuple[str, int, int, ImageFacts]] = []
                for record, fact, identity in pool.map(_look, block, itertools.repeat(known)):
                    facts.append(replace(fact, image=record.id, error=_name_in(fact, record)))
                    if identity is not None:
                        fresh.append((record.path, *identity, fact))
                    if on_image is not None:
                        on_image()
                kept.add(fresh)
        finally:
            kept.close()
    return facts


_Identity = tuple[int, int]
"""Size in bytes and time of the last change in nanoseconds."""


def _look(
    record: ImageRecord, known: dict[str, tuple[_Identity, ImageFacts]]
) -> tuple[ImageRecord, ImageFacts, _Identity | None]:
    """Return the facts of an image, and the identity of its file if they are new and worth keeping."""
    if record.pixels is not None:
        return record, _look_at_pixels(record), None
    identity = _identify(record.path)
    if identity is not None and record.path in known and known[record.path][0] == identity:
        return record, known[record.path][1], None
    fact = _look_at_file(record.path)
    # A file that may not be read today may be read tomorrow without having changed.
    is_lasting = identity is not None and fact.error_kind in ("", "broken", "unsupported_format", "too_many_scans")
    return record, fact, identity if is_lasting else None


def _identify(path: str) -> _Identity | None:
    try:
        info = os.stat(path)  # noqa: PTH116 - called once per image
    except (OSError, ValueError):
        return None
    return info.st_size, info.st_mtime_ns


def _look_at_file(path: str) -> ImageFacts:
    fact = ImageFacts("")
    try:
        data = read_image_file(path, name=_NAMELESS)
        fact = replace(fact, num_bytes=len(data), digest=hashlib.blake2b(data, digest_size=16).hexdigest())
        header = read_header(data, name=_NAMELESS)
        fact = replace(
            fact,
            format=header.format,
            width_px=header.width_px,
            height_px=header.height_px,
            orientation=header.orientation,
        )
        seen = hash_image(load_image(data, name=_NAMELESS, min_size_px=_SCAN_SIZE_PX))
    except ImageError as error:
        return replace(fact, error=str(error), error_kind=error.kind)
    return replace(fact, hash_bits=seen.bits, mirror_bits=seen.mirror_bits, thumbnail=seen.thumbnail)


def _look_at_pixels(record: ImageRecord) -> ImageFacts:
    assert record.pixels is not None
    digest = hashlib.blake2b(repr(record.pixels.shape).encode() + record.pixels.tobytes(), digest_size=16).hexdigest()
    try:
        image = load_image(record.pixels, name=_NAMELESS)
    except ImageError as error:
        return ImageFacts("", str(error), error.kind, digest=digest)
    seen = hash_image(image)
    return ImageFacts(
        "",
        width_px=image.width,
        height_px=image.height,
        num_bytes=record.pixels.nbytes,
        digest=digest,
        hash_bits=seen.bits,
        mirror_bits=seen.mirror_bits,
        thumbnail=seen.thumbnail,
    )


_NAMELESS = "\x00"
"""What stands for the image's name in a message that is kept: the same file may have another id in another table."""


def _name_in(fact: ImageFacts, record: ImageRecord) -> str:
    return fact.error.replace(_NAMELESS, record.id.encode("utf-8", "backslashreplace").decode("utf-8"))


class _FactsCache:
    """Facts by path in an SQLite file; once anything is wrong with it, it is left alone and the scan goes on."""

    _COLUMNS = "error, error_kind, format, width_px, height_px, orientation, num_bytes, digest, hash, mirror, thumbnail"

    def __init__(self, folder: Path | None, on_note: Callable[[str], None] | None) -> None:
        self._connection: sqlite3.Connection | None = None
        self._on_note = on_note
        if folder is None:
            return
        self._path = folder / f"facts-{_VERSION}.sqlite"
        with self._left_alone_on_error():
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self._path, timeout=10, isolation_level=None)
            # Several programs may write at once; what a crash of the machine loses is looked at again.
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(
                f"CREATE TABLE IF NOT EXISTS facts (path TEXT PRIMARY KEY, size INTEGER, time_ns INTEGER, "
                f"{self._COLUMNS}) WITHOUT ROWID"
            )

    def find(self, paths: Sequence[str]) -> dict[str, tuple[_Identity, ImageFacts]]:
        """Return what is known of the files at these paths."""
        found: dict[str, tuple[_Identity, ImageFacts]] = {}
        absolute = {os.path.abspath(path): path for path in paths}  # noqa: PTH100 - called once per image
        with self._left_alone_on_error():
            if self._connection is not None:
                marks = ",".join("?" * len(absolute))
                query = f"SELECT path, size, time_ns, {self._COLUMNS} FROM facts WHERE path IN ({marks})"
                for path, size, time_ns, *values in self._connection.execute(query, list(absolute)):
                    found[absolute[path]] = ((size, time_ns), _read_row(values))
        return found

    def add(self, rows: Sequence[tuple[str, int, int, ImageFacts]]) -> None:
        """Keep the facts of files; all of them or, if the disk is full, none."""
        with self._left_alone_on_error():
            if self._connection is not None and rows:
                values = [
                    (os.path.abspath(path), size, time_ns, *_write_row(fact))  # noqa: PTH100
                    for path, size, time_ns, fact in rows
                ]
                marks = ",".join("?" * len(values[0]))
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany(f"INSERT OR REPLACE INTO facts VALUES ({marks})", values)
                self._connection.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    @contextmanager
    def _left_alone_on_error(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            self.close()
            if self._on_note is not None:
                self._on_note(f"What is seen of the images is not kept: {self._path} cannot be used ({error}).")


def _write_row(fact: ImageFacts) -> tuple[object, ...]:
    # SQLite's integers are signed.
    values = list(astuple(fact))[1:]
    values[8], values[9] = f"{fact.hash_bits:016x}", f"{fact.mirror_bits:016x}"
    return tuple(values)


def _read_row(values: Sequence[object]) -> ImageFacts:
    row = list(values)
    row[8], row[9] = int(str(row[8]), 16), int(str(row[9]), 16)
    return ImageFacts("", *row)  # type: ignore[arg-type]
