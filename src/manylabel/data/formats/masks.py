"""Masks: an image of values beside each image, and a table that says which label a value stands for.

`images/a.jpg` has its mask in `masks/a.png`; `labels.csv` has the columns `value` and `label`, and may have `state`. A
label is present where the mask has its value, else absent. A value without a label (background, borders) counts for
nothing. With the state `unknown` a value makes its label unknown; without a label it makes all unknown that the mask
does not show: nobody said what is there.

The values are those in the file: a palette is not looked at. They are whole numbers of up to 16 bits in a PNG.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from manylabel.data.annotations import Annotations
from manylabel.data.findings import Finding
from manylabel.data.formats.assemble import Row, assemble_rows
from manylabel.data.formats.columns import PART_NAME_OF, ImageRoot
from manylabel.data.formats.format import Evidence, ReadOptions
from manylabel.data.formats.problems import Problems
from manylabel.data.formats.source import Source
from manylabel.data.images import ImageError, find_images, image_size_px, load_image, read_header, read_image_file
from manylabel.data.regions import Mask, Region
from manylabel.errors import DataError, build_message, join_names, suggest_name
from manylabel.labels.space import LabelSpace

MAP_NAME = "labels.csv"
STATES = ("present", "unknown")

_MAX_VALUE = 65_535
_SCALE_OF_BITS = {2: 85, 4: 17}
"""Pillow spreads grey of 2 and 4 bits over 0 to 255; this takes it back."""

_BITS_AT, _COLOUR_AT = 24, 25  # in a PNG's head


@dataclass(frozen=True)
class MaskValue:
    """What a value stands for: a label, "" for none, and whether it is `present` or `unknown` there."""

    label: str
    state: str = "present"


def find_masks(source: Source, options: ReadOptions) -> Evidence | None:  # noqa: ARG001 - the signature of a format
    """Return why a folder is one of masks: it has a folder `masks`, and labels.csv begins with `value,label`."""
    table = source.path / MAP_NAME
    if source.kind != "folder" or not (source.path / "masks").is_dir() or not table.is_file():
        return None
    try:
        values = load_values(table)
    except DataError:
        return None if not _has_header(table) else ("masks: labels.csv of values and labels",)
    labels = {value.label for value in values.values() if value.label}
    return (f"masks: {len(values):,} values of {len(labels):,} labels in {MAP_NAME}",)


def load_masks(source: Source, options: ReadOptions) -> Annotations:
    """Read a folder of images and masks; labels are in the order of labels.csv, each shown value becomes a region.

    Parts are folders called `train`, `val` or `test`. An image without a mask has no known label, and a finding says
    so.

    Raises:
        DataError: labels.csv is not such a table, or masks are damaged, in colour, larger or smaller than their
            image, or have values that labels.csv lacks (the first of them listed); or what `assemble_rows` raises.
    """
    if source.kind != "folder":
        raise DataError(build_message(source.path, "not a folder", expected="images/, masks/ and labels.csv"))
    values = load_values(source.path / MAP_NAME)
    space = LabelSpace(tuple(dict.fromkeys(value.label for value in values.values() if value.label)))
    root = options.find_root(source)
    folder = root.folder if options.images is not None else root.folder / "images"
    problems = Problems()
    rows, bare = [], []
    for path in find_images(folder):
        image = path.relative_to(root.folder).as_posix()
        mask = _find_mask(source.path, image)
        if mask is None:
            bare.append(image)
            rows.append(Row(image, f"{path}", unknown=space.names, part=_find_part(image)))
        else:
            rows.append(_read_row(root, image, mask, values, space, problems))
    problems.stop_if_any()
    return assemble_rows(str(source.path), root, rows, space, findings=_describe_bare(bare))


def load_values(path: Path) -> dict[int, MaskValue]:
    """Return what each value of the masks stands for.

    Raises:
        DataError: the table cannot be read, or its lines are none of `value,label` and `value,label,state`, a value
            stands twice, or no value has a label (the first of them listed).
    """
    problems = Problems()
    values: dict[int, MaskValue] = {}
    lines = _read_lines(path)
    if not lines or not _is_header(lines[0]):
        expected = "value,label or value,label,state"
        problems.add(f"{path} line 1", "no header", got=",".join(lines[0]) if lines else "", expected=expected)
    for number, cells in enumerate(lines[1:], start=2):
        if not any(cells):
            continue
        place = f"{path} line {number}"
        text, label, state = (*cells, "", "")[:3]
        state = state.lower() if state else "present"
        if not text.isascii() or not text.isdigit() or len(text) > 5 or int(text) > _MAX_VALUE:
            problems.add(place, "no value", got=text, expected=f"a whole number from 0 to {_MAX_VALUE}")
        elif state not in STATES:
            problems.add(place, f"no state{suggest_name(state, STATES)}", got=state, expected=" or ".join(STATES))
        elif int(text) in values:
            problems.add(place, f"the value {text} stands twice", expected="a line of its own for each")
        else:
            values[int(text)] = MaskValue(label, state)
    if not len(problems) and not any(value.label for value in values.values()):
        problems.add(path, "no value has a label", expected="a line such as 1,dog")
    problems.stop_if_any()
    return values


def read_values(path: Path) -> npt.NDArray[np.integer]:
    """Return the values of a mask as they stand in its file, [H, W].

    Raises:
        ImageError: it is damaged, too large or no image, as in `load_image`.
        DataError: it is no PNG of one value per pixel.
    """
    data = read_image_file(path)
    header = read_header(data, name=str(path))
    if header.format != "PNG":
        do = "Save it as PNG; JPEG changes values"
        raise DataError(build_message(path, f"this mask is {header.format}", expected="PNG", do=do))
    load_image(data, name=str(path))  # it finds damage wherever it is; what it returns are colours
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
            do = "Save it as a palette or in grey, a value per label"
            raise DataError(build_message(path, "this mask is in colour", got=image.mode, expected="values", do=do))
        pixels_HW = np.asarray(image)
    if pixels_HW.dtype == np.bool_:
        return pixels_HW.astype(np.uint8)
    scale = _SCALE_OF_BITS.get(data[_BITS_AT], 1) if data[_COLOUR_AT] == 0 else 1
    return pixels_HW // scale if scale > 1 else pixels_HW


def _read_lines(path: Path) -> list[list[str]]:
    try:
        text = path.read_text("utf-8-sig")
        return [[cell.strip() for cell in cells] for cells in csv.reader(io.StringIO(text))]
    except OSError as error:
        reason = error.strerror if error.strerror else type(error).__name__
        raise DataError(build_message(path, f"the file cannot be read: {reason}", do="Check the file")) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(build_message(path, "the file is no CSV in UTF-8", do="Save it as CSV in UTF-8")) from error


def _is_header(cells: list[str]) -> bool:
    return [cell.lower() for cell in cells] in (["value", "label"], ["value", "label", "state"])


def _has_header(path: Path) -> bool:
    try:
        lines = _read_lines(path)
    except DataError:
        return False
    return bool(lines) and _is_header(lines[0])


def _find_mask(folder: Path, image: str) -> Path | None:
    plain = PurePosixPath(image.removeprefix("images/"))
    for name in (plain.with_suffix(".png"), PurePosixPath(f"{plain}.png")):
        if (folder / "masks" / name).is_file():
            return folder / "masks" / name
    return None


def _find_part(image: str) -> str | None:
    folders = PurePosixPath(image).parts[:-1]
    return next((part for name in folders if (part := PART_NAME_OF.get(name.lower()))), None)


def _read_row(
    root: ImageRoot, image: str, mask: Path, values: Mapping[int, MaskValue], space: LabelSpace, problems: Problems
) -> Row:
    try:
        values_HW = read_values(mask)
    except (ImageError, DataError) as error:
        problems.add("", str(error).removesuffix("."))
        return Row(image, str(mask))
    shown = [int(value) for value in np.unique(values_HW)]
    surplus = [value for value in shown if value not in values]
    if surplus:
        problems.add(mask, f"values that {MAP_NAME} lacks: {join_names([str(value) for value in surplus])}")
    _check_size(root.folder / image, mask, values_HW.shape, problems)
    known = [(value, values[value]) for value in shown if value in values]
    present = list(dict.fromkeys(one.label for _, one in known if one.label and one.state == "present"))
    unknown = {one.label for _, one in known if one.state == "unknown"}
    open_labels = space.names if "" in unknown else [label for label in space if label in unknown]
    regions = tuple(
        Region(one.label, mask=Mask.from_pixels(values_HW == value))
        for value, one in known
        if one.label and one.state == "present"
    )
    return Row(
        image,
        str(mask),
        present=present,
        unknown=[label for label in open_labels if label not in present],
        part=_find_part(image),
        regions=regions,
    )


def _check_size(image: Path, mask: Path, shape: tuple[int, ...], problems: Problems) -> None:
    try:
        width, height = image_size_px(image)
    except ImageError:
        return  # what is wrong with the image is a finding of its own
    if shape != (height, width):
        problems.add(
            mask,
            f"the mask has {shape[1]} x {shape[0]} pixels, its image {width} x {height}",
            expected="the size of the image as it is shown, upright",
        )


def _describe_bare(bare: list[str]) -> tuple[Finding, ...]:
    if not bare:
        return ()
    message = f"Images without a mask: {join_names(bare)}. Their labels are unknown."
    return (Finding("warning", "missing-mask", message, tuple(bare), "Add their masks, or remove the images"),)
