"""The picture of what augmentation does: a row per image, the original first, its labels above each."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_CELL_INCHES = 2.0
_LINE_INCHES = 0.135
_MAX_LINES = 5
_SIGNS_A_LINE = 27


@dataclass(frozen=True)
class PreviewCell:
    """One image as it is shown, uint8 [H, W, 3], and the words above it."""

    pixels: npt.NDArray[np.uint8]
    caption: str


def describe_truth(names: Sequence[str], truth_L: Sequence[float], known_L: Sequence[bool]) -> str:
    """Return the labels of an image in words: a share where it is not whole, and how many cells are unknown.

    Example:
        >>> describe_truth(["cat", "dog", "owl"], [1.0, 0.25, 0.0], [True, True, False])
        'cat, dog 0.25 (1 unknown)'
    """
    shown = [
        name if value >= 1 else f"{name} {value:.2f}"
        for name, value, is_known in zip(names, truth_L, known_L, strict=True)
        if is_known and value > 0
    ]
    num_unknown = sum(not is_known for is_known in known_L)
    text = ", ".join(shown) if shown else "(none)"
    return f"{text} ({num_unknown} unknown)" if num_unknown else text


def draw_preview(rows: Sequence[Sequence[PreviewCell]], column_titles: Sequence[str]) -> bytes:
    """Return a PNG of a grid: a row per image, every row as long as the titles.

    A caption takes as many lines as it needs, at most five; the rest is left out with an ellipsis.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    captions = [[_wrap(cell.caption) for cell in row] for row in rows]
    num_lines = [max(text.count("\n") + 1 for text in row) for row in captions]
    shape = rows[0][0].pixels.shape
    image_inches = _CELL_INCHES * shape[0] / shape[1]
    heights = [image_inches + _LINE_INCHES * (lines + 1) for lines in num_lines]
    title_inches = 0.3
    width, height = len(column_titles) * _CELL_INCHES, sum(heights) + title_inches
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    gap = 0.06  # between images, in inches
    for column, title in enumerate(column_titles):
        figure.text(
            (column + 0.5) * _CELL_INCHES / width,
            1 - title_inches / 2 / height,
            title,
            ha="center",
            va="center",
            fontsize=9,
            fontweight="bold",
            parse_math=False,
        )
    bottom = height - title_inches
    for row, texts, row_height in zip(rows, captions, heights, strict=True):
        bottom -= row_height
        for column, (cell, text) in enumerate(zip(row, texts, strict=True)):
            left = column * _CELL_INCHES + gap / 2
            axes = figure.add_axes(
                (left / width, bottom / height, (_CELL_INCHES - gap) / width, (image_inches - gap) / height)
            )
            axes.imshow(cell.pixels, interpolation="nearest", aspect="auto")
            axes.set_axis_off()
            axes.annotate(
                text,
                (0, 1),
                xycoords="axes fraction",
                xytext=(0, 3),
                textcoords="offset points",
                va="bottom",
                fontsize=7.5,
                linespacing=1.15,
                annotation_clip=False,
                parse_math=False,
            )
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A character that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(buffer, dpi=110, format="png")
    return buffer.getvalue()


def _wrap(caption: str) -> str:
    printable = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in caption)
    return "\n".join(textwrap.wrap(printable, _SIGNS_A_LINE, max_lines=_MAX_LINES, placeholder=" …"))
