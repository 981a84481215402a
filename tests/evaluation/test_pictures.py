"""Pictures: they are written, they change with the numbers, and no name breaks one."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from manylabel.errors import ConfigError, RunError
from manylabel.evaluation.evaluate import Report
from manylabel.evaluation.pictures import (
    draw_confusion_grid,
    draw_curves,
    find_best_epoch,
    render_confusion_grid,
    render_curves,
)

HOSTILE = [r"$\frac{x}$", "$", "<script>alert(1)</script>", "\x1b[2J", "x" * 10_000, "大きな犬", "a_b^c{%"]


def read_pixels(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def draw(report: Report, path: Path, **options: str) -> npt.NDArray[np.uint8]:
    draw_confusion_grid(report, path, **options)  # type: ignore[arg-type]
    return read_pixels(path)


def differ_visibly(pixels: npt.NDArray[np.uint8], others: npt.NDArray[np.uint8]) -> bool:
    return pixels.shape != others.shape or int((pixels != others).any(axis=2).sum()) > 20


@pytest.mark.parametrize(
    ("num_labels", "num_lines"),
    [
        pytest.param(1, 1, id="one label"),
        pytest.param(10, 2, id="two lines of five"),
        pytest.param(25, 5, id="as many as one picture holds"),
        pytest.param(40, 5, id="more than one picture holds"),
    ],
)
def test_the_grid_grows_with_the_labels_up_to_its_limit(
    make_report: Callable[..., Report], tmp_path: Path, num_labels: int, num_lines: int
) -> None:
    height, width, _ = draw(make_report(num_labels=num_labels), tmp_path / "grid.png").shape
    assert width > 500
    assert 300 * num_lines < height < 420 * num_lines + 200


def test_a_changed_count_changes_the_picture(make_report: Callable[..., Report], tmp_path: Path) -> None:
    report = make_report(num_labels=3)
    first = draw(report, tmp_path / "first.png")
    assert not differ_visibly(first, draw(report, tmp_path / "again.png"))
    first_row, *others = report.labels
    more = first_row["false_positives"] + 1
    changed = dataclasses.replace(report, labels=[{**first_row, "false_positives": more}, *others])
    assert differ_visibly(first, draw(changed, tmp_path / "changed.png"))


def test_the_same_numbers_give_the_same_file(make_report: Callable[..., Report], history: list[dict[str, Any]]) -> None:
    report = make_report(num_labels=1)
    assert render_confusion_grid(report, "png") == render_confusion_grid(report, "png")
    assert render_confusion_grid(report, "svg") == render_confusion_grid(report, "svg")
    assert render_curves(history, "svg") == render_curves(history, "svg")


def test_the_grid_shows_the_labels_with_the_most_positives_and_counts_the_others(
    make_report: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = make_report(num_labels=30)
    texts = read_texts(render_confusion_grid, report, monkeypatch)
    by_support = sorted(report.labels, key=lambda row: -row["num_positive"])
    assert [row["label"] for row in by_support[:25]] == [text for text in texts if text.startswith("label ")]
    assert any("5 labels with fewer positives not shown." in text for text in texts)


def test_every_square_holds_its_four_numbers_and_shares(
    make_report: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = make_report(num_labels=1)
    row = report.labels[0]
    texts = read_texts(render_confusion_grid, report, monkeypatch)
    for number in (row["true_positives"], row["false_negatives"], row["false_positives"], row["true_negatives"]):
        assert f"{number}" in texts
    assert f"{row['true_positives'] / row['num_positive']:.0%}" in texts


def read_texts(render: Callable[..., bytes], shown: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the texts of a picture in the order they stand in its SVG, which is drawn with text in place of shapes."""
    from manylabel.evaluation import pictures

    seen: list[str] = []
    original = pictures._to_bytes

    def look(figure: Any, file_format: str) -> bytes:
        from matplotlib.text import Text

        seen.extend(text.get_text() for text in figure.findobj(Text) if text.get_text())
        return original(figure, file_format)

    monkeypatch.setattr(pictures, "_to_bytes", look)
    render(shown, "png")
    return seen


def test_hostile_names_are_drawn_as_they_are_and_shortened(
    make_report: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = make_report(num_labels=len(HOSTILE), names=HOSTILE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        texts = read_texts(render_confusion_grid, report, monkeypatch)
    assert {r"$\frac{x}$", "$", r"\x1b[2J", "大きな犬", "a_b^c{%", "x" * 19 + "…"} <= set(texts)
    assert max(len(text) for text in texts if "\n" not in text) < 40


def test_a_label_that_nobody_knows_is_drawn(make_report: Callable[..., Report], tmp_path: Path) -> None:
    pixels = draw(make_report(num_labels=2, share_unknown=1.0), tmp_path / "grid.png")
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize(("theme", "is_dark"), [("light", False), ("dark", True)])
def test_the_theme_decides_the_paper(
    make_report: Callable[..., Report], history: list[dict[str, Any]], tmp_path: Path, theme: str, is_dark: bool
) -> None:
    draw_curves(history, tmp_path / "curves.png", theme=theme)  # type: ignore[arg-type]
    for pixels in (draw(make_report(), tmp_path / "grid.png", theme=theme), read_pixels(tmp_path / "curves.png")):
        assert bool(pixels[0, 0].mean() < 60) is is_dark


def test_the_curves_change_with_the_history(history: list[dict[str, Any]], tmp_path: Path) -> None:
    draw_curves(history, tmp_path / "first.png")
    changed = [{**row, "val_loss": row["val_loss"] * 1.5} for row in history]
    draw_curves(changed, tmp_path / "changed.png")
    assert read_pixels(tmp_path / "first.png").shape[1] > 1000
    assert differ_visibly(read_pixels(tmp_path / "first.png"), read_pixels(tmp_path / "changed.png"))


def test_the_curves_name_the_metric_and_its_best_epoch(
    history: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = read_texts(render_curves, history, monkeypatch)
    assert {"Loss", "training", "validation", "Average precision (mAP), validation", "epoch"} <= set(texts)
    assert "best: 0.700\nin epoch 4" in texts


@pytest.mark.parametrize(
    ("monitor", "values", "expected"),
    [
        pytest.param("f1_macro", [0.2, 0.7, 0.5], 1, id="the highest is best"),
        pytest.param("hamming_loss", [0.2, 0.1, 0.3], 1, id="the lowest is best of a loss"),
        pytest.param("loss", [0.2, 0.1, 0.3], 1, id="the loss itself"),
        pytest.param("f1_macro", [0.7, 0.7], 0, id="the first of equal ones"),
        pytest.param("f1_macro", [None, float("nan"), 0.1], 2, id="gaps are passed over"),
        pytest.param("f1_macro", [None, None], None, id="no value at all"),
    ],
)
def test_the_best_epoch_is_found(monitor: str, values: list[float | None], expected: int | None) -> None:
    rows = [
        {"epoch": epoch, "train_loss": 1.0, "val_loss": None, "monitor": monitor, f"val_{monitor}": value}
        for epoch, value in enumerate(values, start=1)
    ]
    assert find_best_epoch(rows) == expected
    assert render_curves(rows, "png").startswith(b"\x89PNG")


def test_one_epoch_without_any_value_is_drawn_with_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = read_texts(render_curves, [{"epoch": 1}], monkeypatch)
    assert {"no loss was recorded", "no value was recorded"} <= set(texts)


def test_a_history_without_an_epoch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"history: there is no epoch to draw\. Train for one epoch or more\."):
        draw_curves([], tmp_path / "curves.png")


@pytest.mark.parametrize(
    ("ending", "beginning"), [pytest.param("svg", b"<?xml", id="SVG"), pytest.param("pdf", b"%PDF", id="PDF")]
)
def test_the_ending_decides_the_format(
    history: list[dict[str, Any]], make_report: Callable[..., Report], tmp_path: Path, ending: str, beginning: bytes
) -> None:
    draw_curves(history, tmp_path / f"curves.{ending}")
    draw_confusion_grid(make_report(), tmp_path / f"grid.{ending}")
    for name in ("curves", "grid"):
        assert (tmp_path / f"{name}.{ending}").read_bytes().startswith(beginning)


def test_another_ending_is_refused(history: list[dict[str, Any]], tmp_path: Path) -> None:
    message = re.escape("no picture has this ending, got '.bmp', expected .png, .svg or .pdf.")
    with pytest.raises(ConfigError, match=message):
        draw_curves(history, tmp_path / "curves.bmp")


def test_drawing_leaves_the_settings_of_matplotlib_as_they_were(
    history: list[dict[str, Any]], make_report: Callable[..., Report]
) -> None:
    before = dict(mpl.rcParams)
    render_curves(history, "png", theme="dark")
    render_confusion_grid(make_report(), "png", theme="dark")
    assert dict(mpl.rcParams) == before
