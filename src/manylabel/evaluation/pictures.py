"""Pictures of a training and of a report: curves over the epochs, and a square of right and wrong for each label.

Drawn through matplotlib's objects, without its global state, so that drawing in a server or a notebook disturbs nobody.
Blue is right and orange is wrong: two colours that colour-blind readers tell apart, each with its number beside it.
"""

from __future__ import annotations

import io
import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from manylabel.errors import ConfigError, RunError, build_message, make_printable
from manylabel.evaluation.evaluate import LabelRow, Report
from manylabel.evaluation.report.definitions import DEFINITIONS
from manylabel.evaluation.report.sentences import count, format_share, shorten
from manylabel.files import write_bytes_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Theme = Literal["light", "dark"]

MAX_SQUARES = 25
"""How many labels one picture holds."""

_FORMATS = ("png", "svg", "pdf")
_DOTS_PER_INCH = 160
_LONGEST_NAME = 20

# The grid of squares is laid out in units of half a square.
_INCHES_PER_UNIT = 0.9
_GAP = 0.25
_STEP_RIGHT = 2 + _GAP
_STEP_DOWN = 2 + 0.65
_ROOM_FOR_TEXT = 1.35
_LEAST_WIDTH = 4.9

_FALLBACK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans",
    "WenQuanYi Zen Hei",
    "Arial Unicode MS",
)
"""Used where installed, for names that the font matplotlib brings cannot write."""


@dataclass(frozen=True)
class _Colours:
    paper: str
    ink: str
    faint: str
    right: str
    wrong: str


_COLOURS: Mapping[Theme, _Colours] = {
    "light": _Colours(paper="#ffffff", ink="#1c2430", faint="#6b7686", right="#1f6fb2", wrong="#d9730d"),
    "dark": _Colours(paper="#171c24", ink="#e6ebf2", faint="#97a3b3", right="#5aa9e6", wrong="#f0943e"),
}


def draw_curves(history: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], *, theme: Theme = "light") -> None:
    """Write a picture of training and validation loss, and of the monitored metric with its best epoch marked.

    Args:
        history: one row per epoch with `epoch`, `train_loss`, `val_loss`, `monitor` (a metric's name) and the metric
            under `val_<monitor>`; a value that is missing or None leaves a gap.
        path: a file that ends in .png, .svg or .pdf.
        theme: `light` or `dark`.

    Raises:
        RunError: the history has no epoch, or the file cannot be written.
        ConfigError: the path ends in something else.
    """
    write_bytes_atomically(path, render_curves(history, _check_format(path), theme=theme))


def draw_learning_rates(
    learning_rates: Sequence[float],
    losses: Sequence[float],
    suggestion: float,
    path: str | os.PathLike[str],
    *,
    theme: Theme = "light",
) -> None:
    """Write a picture of the loss over the learning rate, the suggested one marked.

    Args:
        learning_rates: rising, above 0; one for each loss.
        path: a file that ends in .png, .svg or .pdf.
        theme: `light` or `dark`.

    Raises:
        RunError: the file cannot be written.
        ConfigError: the path ends in something else.
    """
    file_format = _check_format(path)
    from matplotlib.figure import Figure

    colours = _COLOURS[theme]
    with _style(theme):
        figure = Figure(figsize=(6.4, 3.9), layout="constrained")
        axes = figure.subplots()
        axes.plot(learning_rates, losses, color=colours.right)
        axes.axvline(suggestion, color=colours.wrong, linestyle="--", label=f"suggested: {suggestion:g}")
        axes.set_xscale("log")
        lowest, highest = min(losses), min(max(losses), 2 * losses[0])  # where it is lost does not matter
        axes.set_ylim(lowest - 0.1 * (highest - lowest), highest + 0.05 * (highest - lowest))
        axes.set_title("Loss while the learning rate rises")
        axes.set_xlabel("learning rate")
        axes.legend(frameon=False)
        write_bytes_atomically(path, _to_bytes(figure, file_format))


def draw_confusion_grid(report: Report, path: str | os.PathLike[str], *, theme: Theme = "light") -> None:
    """Write a picture with a square for each label: how many images were decided rightly and wrongly, of which truth.

    The labels with the most positives come first; beyond `MAX_SQUARES` a line says how many were left out.

    Args:
        report: what is drawn.
        path: a file that ends in .png, .svg or .pdf.
        theme: `light` or `dark`.

    Raises:
        RunError: the file cannot be written.
        ConfigError: the path ends in something else.
    """
    write_bytes_atomically(path, render_confusion_grid(report, _check_format(path), theme=theme))


def render_curves(history: Sequence[Mapping[str, Any]], file_format: str, *, theme: Theme = "light") -> bytes:
    """Return what `draw_curves` writes, for one of the formats png, svg and pdf.

    Raises:
        RunError: the history has no epoch.
    """
    if not history:
        raise RunError(build_message("history", "there is no epoch to draw", do="Train for one epoch or more"))
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    colours = _COLOURS[theme]
    with _style(theme):
        figure = Figure(figsize=(10, 3.9), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
        loss_axes, metric_axes = figure.subplots(1, 2)
        _draw_losses(loss_axes, history, colours)
        _draw_monitor(metric_axes, history, colours)
        return _to_bytes(figure, file_format)


def render_confusion_grid(report: Report, file_format: str, *, theme: Theme = "light") -> bytes:
    """Return what `draw_confusion_grid` writes, for one of the formats png, svg and pdf."""
    from matplotlib.figure import Figure

    colours = _COLOURS[theme]
    rows = sorted(report.labels, key=lambda row: -row["num_positive"])[:MAX_SQUARES]
    num_columns = 2 if len(rows) == 4 else min(5, len(rows))
    num_lines = math.ceil(len(rows) / num_columns)
    # One pair of axes for the whole picture, in units of half a square: many small ones take ten times as long.
    width = max(_LEAST_WIDTH, num_columns * _STEP_RIGHT - _GAP) + 2 * _GAP
    height = num_lines * _STEP_DOWN + _ROOM_FOR_TEXT
    with _style(theme):
        figure = Figure(figsize=(width * _INCHES_PER_UNIT, height * _INCHES_PER_UNIT))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        axes.text(width / 2, 0.42, "Right and wrong, label by label", ha="center", va="center", size=13, weight="bold")
        first_left = (width - num_columns * _STEP_RIGHT + _GAP) / 2
        for place, row in enumerate(rows):
            left = first_left + place % num_columns * _STEP_RIGHT
            _draw_square(axes, row, left, 1.2 + place // num_columns * _STEP_DOWN, colours)
        note = _describe_squares(len(report.labels) - len(rows))
        axes.text(width / 2, height - 0.2, note, ha="center", va="bottom", size=8, color=colours.faint)
        return _to_bytes(figure, file_format)


def _check_format(path: str | os.PathLike[str]) -> str:
    file_format = Path(path).suffix.lower().removeprefix(".")
    if file_format not in _FORMATS:
        raise ConfigError(
            build_message(path, "no picture has this ending", got=f".{file_format}", expected=".png, .svg or .pdf")
        )
    return file_format


@contextmanager
def _style(theme: Theme) -> Iterator[None]:
    """Set fonts and colours for what is drawn inside, and nothing outside."""
    import matplotlib as mpl
    from matplotlib import font_manager

    colours = _COLOURS[theme]
    installed = set(font_manager.get_font_names())
    settings: dict[Any, Any] = {
        "font.family": ["DejaVu Sans", *(name for name in _FALLBACK_FONTS if name in installed)],
        "font.size": 9.5,
        "figure.facecolor": colours.paper,
        "savefig.facecolor": colours.paper,
        "axes.facecolor": colours.paper,
        "axes.edgecolor": colours.faint,
        "axes.labelcolor": colours.ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": colours.ink,
        "xtick.color": colours.ink,
        "ytick.color": colours.ink,
        "grid.color": colours.faint,
        "grid.alpha": 0.25,
        "svg.fonttype": "path",
        "svg.hashsalt": "manylabel",
    }
    # A character that no font has is drawn as a box; that is not worth a line of warning for each.
    with mpl.rc_context(settings), warnings.catch_warnings(), _quiet_logger("matplotlib.font_manager"):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        yield


@contextmanager
def _quiet_logger(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _to_bytes(figure: Figure, file_format: str) -> bytes:
    buffer = io.BytesIO()
    # Without a date, the same numbers give the same file.
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(file_format)
    figure.savefig(buffer, format=file_format, dpi=_DOTS_PER_INCH, metadata=metadata)
    return buffer.getvalue()


def _draw_losses(axes: Axes, history: Sequence[Mapping[str, Any]], colours: _Colours) -> None:
    epochs = [row["epoch"] for row in history]
    for key, name, colour, marker in (
        ("train_loss", "training", colours.right, "o"),
        ("val_loss", "validation", colours.wrong, "s"),
    ):
        values = [_read_number(row, key) for row in history]
        if not all(math.isnan(value) for value in values):
            axes.plot(epochs, values, color=colour, marker=marker, markersize=_size_markers(epochs), label=name)
    _dress_axes(axes, "Loss", epochs)
    if axes.lines:
        axes.legend(frameon=False)
    else:
        _say_nothing_to_draw(axes, "no loss was recorded", colours)


def _draw_monitor(axes: Axes, history: Sequence[Mapping[str, Any]], colours: _Colours) -> None:
    monitor = str(history[-1].get("monitor", ""))
    epochs = [row["epoch"] for row in history]
    values = [_read_number(row, f"val_{monitor}") for row in history]
    best = find_best_epoch(history)
    title = DEFINITIONS[monitor].title if monitor in DEFINITIONS else monitor.replace("_", " ")
    axes.plot(epochs, values, color=colours.right, marker="o", markersize=_size_markers(epochs))
    _dress_axes(axes, f"{title}, validation" if title else "Monitored metric", epochs)
    if best is None:
        _say_nothing_to_draw(axes, "no value was recorded", colours)
        return
    value = values[best]
    axes.axvline(epochs[best], color=colours.wrong, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axes.plot([epochs[best]], [value], marker="*", markersize=15, color=colours.wrong, markeredgecolor=colours.paper)
    # Beside the star, towards the middle of the picture, where the curve leaves room.
    is_in_right_half = epochs[best] - epochs[0] > (epochs[-1] - epochs[0]) / 2
    axes.annotate(
        f"best: {value:.3f}\nin epoch {epochs[best]}",
        (epochs[best], value),
        xytext=(-10 if is_in_right_half else 10, 26 if _is_lower_better(monitor) else -26),
        textcoords="offset points",
        ha="right" if is_in_right_half else "left",
        va="center",
        fontsize=9,
        bbox={"boxstyle": "round,pad=0.3", "facecolor": colours.paper, "edgecolor": "none", "alpha": 0.85},
    )
    axes.margins(y=0.22)


def find_best_epoch(history: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the row of the epoch whose monitored metric is best, the first of equal ones; None without a value.

    Example:
        >>> find_best_epoch([{"monitor": "f1_macro", "val_f1_macro": value} for value in (0.2, 0.7, None)])
        1
    """
    if not history:
        return None
    monitor = str(history[-1].get("monitor", ""))
    sign = 1 if _is_lower_better(monitor) else -1
    values = [sign * _read_number(row, f"val_{monitor}") for row in history]
    defined = [place for place, value in enumerate(values) if not math.isnan(value)]
    return min(defined, key=lambda place: values[place]) if defined else None


def _is_lower_better(monitor: str) -> bool:
    return DEFINITIONS[monitor].is_lower_better if monitor in DEFINITIONS else monitor.endswith(("loss", "error"))


def _read_number(row: Mapping[str, Any], key: str) -> float:
    value = row.get(key)
    return math.nan if value is None else float(value)


def _size_markers(epochs: Sequence[Any]) -> float:
    return 5 if len(epochs) <= 30 else 0


def _dress_axes(axes: Axes, title: str, epochs: Sequence[Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(shorten(make_printable(title), 50), loc="left", fontsize=11, fontweight="bold", parse_math=False)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(epochs) == 1:
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
    axes.grid(axis="y")


def _say_nothing_to_draw(axes: Axes, text: str, colours: _Colours) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=colours.faint)


def _draw_square(axes: Axes, row: LabelRow, left: float, top: float, colours: _Colours) -> None:
    """Draw one label: above the images that show it, below those that do not; left given, right not given."""
    num_negative = row["num_known"] - row["num_positive"]
    cells = (
        (0, 0, row["true_positives"], row["num_positive"], colours.right, "found"),
        (1, 0, row["false_negatives"], row["num_positive"], colours.wrong, "missed"),
        (0, 1, row["false_positives"], num_negative, colours.wrong, "wrongly given"),
        (1, 1, row["true_negatives"], num_negative, colours.right, "rightly not"),
    )
    for right, down, number, total, colour, name in cells:
        _draw_quarter(axes, left + right, top + down, (number, total), colour, name, colours.faint)
    name = shorten(make_printable(row["label"]), _LONGEST_NAME)
    axes.text(left + 1, top - 0.2, name, ha="center", va="center", size=9.5, weight="bold", parse_math=False)


def _draw_quarter(
    axes: Axes, x: float, y: float, counts: tuple[int, int], colour: str, name: str, edge_colour: str
) -> None:
    """Draw one of the four counts of a label as (number, of how many), the stronger the colour the larger its share."""
    from matplotlib.patches import Rectangle

    number, total = counts
    share = number / total if total > 0 else math.nan
    strength = 0.0 if math.isnan(share) else 0.08 + 0.62 * share
    face, edge = (colour, strength), (edge_colour, 0.6)
    axes.add_patch(Rectangle((x + 0.02, y + 0.02), 0.96, 0.96, facecolor=face, edgecolor=edge, lw=0.6))
    for down, text, size, weight in (
        (0.32, f"{number:,}", 11, "bold"),
        (0.58, format_share(share), 8.5, "normal"),
        (0.81, name, 6.6, "normal"),
    ):
        axes.text(x + 0.5, y + down, text, ha="center", va="center", size=size, weight=weight)


def _describe_squares(num_left_out: int) -> str:
    rule = "Above: images that show the label. Below: images that do not.\nPercent are shares of that line."
    left_out = f" {count(num_left_out, 'label')} with fewer positives not shown." if num_left_out > 0 else ""
    return rule + left_out
