"""Where results go: never over what a command reads, and never over what is something else."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from manylabel.data.annotations import Annotations
from manylabel.errors import ConfigError, build_message


def check_output(out: Path, inputs: Sequence[str | Path | None], where: str = "--out", ending: str = "") -> None:
    """Stop where a file that is written would replace one that is read, or has the ending of another kind.

    Raises:
        ConfigError: it would.
    """
    if ending and out.suffix.lower() != ending:
        raise ConfigError(build_message(where, "the ending is of another kind", got=out.name, expected=f"NAME{ending}"))
    if not out.exists():
        return
    place = out.resolve()
    if any(name is not None and Path(name).exists() and Path(name).resolve() == place for name in inputs):
        raise ConfigError(build_message(out, "the command reads this file itself", do="Choose another place"))


def check_spares_images(out: Path, images: Annotations | Iterable[str]) -> None:
    """Stop where a file that is written would replace an image, by whatever path or link the image is read.

    Args:
        out: the file.
        images: a table, or where the images are; what is no file on the disk cannot be replaced.

    Raises:
        ConfigError: it would.
    """
    try:
        there = out.stat()
    except OSError:
        return  # nothing is there that could be replaced
    paths = [record.path for record in images.records] if isinstance(images, Annotations) else images
    if any(_is_same_file(path, there) for path in paths):
        raise ConfigError(
            build_message(out, "this is one of the images that the command reads", do="Choose another place")
        )


def _is_same_file(path: str, there: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), there)  # noqa: PTH116 - called once per image
    except (OSError, ValueError):
        return False


def check_header(path: Path, columns: Sequence[str], kind: str) -> None:
    """Stop where a CSV file that is there does not begin with these columns: it is something else.

    Raises:
        ConfigError: it does not.
    """
    if not path.exists():
        return
    try:
        with path.open(encoding="utf-8", newline="") as file:
            found = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        found = []
    if found[: len(columns)] != list(columns):
        raise ConfigError(build_message(path, f"there is a file that is no {kind}", do="Choose another place"))
