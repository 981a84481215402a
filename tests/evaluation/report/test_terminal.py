"""The terminal: 80 columns that hold what must be said, whatever the names and the terminal."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from manylabel.evaluation.evaluate import Report
from manylabel.evaluation.report.definitions import HEADLINES
from manylabel.evaluation.report.terminal import print_report


def show(report: Report, *, width: int = 80, encoding: str = "utf-8", **options: Any) -> str:
    """Return what a terminal of this width and encoding receives."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    print_report(report, Console(file=stream, width=width, **options))
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)


def test_every_headline_stands_beside_its_baselines_and_the_value_at_half(make_report: Callable[..., Report]) -> None:
    report = make_report()
    lines = show(report).splitlines()
    for name in HEADLINES:
        (line,) = [line for line in lines if line.split(" ")[0] == name]
        interval = report.metrics[name]
        expected = [f"{interval.value:.3f}", f"{interval.low:.3f}", "to", f"{interval.high:.3f}"]
        expected.append(f"{report.at_half[name]:.3f}" if name in report.at_half else "same")
        for baseline in ("all_negative", "prior"):
            value = report.baselines[baseline][name]
            expected.append("n/a" if value != value else f"{value:.3f}")
        assert line.split()[1:] == expected


def test_every_label_has_its_line_by_prevalence(make_report: Callable[..., Report]) -> None:
    report = make_report(names=["first", "second", "third", "fourth"])
    lines = show(report).splitlines()
    rows = {row["label"]: row for row in report.labels}
    found = [line.split() for line in lines if line.split()[:1] and line.split()[0] in rows]
    assert len(found) == 4
    positives = [int(words[2]) for words in found]
    assert positives == sorted(positives, reverse=True)
    for name, *words in found:
        row = rows[name]
        rates = [row[key] for key in ("threshold", "average_precision", "roc_auc", "precision", "recall", "f1")]
        assert words == [f"{row['num_known']}", f"{row['num_positive']}", *(f"{rate:.2f}" for rate in rates)]


@pytest.mark.parametrize(
    ("num_labels", "expected"),
    [
        pytest.param(25, None, id="all fit"),
        pytest.param(26, "... and 1 more label, rarer than these", id="one too many"),
        pytest.param(40, "... and 15 more labels, rarer than these", id="many too many"),
    ],
)
def test_the_table_is_capped_and_says_how_many_more_there_are(
    make_report: Callable[..., Report], num_labels: int, expected: str
) -> None:
    text = show(make_report(num_labels=num_labels))
    listed = [line for line in text.splitlines() if line.startswith("label ") and line.split()[1].isdigit()]
    assert len(listed) == min(num_labels, 25)
    assert ("more label" in text) is (expected is not None)
    assert expected is None or expected in text


def test_no_line_is_longer_than_80_cells(make_report: Callable[..., Report], hostile_names: tuple[str, ...]) -> None:
    report = make_report(
        num_images=300,
        num_labels=len(hostile_names),
        names=hostile_names,
        share_unknown=0.3,
        chosen_on="data-1",
        skipped={"folder/" * 40 + "a.jpg": "truncated after 12 of 4,000 bytes", "b.jpg": "not an image"},
    )
    lines = show(report).splitlines()
    assert max(cell_len(line) for line in lines) <= 80
    assert any("…" in line for line in lines), "long names were expected to be shortened"


def test_flattering_numbers_are_called_so(make_report: Callable[..., Report]) -> None:
    assert "These numbers flatter" in show(make_report(chosen_on="data-1"))
    assert "flatter" not in show(make_report(chosen_on="data-0"))


def test_hostile_names_send_no_escape_sequence_and_are_no_markup(
    make_report: Callable[..., Report], hostile_names: tuple[str, ...]
) -> None:
    report = make_report(
        num_labels=len(hostile_names), names=hostile_names, skipped={"\x1b]0;title\x07.jpg": "\x1b[31mred"}
    )
    text = show(report)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]markup[/red]" in text
    assert r"\x1b[2Jcleared" in text


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_terminal_that_cannot_show_a_character_gets_its_escape(
    make_report: Callable[..., Report], encoding: str
) -> None:
    report = make_report(names=["犬", "é" * 60, "c", "d"], skipped={"\udce9.jpg": "cut"})
    text = show(report, encoding=encoding)
    assert ("犬" if encoding == "utf-8" else r"\u72ac") in text
    assert r"\udce9.jpg: cut" in text


def test_a_pipe_gets_no_colour_and_a_terminal_does(
    make_report: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = make_report(chosen_on="data-1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b" not in show(report)
    yellow = "\x1b[1;33m"
    assert yellow in show(report, force_terminal=True, color_system="standard")
    monkeypatch.setenv("NO_COLOR", "1")
    assert yellow not in show(report, force_terminal=True, color_system="standard")


def test_only_the_first_skipped_images_are_named(make_report: Callable[..., Report]) -> None:
    text = show(make_report(skipped={f"{number}.jpg": "cut" for number in range(7)}))
    assert "Skipped 7 images:" in text
    assert "4.jpg: cut" in text
    assert "5.jpg: cut" not in text
    assert "... and 2 more" in text
