"""Which column of a table names the image, and where the named file lies."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

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

_MAX_CELLS_LOOKED_AT = 1000


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


@dataclass(frozen=True)
class ImageRoot:
    """The folder that relative paths start from, and the files below it once somebody asks for a bare id."""

    folder: Path

    def locate(self, cell: str) -> tuple[str, str]:
        """Return (id, path) of the image that a cell names; the path may not exist.

        A cell with an image extension is a path; any other is the stem of exactly one image below the folder.

        Raises:
            DataError: several images have that stem.
        """
        value = cell.replace("\\", "/")
        if not value.lower().endswith(IMAGE_EXTENSIONS):
            value = self._match_stem(value)
        image = os.path.normpath(value).replace(os.sep, "/") if value else value
        return image, os.path.join(self.folder, value)  # noqa: PTH118 - a Path per row of a large table is slow

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
