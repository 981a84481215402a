"""Markdown: the same numbers, and names that stay text."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from manylabel.errors import ConfigError
from manylabel.evaluation.evaluate import Report
from manylabel.evaluation.report.definitions import DEFINITIONS, HEADLINES
from manylabel.evaluation.report.markdown import render_markdown, render_results, save_markdown


def test_it_holds_the_figures_beside_their_baselines_and_every_label(make_report: Callable[..., Report]) -> None:
    report = make_report(skipped={"broken.jpg": "cut"}, chosen_on="data-1")
    text = render_markdown([report], title="Mine")
    assert text.startswith("# Mine\n\n## Results on test\n\n")
    for name in HEADLINES:
        assert f"| {DEFINITIONS[name].title}" in text
        assert f"| {report.metrics[name].value:.3f} | {report.metrics[name].low:.3f} to" in text
    for row in report.labels:
        assert f"| {row['label']} | {row['num_known']} | {row['num_positive']} | {row['threshold']:.3f} |" in text
    assert "> These numbers flatter" in text
    assert "| broken.jpg | cut |" in text


def test_hostile_names_are_neither_markup_nor_cells(
    make_report: Callable[..., Report], hostile_names: tuple[str, ...]
) -> None:
    names = (*hostile_names[:-1], "a|b", "[x](javascript:alert(1))")
    text = render_markdown([make_report(num_labels=len(names), names=names)], title="<b>")
    assert re.search(r"(?<!\\)[<\[]", text) is None
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(len(re.split(r"(?<!\\)\|", row)) in (8, 13) for row in rows)
    assert "\x1b" not in text


def test_what_a_model_card_gets_is_the_summary_and_the_key_figures(make_report: Callable[..., Report]) -> None:
    text = render_results(make_report())
    assert text.startswith("## Results on test\n\nThe model was judged on 60 images")
    assert "| F1 per label |" in text
    assert "label 0 |" not in text


def test_nothing_to_show_is_refused_and_a_broken_name_is_written(
    make_report: Callable[..., Report], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"Markdown: there is no report to show, expected one or more\."):
        render_markdown([], title="t")
    save_markdown([make_report(skipped={"\udce9.jpg": "cut"})], tmp_path / "r.md", title="t")
    assert r"udce9.jpg" in (tmp_path / "r.md").read_text(encoding="utf-8")
