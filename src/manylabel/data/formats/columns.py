"""Which column of a table names the image, and where the named file lies."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePath, PurePosixPath

from manylabel.data.formats.table import Table
from manylabel.data.images import IMAGE_EXTENSIONS, find_images
from manylabel.errors import DataError, build_message, join_names

IMAGE_COLUMN_NAMES = (
    "image", "path", "file", "filename", "file_name", "filepath", "file_path", "image_path", "image_name", "image_file",
    "img", "id", "image_id", "imageid", "name",
)  # fmt: skip
LABEL_COLUMN_NAMES = (
    "labels", "label", "tags", "tag", "classes", "class", "categories", "category", "genres", "genre", "attributes",
    "keywords",
)  # fmt: skip
RECORD_COLUMN_NAMES = ("group", "part")
"""Columns that say something of the image and are no labels, in every layout."""

PART_NAME_OF: Mapping[str, str] = {
    "train": "train", "training": "train", "test": "test",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
}  # fmt: skip
"""How people call the three parts, in lower case, and how they are called here."""

_UNNAMED = re.compile(r"column_\d+|Unnamed: \d+")
"""Columns without a name, as we and as pandas call them."""

_MAX_CELLS_LOOKED_AT = 1000
_MAX_NAME_BYTES = 255
"""Longer names no common file system holds."""

_MAX_SHOWN = 80

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:", re.IGNORECASE)
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_ODD = re.compile(r"[\x00-\x1f\x7f\\:]|//|(?:^|/)\.{1,2}(?:/|$)|^/|/$|[^/]{64}")
"""What a plain relative path has nothing of: only cells with one of these are looked at closely."""


@dataclass(frozen=True)
class ImageColumn:
    """The column that names the images, and why it was taken for it."""

    name: str
    evidence: str


def find_image_column(table: Table, wanted: str | None = None) -> ImageColumn:
    """Return the column that names the images: the one asked for, else found by content, else by name, else the first.

    Raises:
        DataError: the column asked for does not exist.
    """
    if wanted is not None:
        table.check_column(wanted)
        return ImageColumn(wanted, f"images: column {wanted!r}, as asked")
    for name in table.names:
        cells = [cell.strip() for cell in table.columns[name][:_MAX_CELLS_LOOKED_AT].to_pylist() if cell.strip()]
        num_files = sum(cell.lower().endswith(IMAGE_EXTENSIONS) for cell in cells)
        if cells and num_files > len(cells) / 2:
            return ImageColumn(
                name, f"images: {num_files} of {len(cells)} cells of column {name!r} end like an image file"
            )
    by_folded = {name.casefold(): name for name in table.names}
    for known_name in IMAGE_COLUMN_NAMES:
        if known_name in by_folded:
            return ImageColumn(by_folded[known_name], f"images: column {by_folded[known_name]!r}, by its name")
    return ImageColumn(table.names[0], f"images: column {table.names[0]!r}, the first")


def leave_out_row_numbers(table: Table) -> Table:
    """Return the table without what says nothing: the row numbers that pandas writes, and blank columns without a name.

    Numbers in a first column without a name stay where no other column names the images: they may be ids.
    """
    blank = [name for name in table.names if _UNNAMED.fullmatch(name) and not any(table.values(name))]
    first, *others = table.names
    if table.has_header and _UNNAMED.fullmatch(first) and first not in blank and _name_images(table, others):
        numbers, start = table.values(first), table.columns[first][0].as_py().strip()
        if start in ("0", "1") and numbers == [str(int(start) + row) for row in range(len(numbers))]:
            return _leave_out(table, {first: "the numbers of the rows", **dict.fromkeys(blank, "blank")})
    return _leave_out(table, dict.fromkeys(blank, "blank")) if len(blank) < len(table.names) else table


def _leave_out(table: Table, why_of: Mapping[str, str]) -> Table:
    notes = tuple(f"left out: column {name!r}, {why}" for name, why in why_of.items())
    columns = {name: cells for name, cells in table.columns.items() if name not in why_of}
    return replace(table, columns=columns, notes=(*table.notes, *notes)) if why_of else table


def _name_images(table: Table, names: Sequence[str]) -> bool:
    """Tell whether one of the columns names the images, by its name or its cells."""
    return any(
        name.casefold() in IMAGE_COLUMN_NAMES
        or any(cell.strip().lower().endswith(IMAGE_EXTENSIONS) for cell in table.columns[name][:10].to_pylist())
        for name in names
    )


@dataclass(frozen=True)
class ImageRoot:
    """The folder that relative paths start from, and the files below it once somebody asks for a bare id.

    No cell leads out of the folder: not by `..`, not by an absolute path and not by a link.
    """

    folder: Path

    def locate(self, cell: str) -> tuple[str, str]:
        """Return (id, path) of the image that a cell names; the path may not exist.

        A cell with an image extension is a path; any other is the stem of exactly one image below the folder. An
        absolute path into the folder is the same as the relative one.

        Raises:
            DataError: the cell leads out of the folder, is a URL or cannot be the name of a file, or several images
                have that stem.
        """
        value = self._contain(cell) if _ODD.search(cell) else cell
        if not value.lower().endswith(IMAGE_EXTENSIONS):
            value = self._match_stem(value)
        return value, self._prefix + value  # a Path per row of a large table is slow

    def find_prefix(self, names: Sequence[str]) -> str:
        """Return what stands before the names of a file that lists bare names: `images/` where they lie in images/.

        "" where the first of them lies in the folder itself, or where no folder below, or more than one, has it.
        """
        if not names or os.path.lexists(os.path.join(self.folder, names[0])):  # noqa: PTH118
            return ""
        wanted = names[0].replace("\\", "/")
        folders = [
            Path(here, name).relative_to(self.folder).as_posix()
            for here, below, _ in os.walk(self.folder)
            for name in below
            if Path(here, name, wanted).is_file()
        ]
        return f"{folders[0]}/" if len(folders) == 1 else ""

    def find_missing(self, images: Sequence[str]) -> list[str]:
        """Return which ids name no file.

        Each folder is listed once: a call for each of a million files takes minutes on a network drive.

        Raises:
            DataError: links lead out of the folder.
        """
        names_of: dict[str, list[str]] = {}
        for image in images:
            folder, _, name = image.rpartition("/")
            names_of.setdefault(folder, []).append(name)
        missing: set[str] = set()
        escaping: list[str] = []
        for folder, names in names_of.items():
            prefix, here = (f"{folder}/" if folder else ""), os.path.join(self.folder, folder)  # noqa: PTH118
            is_link_of = _find_links(here, names)
            missing.update(prefix + name for name in names if name not in is_link_of)
            is_outside = not self._holds(here)
            escaping += [
                prefix + name
                for name, is_link in is_link_of.items()
                if is_outside or (is_link and not self._holds(f"{here}/{name}"))
            ]
        if escaping:
            raise DataError(
                build_message(
                    self.folder,
                    f"links lead out of this folder: {join_names(sorted(escaping))}",
                    do="Copy these files into it, or give the folder that really holds all images with --images",
                )
            )
        return [image for image in images if image in missing] if missing else []

    def _holds(self, path: str) -> bool:
        real = os.path.realpath(path)
        return real == self._real_folder or real.startswith(os.path.join(self._real_folder, ""))  # noqa: PTH118

    @cached_property
    def _prefix(self) -> str:
        return os.path.join(self.folder, "")  # noqa: PTH118

    @cached_property
    def _real_folder(self) -> str:
        return os.path.realpath(self.folder)

    def _contain(self, cell: str) -> str:
        """Return the path below the folder that a cell means which is not plainly one."""
        value = os.path.normpath(cell.replace("\\", "/")) if cell else cell
        if _CONTROL.search(cell):
            problem, do = "there are control characters in it", "Correct the cell"
        elif _URL.match(cell):
            problem = "this is a URL, and nothing is ever downloaded"
            do = "Download the images first, name the files in the table and give their folder with --images"
        elif _WINDOWS.match(cell) and os.name != "nt":
            problem = "this is an absolute path of Windows"
            do = "Write paths that start from the folder of the images, and give it with --images"
        elif any(len(os.fsencode(name)) > _MAX_NAME_BYTES for name in PurePath(value).parts):
            problem = f"no file can have a name of more than {_MAX_NAME_BYTES} bytes"
            do = "Check which column names the images; --image-column names another"
        else:
            if os.path.isabs(value):  # noqa: PTH117
                is_real = value.startswith(os.path.join(self._real_folder, ""))  # noqa: PTH118
                value = os.path.relpath(value, self._real_folder if is_real else self.folder)
            if value != os.pardir and not value.startswith(os.pardir + os.sep):
                return value.replace(os.sep, "/")
            problem = f"it lies outside the folder of the images, {self.folder}"
            do = "Give a folder that holds all images with --images"
        shown = cell if len(cell) <= _MAX_SHOWN else cell[:_MAX_SHOWN] + "..."
        raise DataError(build_message(f"image {shown!r}", problem, do=do))

    def _match_stem(self, stem: str) -> str:
        matches = self._files_by_stem.get(stem, [])
        if len(matches) > 1:
            raise DataError(
                build_message(
                    f"id {stem!r}",
                    f"it fits {len(matches)} images below {self.folder}: {join_names(matches)}",
                    do="Write the path with its extension, or give the folder of the images with --images",
                )
            )
        return matches[0] if matches else stem

    @cached_property
    def _files_by_stem(self) -> dict[str, list[str]]:
        files: dict[str, list[str]] = {}
        for path in find_images(self.folder) if self.folder.is_dir() else []:
            relative = PurePosixPath(path.relative_to(self.folder).as_posix())
            files.setdefault(relative.stem, []).append(str(relative))
            if relative.parent != PurePosixPath("."):
                files.setdefault(str(relative.with_suffix("")), []).append(str(relative))
        return files


def _find_links(folder: str, names: Sequence[str]) -> dict[str, bool]:
    """Return, of the names that exist in a folder, whether each is a link."""
    wanted = set(names)
    try:
        with os.scandir(folder) as entries:
            is_link_of = {entry.name: entry.is_symlink() for entry in entries if entry.name in wanted}
    except (OSError, ValueError):
        return {}
    for name in wanted:
        # What is not listed may exist all the same (`A.JPG` for `a.jpg`); what is listed may be a broken link.
        path, is_link = f"{folder}/{name}", is_link_of.get(name, True)
        if is_link and not os.path.exists(path):  # noqa: PTH110
            is_link_of.pop(name, None)
        elif is_link:
            is_link_of[name] = True
    return is_link_of
