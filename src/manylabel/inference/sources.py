"""Which images arguments stand for: files, folders, patterns, and what tables and archives hold.

A name is what the answer calls an image; how it is read is decided here, one after the other, while others are decoded.
Nothing of an archive is written to the disk.
"""

from __future__ import annotations

import glob
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Protocol, TextIO

from manylabel.data.images import IMAGE_EXTENSIONS, ImageError, find_images
from manylabel.errors import DataError, build_message

TABLE_EXTENSIONS = (".csv", ".tsv", ".parquet")
ARCHIVE_EXTENSIONS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

MAX_MEMBER_BYTES = 2**28
"""No image file in an archive is larger: what unpacks to more is refused before it fills the memory."""

Readable = str | bytes | ImageError
"""A path, the bytes of a file, or why there are none."""

_UNREADABLE = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
    NotImplementedError, EOFError, OSError, ValueError, RuntimeError,
)  # fmt: skip
"""What the libraries raise for an archive that they cannot read; zipfile asks for a password with RuntimeError."""


_OpenMember = Callable[[], IO[bytes] | None]


class _Piece(Protocol):
    """Images that are read in one way."""

    @property
    def names(self) -> Sequence[str]: ...

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, Readable]]: ...


@dataclass(frozen=True)
class _Files:
    """Files on the disk, by their paths."""

    path_of: dict[str, str]

    @property
    def names(self) -> Sequence[str]:
        return list(self.path_of)

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, Readable]]:
        return ((name, path) for name, path in self.path_of.items() if name in wanted)


@dataclass(frozen=True)
class _Archive:
    """Members of a zip or tar file, read from front to back: a compressed tar file knows no other way."""

    path: str
    names: Sequence[str]

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, Readable]]:
        left = set(self.names) & set(wanted)
        with _open_archive(self.path) as members:
            for name, num_bytes, open_member in members:
                if name in left:
                    left.remove(name)
                    yield name, _read_member(name, num_bytes, open_member)


class Sources:
    """Images by name, each once, in order."""

    def __init__(self, pieces: Iterable[_Piece]) -> None:
        self._pieces: list[tuple[_Piece, Sequence[str]]] = []
        seen: set[str] = set()
        for piece in pieces:
            own = [name for name in piece.names if name not in seen]
            seen.update(own)
            self._pieces.append((piece, own))
        self.names = [name for _, names in self._pieces for name in names]

    def read(self, wanted: Collection[str] | None = None) -> Iterator[tuple[str, Readable]]:
        """Yield (name, path or bytes) of every image, or of the wanted ones, in order."""
        names = None if wanted is None else frozenset(wanted)
        for piece, own in self._pieces:
            left = dict.fromkeys(name for name in own if names is None or name in names)
            if left:
                yield from piece.read(left)


def find_sources(
    arguments: Iterable[str],
    standard_input: TextIO,
    images: Path | None = None,
    image_column: str | None = None,
) -> Sources:
    """Return the images that the arguments stand for.

    A folder stands for every file below it with an image extension, a pattern for what it matches, `-` for the paths
    on standard input, one per line; a table for the images in its path column, a zip or tar file for its members with
    an image extension. Anything else is a path, even if nothing is there: it gets an answer too, and so does a pattern
    that matches nothing.

    Args:
        arguments: as on the command line.
        standard_input: where `-` reads.
        images: the folder that the paths of a table start from; by default the table's own.
        image_column: the column of a table that names the images; by default found by content.

    Raises:
        DataError: the arguments stand for no image at all, or a table or archive cannot be read.
    """
    wanted, unmatched = list(arguments), set[str]()
    pieces = [_find_piece(argument, standard_input, images, image_column, unmatched) for argument in wanted]
    sources = Sources(pieces)
    if set(sources.names) <= unmatched:
        raise DataError(
            build_message(
                " ".join(wanted),
                "there is no image",
                expected="files, folders, patterns, tables or archives with images",
            )
        )
    return sources


def _find_piece(
    argument: str, standard_input: TextIO, images: Path | None, image_column: str | None, unmatched: set[str]
) -> _Piece:
    lower = argument.lower()
    if argument == "-":
        return _name_by_path(line.rstrip("\r\n") for line in standard_input if line.strip())
    if os.path.isdir(argument):  # noqa: PTH112 - arguments stay text
        return _name_by_path(str(path) for path in find_images(Path(argument)))
    if os.path.isfile(argument) and lower.endswith(TABLE_EXTENSIONS):  # noqa: PTH113
        return _read_table(Path(argument), images, image_column)
    if os.path.isfile(argument) and lower.endswith(ARCHIVE_EXTENSIONS):  # noqa: PTH113
        return _list_archive(argument)
    if os.path.lexists(argument) or not glob.has_magic(argument):
        return _name_by_path([argument])
    matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207 - keeps the pattern's own spelling
    if not matches:
        unmatched.add(argument)
    return _name_by_path(matches or [argument])


def _name_by_path(paths: Iterable[str]) -> _Files:
    return _Files({path: path for path in paths})


def _read_table(path: Path, images: Path | None, image_column: str | None) -> _Files:
    """Return the images of a table by what its cells say; a blank cell names none.

    Raises:
        DataError: it is no table, has no such column, or a cell leads out of the folder.
    """
    from manylabel.data.formats.columns import ImageRoot, find_image_column  # pyarrow: not every answer needs it
    from manylabel.data.formats.source import Source

    table = Source(path).table
    cells = (cell.strip() for cell in table.values(find_image_column(table, image_column).name))
    root = ImageRoot(path.parent if images is None else images)
    return _Files(dict(root.locate(cell) for cell in cells if cell))


def _list_archive(path: str) -> _Archive:
    """Return the images of an archive.

    Raises:
        DataError: it cannot be read.
    """
    with _open_archive(path) as members:
        return _Archive(path, [name for name, _, _ in members if name.lower().endswith(IMAGE_EXTENSIONS)])


@contextmanager
def _open_archive(path: str) -> Iterator[Iterator[tuple[str, int, _OpenMember]]]:
    """Yield name, size and how to open each file of an archive, from front to back; links and devices are no files.

    Raises:
        DataError: it cannot be read.
    """
    try:
        if path.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                yield (
                    (f"{path}/{member.filename}", member.file_size, partial(archive.open, member))
                    for member in archive.infolist()
                    if not member.is_dir()
                )
        else:
            with tarfile.open(path, "r|*") as tape:
                yield (
                    (f"{path}/{member.name}", member.size, partial(tape.extractfile, member))
                    for member in tape
                    if member.isfile()
                )
    except _UNREADABLE as error:
        reason = str(error) if str(error) else type(error).__name__
        problem = f"the archive cannot be read ({reason})"
        raise DataError(build_message(path, problem, do="Copy or download it again")) from error


def _read_member(name: str, num_bytes: int, open_member: _OpenMember) -> bytes | ImageError:
    """Return the bytes of a member, or why there are none."""
    if num_bytes > MAX_MEMBER_BYTES:
        problem = f"the file is too large: {num_bytes:,} bytes, {MAX_MEMBER_BYTES:,} are allowed"
        return ImageError(build_message(name, problem, do="Make it smaller"), "too_large")
    try:
        stream = open_member()
        assert stream is not None, "only files are opened"
        with stream:
            data = stream.read(MAX_MEMBER_BYTES + 1)
    except _UNREADABLE as error:
        problem = f"the file cannot be read from its archive ({error})"
        return ImageError(build_message(name, problem, do="Pack it again"), "unreadable")
    if len(data) > MAX_MEMBER_BYTES:
        problem = f"the file unpacks to more than {MAX_MEMBER_BYTES:,} bytes"
        return ImageError(build_message(name, problem, do="Make it smaller"), "too_large")
    return data
