"""Real handwritten digits composed into multi-label images: data for a first run, with no download.

Source: the 1,797 scans are the test part of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits",
UCI Machine Learning Repository, 1998 (CC BY 4.0), as scikit-learn ships them.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from manylabel.errors import ConfigError, DataError, ManylabelError, RunError, build_message, join_names, suggest_name
from manylabel.files import describe_write_error, write_text_atomically

DEMO_LABELS = tuple("0123456789")
"""The ten labels: a digit is present when it is written at least once in the image."""

PART_SHARES = MappingProxyType({"train": 0.7, "val": 0.15, "test": 0.15})
"""Which share of the scans of every digit each part of the data is composed from."""

NUM_IMAGES = MappingProxyType({"train": 4000, "val": 1000, "test": 1000})
"""How many images each part has unless told otherwise."""

CANVAS_PX = 48
"""Side of an image."""

COUNT_SHARES = (0.07, 0.23, 0.30, 0.25, 0.15)
"""Which share of the images has 0, 1, 2, 3 and 4 digits."""

DIGIT_SHARES = (0.36, 0.52)
"""Smallest and largest height of a digit, as a share of the canvas."""

MAX_ANGLE_DEGREES = 15
"""A digit is turned by at most this much either way, so that a 6 never becomes a 9."""

MAX_HIDDEN_SHARE = 0.003
"""At most this share of a digit's ink may lie on earlier ink or on the pixel around it: every label can be seen."""

NUM_PLACES = 12
"""How many places are tried for a digit before it is drawn a tenth smaller."""

SMALLEST_SHRUNK = 0.7
"""A digit is never drawn smaller than this share of the smallest height: the sheet is begun again instead."""

NUM_SHEETS = 50
"""How many sheets are begun before the digits are said not to fit."""

PAPERS = ((250, 246, 235), (244, 247, 250), (252, 240, 236), (240, 247, 238), (247, 243, 250), (253, 248, 222))
INKS = ((38, 43, 64), (24, 62, 130), (140, 36, 50), (22, 92, 74), (88, 46, 120), (120, 66, 20))

SCAN_SIDE = 8
SCAN_MAX = 16
GREY_PER_LEVEL = 15
FRAME = 4

Pixels = npt.NDArray[np.uint8]
Place = tuple[Pixels, int, int]
"""The ink of one digit, and the row and column of its top left corner."""


def write_demo(
    folder: Path,
    *,
    num_images: Mapping[str, int] = NUM_IMAGES,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write multi-label images of handwritten digits and their table of labels, and return the table's path.

    The scans are divided among the parts before anything is drawn, so no scan of a training image is ever seen in a
    validation or test image. Image number 12 of a part is the same however many images are asked for, and the same
    seed gives the same pixels on every platform. The table is written last: a folder that has one is complete.

    Args:
        folder: gets `images/train-00001.png`, ... and `labels.csv` with the columns `image,labels,part`; the labels
            are joined by `|` and empty where no digit is written. Images of an earlier run are written over.
        num_images: how many images for each of the parts train, val and test; a part left out is not written.
        seed: any integer from 0.
        on_progress: is told after each image how many are written and how many there will be.

    Raises:
        ManylabelError: scikit-learn, which brings the scans, is not installed.
        ConfigError: a part that does not exist, a number below 1, or a seed below 0.
        DataError: `folder/images` holds files that are not part of what would be written.

    Source: E. Alpaydin and C. Kaynak, 1998; see the top of this module.
    """
    check_num_images(num_images, seed)
    names_by_part = {
        part: [f"{part}-{number:05d}.png" for number in range(1, num_images[part] + 1)]
        for part in PART_SHARES
        if part in num_images
    }
    scans_S, digits_S = load_scans()
    images = Path(folder) / "images"
    check_room(images, {name for names in names_by_part.values() for name in names})
    make_folder(images)
    rows_by_part = divide_scans(digits_S, seed)
    table: list[tuple[str, str, str]] = []
    total = sum(len(names) for names in names_by_part.values())
    for key, part in enumerate(PART_SHARES):
        for number, name in enumerate(names_by_part.get(part, [])):
            rng = np.random.Generator(np.random.PCG64([seed, key + 1, number]))
            rows = choose_scans(rows_by_part[part], rng)
            save_image(compose_image(scans_S[rows], rng), images / name)
            labels = sorted({DEMO_LABELS[digit] for digit in digits_S[rows]})
            table.append((f"images/{name}", "|".join(labels), part))
            if on_progress is not None:
                on_progress(len(table), total)
    return write_table(Path(folder) / "labels.csv", sorted(table))


def compose_image(
    scans_S: npt.NDArray[Any], rng: np.random.Generator, *, canvas_px: int = CANVAS_PX, coloured: bool = True
) -> Image.Image:
    """Draw every scan once on one sheet of paper, at a random place, size and angle.

    Digits hardly touch: at most 0.3 % of the ink of one lies on earlier ink or on the pixel around it. A digit that
    finds no such place is drawn a little smaller, and if that does not help the sheet is begun again.

    Shapes: S scans of 8 x 8 pixels.

    Args:
        scans_S: handwriting from 0 (paper) to 16 (ink); no scan gives an empty sheet.
        rng: where chance comes from; the same state gives the same pixels.
        canvas_px: side of the image.
        coloured: False draws in black on white.

    Raises:
        ConfigError: so many scans, or so small a canvas, that no arrangement was found.

    Example:
        >>> compose_image(np.zeros((0, 8, 8)), np.random.default_rng(0)).size
        (48, 48)
    """
    for _ in range(NUM_SHEETS):
        places = place_scans(scans_S, rng, canvas_px)
        if places is not None:
            return paint_sheet(places, rng, canvas_px, coloured)
    raise ConfigError(
        build_message(
            "compose_image",
            f"{len(scans_S)} digits do not fit on {canvas_px} x {canvas_px} px",
            do="Draw fewer digits, or use a larger canvas",
        )
    )


def place_scans(scans_S: npt.NDArray[Any], rng: np.random.Generator, canvas_px: int) -> list[Place] | None:
    """Return where each scan's ink goes, or None when one of them finds no room."""
    places: list[Place] = []
    taken_HW = np.zeros((canvas_px, canvas_px), dtype=np.uint8)
    for scan in scans_S:
        place = find_place(scan, taken_HW, rng)
        if place is None:
            return None
        places.append(place)
        ink_HW, top, left = place
        height, width = ink_HW.shape
        # The ink and one pixel on every side of it are taken: a place is never nearer than that to an edge.
        for row, column in ((top, left), (top - 1, left), (top + 1, left), (top, left - 1), (top, left + 1)):
            around = taken_HW[row : row + height, column : column + width]
            np.maximum(around, ink_HW, out=around)
    return places


def find_place(scan: npt.NDArray[Any], taken_HW: Pixels, rng: np.random.Generator) -> Place | None:
    """Return one scan's ink and a free place for it, smaller than first drawn if need be."""
    canvas_px = len(taken_HW)
    smallest, largest = (share * canvas_px for share in DIGIT_SHARES)
    size_px = smallest + (largest - smallest) * rng.random()
    angle = MAX_ANGLE_DEGREES * (2 * rng.random() - 1)
    while size_px >= SMALLEST_SHRUNK * smallest:
        ink_HW = draw_scan(scan, size_px, angle)
        height, width = ink_HW.shape
        allowed = MAX_HIDDEN_SHARE * int(ink_HW.sum())
        places = rng.integers(1, (canvas_px - height, canvas_px - width), size=(NUM_PLACES, 2))
        for top, left in places.tolist():
            if np.minimum(ink_HW, taken_HW[top : top + height, left : left + width]).sum() <= allowed:
                return ink_HW, top, left
        size_px *= 0.9
    return None


def paint_sheet(places: Sequence[Place], rng: np.random.Generator, canvas_px: int, coloured: bool) -> Image.Image:
    """Return a sheet of paper with the ink at its places."""
    paper = PAPERS[rng.integers(len(PAPERS))] if coloured else (255, 255, 255)
    sheet = Image.new("RGB", (canvas_px, canvas_px), paper)
    for ink_HW, top, left in places:
        colour = INKS[rng.integers(len(INKS))] if coloured else (0, 0, 0)
        sheet.paste(colour, (left, top), Image.fromarray(ink_HW))
    return sheet


def draw_scan(scan: npt.NDArray[Any], size_px: float, angle_degrees: float) -> Pixels:
    """Return a scan drawn `size_px` high and turned, from 0 (no ink) to 255, cut to where there is ink."""
    framed = np.zeros((SCAN_SIDE + 2 * FRAME, SCAN_SIDE + 2 * FRAME), dtype=np.uint8)
    framed[FRAME:-FRAME, FRAME:-FRAME] = scan * GREY_PER_LEVEL
    side = math.ceil(size_px * 1.25)
    step = SCAN_SIDE / size_px
    cosine, sine = step * math.cos(math.radians(angle_degrees)), step * math.sin(math.radians(angle_degrees))
    middle = len(framed) / 2
    turn = (cosine, sine, middle - (cosine + sine) * side / 2, -sine, cosine, middle - (cosine - sine) * side / 2)
    # One bicubic look-up both enlarges and turns, so the ink is interpolated once.
    grey = Image.fromarray(framed).transform((side, side), Image.Transform.AFFINE, turn, Image.Resampling.BICUBIC)
    ink_HW: Pixels = INK_CURVE[np.asarray(grey)]
    rows, columns = np.flatnonzero(ink_HW.any(axis=1)), np.flatnonzero(ink_HW.any(axis=0))
    if not len(rows):
        return ink_HW[:1, :1]
    return ink_HW[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def build_ink_curve() -> Pixels:
    """Return for each of 256 greys how much ink it becomes: an eight pixel blur gets an edge about one pixel wide."""
    ramp = np.clip((np.arange(256) / (SCAN_MAX * GREY_PER_LEVEL) - 0.3) / 0.4, 0, 1)
    return np.rint(255 * ramp * ramp * (3 - 2 * ramp)).astype(np.uint8)


INK_CURVE = build_ink_curve()


def load_scans() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the 1,797 scans, 8 x 8 from 0 to 16, and the digit that each shows."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ManylabelError(
            build_message(
                "demo",
                "the handwritten digits come with scikit-learn, which is not installed",
                do='Install it with: pip install "manylabel[train]"',
            )
        ) from error
    digits = load_digits()
    return digits.images, digits.target


def divide_scans(digits_S: npt.NDArray[np.int64], seed: int) -> dict[str, list[npt.NDArray[np.intp]]]:
    """Return for each part the rows of its scans of every digit: no row is in two parts."""
    rng = np.random.Generator(np.random.PCG64([seed, 0]))
    rows_by_part: dict[str, list[npt.NDArray[np.intp]]] = {part: [] for part in PART_SHARES}
    for digit in range(len(DEMO_LABELS)):
        rows = rng.permutation(np.flatnonzero(digits_S == digit))
        ends = np.rint(np.cumsum(list(PART_SHARES.values())) * len(rows)).astype(int)
        for part, chunk in zip(PART_SHARES, np.split(rows, ends[:-1]), strict=True):
            rows_by_part[part].append(chunk)
    return rows_by_part


def choose_scans(rows_by_digit: Sequence[npt.NDArray[np.intp]], rng: np.random.Generator) -> list[int]:
    """Return the rows of the scans for one image: any digit as likely as any other, one may come twice."""
    num_digits = int(np.searchsorted(np.cumsum(COUNT_SHARES), rng.random(), side="right"))
    choices = [rows_by_digit[digit] for digit in rng.integers(len(rows_by_digit), size=num_digits)]
    return [int(rows[rng.integers(len(rows))]) for rows in choices]


def check_num_images(num_images: Mapping[str, int], seed: int) -> None:
    """Raise a ConfigError for a part that does not exist, a number below 1 or a seed below 0."""
    for part, number in num_images.items():
        if part not in PART_SHARES:
            raise ConfigError(
                build_message(
                    "num_images",
                    f"unknown part{suggest_name(part, PART_SHARES)}",
                    got=part,
                    expected=join_names(list(PART_SHARES)),
                )
            )
        if number < 1:
            raise ConfigError(
                build_message(
                    "num_images",
                    f"too few images for the part {part!r}",
                    got=number,
                    expected="1 or more",
                    do="Leave the part out to write none",
                )
            )
    if not num_images:
        raise ConfigError(build_message("num_images", "no part to write", expected=join_names(list(PART_SHARES))))
    if seed < 0:
        raise ConfigError(build_message("seed", "below zero", got=seed, expected="0 or more"))


def check_room(images: Path, names: set[str]) -> None:
    """Raise a DataError if the folder of images holds a file that would be left over beside the new ones."""
    if images.exists() and not images.is_dir():
        raise DataError(build_message(images, "is a file", expected="a folder", do="Choose another folder"))
    left_over = sorted(path.name for path in images.iterdir() if path.name not in names) if images.exists() else []
    if left_over:
        raise DataError(
            build_message(
                images,
                f"holds files that are not part of this demo ({join_names(left_over, limit=3)})",
                do="Choose another folder, or empty this one",
            )
        )


def write_table(path: Path, table: list[tuple[str, str, str]]) -> Path:
    """Write the table, whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", "labels", "part"))
    writer.writerows(table)
    write_text_atomically(path, text.getvalue())
    return path


def save_image(image: Image.Image, path: Path) -> None:
    """Write one image as PNG.

    Raises:
        RunError: the disk is full or the place cannot be written.
    """
    try:
        image.save(path, compress_level=1)
    except OSError as error:
        raise RunError(describe_write_error(path, image.width * image.height * 3, error)) from error


def make_folder(folder: Path) -> None:
    """Make a folder and what is above it.

    Raises:
        RunError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(describe_write_error(folder, 0, error)) from error
