"""Annotations: the images of a table, their labels in three states, and the names of the labels.

Frozen and aligned: row i of `records` is row i of `targets`. Every operation returns a new table.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from manylabel.data.findings import Finding
from manylabel.data.regions import Region
from manylabel.errors import DataError, build_message, join_names, suggest_name
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets


@dataclass(frozen=True, slots=True, eq=False)
class ImageRecord:
    """One image: where its pixels are, and what the table says of it beside its labels.

    `id` is unique in a table and stands in every file we write; for a file it is the path below the images' folder
    with forward slashes. `group` keeps relatives on one side of a split, `part` is the frozen split, `extras` are the
    other columns of the table, `regions` say where in the image its labels are.
    """

    id: str
    path: str = ""
    pixels: npt.NDArray[np.uint8] | None = None
    group: str | None = None
    part: str | None = None
    extras: Mapping[str, str] = field(default_factory=dict)
    regions: tuple[Region, ...] = ()

    @property
    def source(self) -> str | npt.NDArray[np.uint8]:
        """What `load_image` reads: the pixels at hand, else the path."""
        return self.path if self.pixels is None else self.pixels


@dataclass(frozen=True, eq=False)
class Annotations:
    """Image records with their targets and label space.

    `is_exhaustive` says what a label that the table never mentions means: absent in every image (tables that list
    the labels of an image) or unknown (tables with a column per label). `findings` are what the reader noticed.

    Raises:
        DataError: an image stands twice, or the name of one is not text.
    """

    records: tuple[ImageRecord, ...]
    targets: Targets
    label_space: LabelSpace
    name: str = "annotations"
    is_exhaustive: bool = True
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "records", tuple(self.records))
        assert self.targets.shape == (len(self.records), len(self.label_space)), "records, targets, labels differ"
        _check_ids(self.name, self.images)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def images(self) -> tuple[str, ...]:
        """The ids of the images, in order."""
        return tuple(record.id for record in self.records)

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that identify ids, labels and every cell, not the pixels."""
        order = sorted(range(len(self)), key=lambda row: self.records[row].id)
        images = "\n".join(self.records[row].id for row in order)
        digest = hashlib.sha256(images.encode())
        digest.update(self.label_space.digest.encode())
        digest.update(self.targets.select(order).digest.encode())
        return digest.hexdigest()[:16]

    def labels_of(self, row: int) -> list[str]:
        """Return the names of the labels that one image has."""
        return [self.label_space.names[column] for column in self.targets.present_columns(row)]

    def select(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> Annotations:
        """Return the table of these rows, in this order; a mask is not taken for row numbers."""
        targets = self.targets.select(rows)
        return replace(self, records=tuple(self.records[int(row)] for row in rows), targets=targets)

    def filter(self, keep: Callable[[ImageRecord], bool]) -> Annotations:
        """Return the table of the records that `keep` accepts."""
        return self.select([row for row, record in enumerate(self.records) if keep(record)])

    def merge(self, other: Annotations) -> Annotations:
        """Return this table followed by `other`, over the union of both label spaces.

        Raises:
            DataError: an image stands in both.
        """
        space = self.label_space.union(other.label_space)
        first, second = self.align(space), other.align(space)
        return replace(
            first,
            records=first.records + second.records,
            targets=first.targets.concatenate(second.targets),
            is_exhaustive=self.is_exhaustive and other.is_exhaustive,
            findings=self.findings + other.findings,
        )

    def rename(self, new_names: Mapping[str, str]) -> Annotations:
        """Return the table with labels renamed, in the cells and in the regions; the states stay."""
        records = tuple(
            replace(
                record,
                regions=tuple(replace(part, label=new_names.get(part.label, part.label)) for part in record.regions),
            )
            if record.regions
            else record
            for record in self.records
        )
        return replace(self, records=records, label_space=self.label_space.rename(new_names))

    def align(self, label_space: LabelSpace, unknown_labels: str = "stop") -> Annotations:
        """Return the table over another label space, columns matched by name.

        A label that this table never mentions is absent in every image if the table is exhaustive, else unknown.
        Regions of labels that are dropped stay on their records.

        Args:
            label_space: the names wanted, in the order wanted.
            unknown_labels: what to do with a label of this table that is not wanted: `stop` or `drop`.

        Raises:
            DataError: the table has a label that `label_space` lacks, and is not told to drop it; all of its labels
                would be dropped.
        """
        if label_space.names == self.label_space.names:
            return self
        surplus = [name for name in self.label_space if name not in label_space]
        if surplus and unknown_labels != "drop":
            raise DataError(
                build_message(
                    self.name,
                    f"unknown label {surplus[0]!r}{suggest_name(surplus[0], label_space)}"
                    + (f" and {len(surplus) - 1} more" if len(surplus) > 1 else ""),
                    expected=f"the {len(label_space)} labels of the model ({join_names(label_space.names)})",
                    do="Rename it in the table or pass --unknown-labels drop",
                )
            )
        if surplus and len(surplus) == len(self.label_space):
            problem = f"none of its {len(surplus)} labels ({join_names(surplus)}) is one of the model"
            expected = f"some of the {len(label_space)} labels of the model ({join_names(label_space.names)})"
            do = "Give a table with this model's labels"
            raise DataError(build_message(self.name, problem, expected=expected, do=do))
        columns = label_space.align(self.label_space)
        return replace(
            self,
            label_space=label_space,
            targets=self.targets.select_labels(columns, missing_is_known=self.is_exhaustive),
        )

    def with_parts(self, part_of: Mapping[str, str]) -> Annotations:
        """Return the table with the part of every image set; an image that is not named keeps its own."""
        records = tuple(replace(record, part=part_of.get(record.id, record.part)) for record in self.records)
        return replace(self, records=records)

    def parts(self) -> dict[str, Annotations]:
        """Return the tables of the parts that the records name, in order of first appearance; {} when none does."""
        rows_of: dict[str, list[int]] = {}
        for row, record in enumerate(self.records):
            if record.part:
                rows_of.setdefault(record.part, []).append(row)
        return {part: self.select(rows) for part, rows in rows_of.items()}


def _check_ids(name: str, images: Sequence[str]) -> None:
    if len(set(images)) < len(images):
        repeated = [image for image, count in Counter(images).items() if count > 1]
        raise DataError(
            build_message(name, f"images stand twice: {join_names(repeated)}", expected="one row per image")
        )
    try:
        "".join(images).encode()
    except UnicodeEncodeError as error:
        # The bytes of a file name on Linux need not be text; such a name fits into no table, JSON or page.
        bad = [ascii(image) for image in images if not _is_text(image)]
        raise DataError(
            build_message(name, f"names of images are not text: {join_names(bad)}", do="Rename these files")
        ) from error


def _is_text(image: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in image)


def annotations_from_arrays(
    images_NHW: Iterable[npt.NDArray[np.uint8]],
    label_sets: Iterable[Iterable[str]],
    label_space: LabelSpace | Sequence[str] | None = None,
    name: str = "arrays",
) -> Annotations:
    """Build a table of images that are in memory; their ids are `NAME/00000`, `NAME/00001`, ...

    Args:
        images_NHW: uint8 pixels, each height x width, or height x width x 1, 3 or 4.
        label_sets: the labels of each image; an empty set is an answer.
        label_space: the names and their order; None takes the sorted names that occur.

    Raises:
        DataError: not as many sets as images, a text instead of a set, or a label that `label_space` lacks.

    Example:
        >>> table = annotations_from_arrays(np.zeros((2, 8, 8), np.uint8), [["cat"], []])
        >>> table.images, table.labels_of(0)
        (('arrays/00000', 'arrays/00001'), ['cat'])
    """
    pixels, sets = list(images_NHW), [_check_label_set(name, labels) for labels in label_sets]
    if len(pixels) != len(sets):
        raise DataError(
            build_message(name, f"{len(pixels)} images but {len(sets)} label sets", expected="one set each")
        )
    if label_space is None:
        label_space = LabelSpace(tuple(sorted({label for labels in sets for label in labels})))
    elif not isinstance(label_space, LabelSpace):
        label_space = LabelSpace(tuple(label_space))
    columns = [[label_space.index(label) for label in labels] for labels in sets]
    records = tuple(ImageRecord(f"{name}/{row:05d}", pixels=image) for row, image in enumerate(pixels))
    return Annotations(records, Targets.from_columns(columns, len(label_space)), label_space, name)


def _check_label_set(name: str, labels: Iterable[str]) -> list[str]:
    if isinstance(labels, str):
        raise DataError(build_message(name, "a text is not a set of labels", got=labels, expected=f"[{labels!r}]"))
    return list(labels)
