"""The report in a real browser: names stay text under its own rules, the slider counts, tables sort and turn."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from manylabel.decisions.policy import DecisionPolicy
from manylabel.evaluation.evaluate import Report, evaluate_predictions
from manylabel.evaluation.mistake_maps import MistakeMap, MistakeMaps, list_worst_mistakes
from manylabel.evaluation.report.html import save_html
from manylabel.labels.predictions import Predictions
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets

ROOT = Path(__file__).resolve().parents[2]
ATTACK = "<img src=x onerror=\"document.title='taken'\">"
HOSTILE = (
    "<script>document.title='taken'</script>",
    ATTACK,
    "</script><script>document.title='taken'</script>",
    "\"'`${document.title='taken'}",
    "مرحبا ‮gnp.exe",
    "x" * 10_000,
)
AXE = os.environ.get("MANYLABEL_AXE", "")
"""The path of axe.min.js from npm's axe-core; without it accessibility is not checked here."""


def load_browser() -> ModuleType:
    specification = importlib.util.spec_from_file_location("browser", ROOT / "benchmarks" / "browser.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


BROWSER = load_browser()

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.skipif(BROWSER.find_browser() is None, reason="no Chromium is installed"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with BROWSER.Browser(BROWSER.find_browser()) as browser:
        yield browser


def build_report(names: tuple[str, ...], num_images: int = 200) -> Report:
    generator = np.random.default_rng(0)
    shape = num_images, len(names)
    truth_NL = generator.random(shape) < 0.3
    probs_NL = np.clip(0.2 + 0.4 * truth_NL + generator.normal(0, 0.2, shape), 0, 1).astype(np.float32)
    space = LabelSpace(names)
    images = tuple(f"{row} {ATTACK}.jpg" for row in range(num_images))
    predictions = Predictions(images, space, probs_NL, Targets.from_dense(truth_NL), "m", "d")
    return evaluate_predictions(predictions, DecisionPolicy(space, (0.4,) * len(names)), num_resamples=5)


def open_report(browser: Any, report: Report, folder: Path) -> None:
    save_html([report], folder / "report.html", title=ATTACK)
    browser.problems.clear()
    browser.open(folder / "report.html")


def test_hostile_names_are_shown_and_run_nothing(browser: Any, tmp_path: Path) -> None:
    report = build_report(HOSTILE)
    open_report(browser, report, tmp_path)
    for place in range(len(HOSTILE)):
        browser.evaluate(f"document.querySelectorAll('button.pick')[{place}].click()")
    assert browser.evaluate("document.title") == ATTACK
    assert browser.problems == []
    assert browser.evaluate("document.querySelectorAll('main img').length") == 0
    shown = browser.evaluate("[...document.querySelectorAll('tr[data-place]')].map(row => row.cells[0].textContent)")
    assert sorted(shown) == sorted(row["label"].replace("‮", "\\u202e") for row in report.labels)
    width = browser.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1]  # ten thousand letters do not widen the page


def test_the_slider_counts_as_deciding_with_its_threshold_would(browser: Any, tmp_path: Path) -> None:
    report = build_report(("cat", "dog"))
    open_report(browser, report, tmp_path)
    browser.evaluate("document.querySelectorAll('button.pick')[0].click()")
    label = browser.evaluate("document.querySelector('.label h4').textContent")
    (row,) = [row for row in report.labels if row["label"] == label]
    read = "[...document.querySelectorAll('.label .quarter b')].map(cell => Number(cell.textContent))"
    keys = ("true_positives", "false_negatives", "false_positives", "true_negatives")
    assert browser.evaluate(read) == [row[key] for key in keys]  # type: ignore[literal-required]
    assert "the chosen one" in browser.evaluate("document.querySelector('.label output').textContent")
    move = "const slide = document.querySelector('input[type=range]'); slide.value = slide.max;"
    browser.evaluate(f"(() => {{ {move} slide.dispatchEvent(new Event('input')) }})()")
    assert browser.evaluate(read)[1] == row["num_positive"] - browser.evaluate(read)[0]
    browser.evaluate("document.querySelector('[data-jump=half]').click()")
    text = browser.evaluate("document.querySelector('.label output').textContent")
    assert text.startswith("Threshold 0.500: ")


def test_the_table_turns_pages_sorts_and_filters(browser: Any, tmp_path: Path) -> None:
    open_report(browser, build_report(tuple(f"label {column:02}" for column in range(60))), tmp_path)
    names = "[...document.querySelectorAll('#labels-1 tbody tr')].map(row => row.cells[0].textContent)"
    browser.evaluate("document.querySelector('#labels-1 thead button').click()")
    assert browser.evaluate(names) == [f"label {column:02}" for column in range(25)]
    assert browser.evaluate("document.querySelector('#labels-1 th').ariaSort") == "ascending"
    browser.evaluate("[...document.querySelectorAll('.pages button')].find(b => b.textContent === 'Next page').click()")
    assert browser.evaluate(names) == [f"label {column:02}" for column in range(25, 50)]
    browser.evaluate(
        "(() => { const field = document.querySelector('input.filter'); field.value = 'LABEL 5';"
        " field.dispatchEvent(new Event('input')) })()"
    )
    assert browser.evaluate(names) == [f"label {column:02}" for column in range(50, 60)]


def test_without_scripts_all_labels_and_numbers_are_there(tmp_path: Path) -> None:
    with BROWSER.Browser(BROWSER.find_browser()) as browser:
        browser.forbid_scripts()
        open_report(browser, build_report(tuple(f"label {column}" for column in range(60))), tmp_path)
        assert browser.evaluate("document.querySelectorAll('#labels-1 tbody tr').length") == 60
        assert browser.evaluate("document.querySelectorAll('button.pick, svg').length") == 0
        assert browser.evaluate("document.querySelector('.label').checkVisibility()") is False


def test_maps_of_hostile_names_stand_below_their_images(browser: Any, tmp_path: Path) -> None:
    report = build_report(HOSTILE)
    picture_HWC, map_HW = np.full((30, 60, 3), 90, np.uint8), np.eye(8, dtype=np.float32)
    mistakes = list_worst_mistakes(report)
    maps = tuple(MistakeMap(m.image, m.label, picture_HWC, map_HW, (0.5, 0.5), (ATTACK,)) for m in mistakes)
    found = {report.name: MistakeMaps(maps, ATTACK, left_out=ATTACK)}
    sources = {shown.image: picture_HWC for shown in report.details.worst.images}
    save_html([report], tmp_path / "report.html", title=ATTACK, sources=sources, mistake_maps=found)
    browser.problems.clear()
    browser.open(tmp_path / "report.html")
    assert browser.evaluate("document.title") == ATTACK
    assert browser.problems == []
    alts = browser.evaluate("[...document.querySelectorAll('[data-show=worst] img + img')].map(image => image.alt)")
    assert len(alts) == len(mistakes)
    assert all(alt.startswith("What speaks for ") for alt in alts)
    sizes = browser.evaluate(
        "[...document.querySelectorAll('[data-show=worst] img')].map(image => image.complete && image.naturalWidth)"
    )
    assert set(sizes) == {60}
    assert browser.evaluate("document.querySelector('.scale').checkVisibility()") is True
    assert browser.evaluate("document.querySelectorAll('[data-show=worst] .doubt').length") == len(mistakes)
    width = browser.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1]


@pytest.mark.skipif(not AXE, reason="MANYLABEL_AXE does not name an axe.min.js")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("num_labels", [25, 300])
def test_axe_finds_nothing_to_complain_of(browser: Any, tmp_path: Path, scheme: str, num_labels: int) -> None:
    browser.prefer(scheme)
    open_report(browser, build_report(tuple(f"label {column}" for column in range(num_labels))), tmp_path)
    browser.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    browser.evaluate(Path(AXE).read_text("utf-8") + ";0")
    violations = "axe.run().then(found => found.violations.map(each => each.id + each.nodes[0].html.slice(0, 99)))"
    assert browser.evaluate(violations) == []
