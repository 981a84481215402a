"""What a layout is to this package: how it is recognised, read and written; and what people can say about reading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from manylabel.data.annotations import Annotations
from manylabel.data.formats.columns import ImageRoot
from manylabel.data.formats.source import Source
from manylabel.errors import ConfigError, build_message, join_names, join_problems, suggest_name

Blank = Literal["unknown", "absent"]
Uncertain = Literal["unknown", "absent", "present"]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a person says about how DATA is to be read; what they leave out is found by its content.

    Args:
        images: the folder that relative paths start from; by default the folder of the file.
        image_column, label_column: which column names the image and which lists the labels.
        blank: what an empty, NaN or `?` cell of a label means: `unknown` (nobody looked) or `absent`.
        uncertain: what -1 means (CheXpert: the report is not sure): `unknown`, `absent` or `present`.
        soft: (low, high) for cells between 0 and 1: up to `low` absent, from `high` present, between them unknown;
            None refuses such cells.

    Raises:
        ConfigError: a word that is none of these, or bounds that are not 0 <= low <= high <= 1; all are listed.
    """

    images: Path | None = None
    image_column: str | None = None
    label_column: str | None = None
    blank: Blank = "unknown"
    uncertain: Uncertain = "unknown"
    soft: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        problems = [
            build_message(flag, f"unknown word {value!r}{suggest_name(value, allowed)}", expected=join_names(allowed))
            for flag, value, allowed in (
                ("--blank", self.blank, get_args(Blank)),
                ("--uncertain", self.uncertain, get_args(Uncertain)),
            )
            if value not in allowed
        ]
        if self.soft is not None and not 0 <= self.soft[0] <= self.soft[1] <= 1:
            problems.append(
                build_message("--soft", "not two bounds", got=self.soft, expected="LOW,HIGH such as 0.3,0.7")
            )
        if problems:
            raise ConfigError(join_problems(problems))

    def find_root(self, source: Source) -> ImageRoot:
        """Return where the images of a source lie: below --images, else beside the file, else in the folder."""
        return ImageRoot(self.images if self.images is not None else source.folder)


Evidence = tuple[str, ...]
"""Sentences that say by what a layout was recognised."""


@dataclass(frozen=True)
class Format:
    """One layout: the row of `FORMATS`.

    Args:
        summary: half a sentence for people, such as "a column per label".
        find_evidence: says why a source has this layout, or None where it does not; it never raises for content of
            another layout.
        load: reads the source.
        save: writes Annotations to a path (a file, or a folder where the layout is one); None where we cannot write.
        extension: how the file is called that `save` writes; "" for a folder.
        is_folder: whether it reads a folder; the others read one file.
    """

    summary: str
    find_evidence: Callable[[Source, ReadOptions], Evidence | None]
    load: Callable[[Source, ReadOptions], Annotations]
    save: Callable[[Annotations, Path], None] | None = None
    extension: str = ""
    is_folder: bool = False
