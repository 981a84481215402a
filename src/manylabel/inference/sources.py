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
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Protocol, TextIO

from manylabel.data.images import IMAGE_EXTENSIONS, ImageError, list_images
from manylabel.errors import DataError, build_message, join_names, join_problems

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
    """Images that are read in one way; each name stands once."""

    @property
    def names(self) -> Sequence[str]: ...

    def read(self, done: Container[str]) -> Iterator[tuple[str, Readable]]:
        """Yield name and what is to be read of every image that is not done."""

    def place(self, name: str) -> str:
        """Return what tells an image from another of the same name."""


@dataclass(frozen=True)
class _Files:
    """Files on the disk, called by their paths."""

    names: Sequence[str]

    def read(self, done: Container[str]) -> Iterator[tuple[str, Readable]]:
        return ((path, path) for path in self.names if path not in done)

    def place(self, name: str) -> str:
        return os.path.abspath(name)  # noqa: PTH100 - called once per image


@dataclass(frozen=True)
class _Cells:
    """Files on the disk, called as a table calls them."""

    path_of: Mapping[str, str]

    @property
    def names(self) -> Sequence[str]:
        return list(self.path_of)

    def read(self, done: Container[str]) -> Iterator[tuple[str, Readable]]:
        return ((name, path) for name, path in self.path_of.items() if name not in done)

    def place(self, name: str) -> str:
        return os.path.abspath(self.path_of[name])  # noqa: PTH100


@dataclass(frozen=True)
class _Archive:
    """Members of a zip or tar file, read from front to back: a compressed tar file knows no other way.

    Where a member stands several times the last counts, as in a tar file that was added to; `place_of` says at which
    place of the archive that is.
    """

    path: str
    place_of: Mapping[str, int]

    @property
    def names(self) -> Sequence[str]:
        return list(self.place_of)

    def read(self, done: Container[str]) -> Iterator[tuple[str, Readable]]:
        with _open_archive(self.path) as members:
            for place, (name, num_bytes, open_member) in enumerate(members):
                if self.place_of.get(name) == place and name not in done:
                    yield name, _read_member(name, num_bytes, open_member)

    def place(self, name: str) -> str:
        return name


class Sources:
    """Images by name, each once, in order.

    Raises:
        DataError: two tables call different images by one name.
    """

    def __init__(self, pieces: Sequence[_Piece]) -> None:
        self._pieces: list[tuple[_Piece, frozenset[str]]] = []
        place_of: dict[str, str] = {}
        for number, piece in enumerate(pieces):
            again = frozenset(name for name in piece.names if name in place_of) if number else frozenset()
            differing = [name for name in sorted(again) if piece.place(name) != place_of[name]]
            if differing:
                problem = f"{len(differing)} names stand for different images: {join_names(differing)}"
                raise DataError(build_message("images", problem, do="Give these tables one at a time"))
            self._pieces.append((piece, again))
            if number < len(pieces) - 1:
                place_of |= {name: piece.place(name) for name in piece.names}
        self.num_images = sum(len(piece.names) - len(again) for piece, again in self._pieces)

    @property
    def names(self) -> Iterator[str]:
        """The name of each image, in order."""
        return (name for piece, again in self._pieces for name in piece.names if name not in again)

    @property
    def places(self) -> Iterator[str]:
        """Where each image is: its path, or a name below that of its archive."""
        return (piece.place(name) for piece, again in self._pieces for name in piece.names if name not in again)

    def read(self, done: Container[str] = ()) -> Iterator[tuple[str, Readable]]:
        """Yield (name, path or bytes) of every image that is not done yet, in order."""
        for piece, again in self._pieces:
            for name, source in piece.read(done):
                if name not in again:
                    yield name, source


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
        DataError: the arguments stand for no image at all, a table or archive cannot be read, or two tables call
            different images by one name.
    """
    wanted, unmatched = list(arguments), set[str]()
    pieces = [_find_piece(argument, standard_input, images, image_column, unmatched) for argument in wanted]
    sources = Sources(pieces)
    if all(name in unmatched for name in sources.names):
        raise DataError(
            build_message(
                " ".join(wanted),
                "there is no image",
                expected="paths on standard input, one per line"
                if wanted == ["-"]
                else "files, folders, patterns, tables or archives with images",
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
        return _name_by_path(list_images(argument))
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
    return _Files(list(dict.fromkeys(paths)))


def _read_table(path: Path, images: Path | None, image_column: str | None) -> _Cells:
    """Return the images of a table by what its cells say; a blank cell names none.

    Raises:
        DataError: it is no table, has no such column, or cells lead out of the folder: all of them are named.
    """
    from manylabel.data.formats.columns import ImageRoot, find_image_column  # pyarrow: not every answer needs it
    from manylabel.data.formats.source import Source

    table = Source(path).table
    root = ImageRoot(path.parent if images is None else images)
    path_of: dict[str, str] = {}
    problems = []
    for row, cell in enumerate(table.values(find_image_column(table, image_column).name)):
        if not cell.strip():
            continue
        try:
            name, place = root.locate(cell.strip())
        except DataError as error:
            problems.append(f"{table.where(row)}: {error}")
        else:
            path_of[name] = place
    if problems:
        raise DataError(join_problems(problems))
    if path_of and not any(map(os.path.lexists, path_of.values())):
        problem = (
            f"none of its {len(path_of):,} images exists below {root.folder} (the first is {next(iter(path_of))!r})"
        )
        do = "Give the folder of the images with --images, or the column that names them with --image-column"
        raise DataError(build_message(path, problem, do=do))
    return _Cells(path_of)


def _list_archive(path: str) -> _Archive:
    """Return the images of an archive.

    Raises:
        DataError: it cannot be read.
    """
    with _open_archive(path) as members:
        places = {name: place for place, (name, _, _) in enumerate(members) if name.lower().endswith(IMAGE_EXTENSIONS)}
    return _Archive(path, places)


@contextmanager
def _open_archive(path: str) -> Iterator[Iterator[tuple[str, int, _OpenMember]]]:
    """Yield name, size and how to open each file of an archive, from front to back.

    Symbolic links and devices are no files; a hard link is one, which a tar file cannot go back to: it gets a row that
    says so.

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
                yield _walk_tape(tape, path)
    except _UNREADABLE as error:
        reason = str(error) if str(error) else type(error).__name__
        problem = f"the archive cannot be read ({reason})"
        raise DataError(build_message(path, problem, do="Copy or download it again")) from error


def _walk_tape(tape: tarfile.TarFile, path: str) -> Iterator[tuple[str, int, _OpenMember]]:
    """Yield the files of a tar file.

    Raises:
        tarfile.ReadError: it ends without the mark at its end: something is missing, and nothing else would tell.
    """
    for member in tape:
        if member.isfile() or member.islnk():
            yield f"{path}/{member.name}", member.size, partial(tape.extractfile, member)
    assert tape.fileobj is not None
    if tape.fileobj.tell() < tape.offset + tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it ends before its end mark: a part of it is missing")


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
