"""How long the report of 10,000 images and 1,000 labels takes to write, how large it is, how soon a browser shows it.

With `--axe axe.min.js` (npm's axe-core) the page is also checked for accessibility, in light and in dark.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from browser import Browser, find_browser
from PIL import Image
from process import report

from manylabel.decisions import GOALS
from manylabel.decisions.policy import DecisionPolicy
from manylabel.evaluation.details import collect_details
from manylabel.evaluation.evaluate import MAX_SUSPECTS, Report, evaluate_predictions
from manylabel.evaluation.mistakes import find_mistakes
from manylabel.evaluation.report.html import save_html
from manylabel.labels.predictions import Predictions
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets

_FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"
_LOADED = "(performance.timing.loadEventEnd - performance.timing.navigationStart) / 1000"
_OPEN_ALL = "document.querySelectorAll('details').forEach(fold => fold.open = true)"
_AXE = "axe.run().then(found => found.violations.map(each => `${each.id}: ${each.nodes[0].html.slice(0, 200)}`))"


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Build predictions, write their report and open it."""
    with tempfile.TemporaryDirectory() as folder:
        page, image = Path(folder) / "report.html", Path(folder) / "image.jpg"
        draw_image().save(image)
        predictions, policy = build_predictions(given.num_images, given.num_labels)
        # One resample: what intervals cost is another question.
        judged = evaluate_predictions(predictions, policy, num_resamples=1)
        seconds = measure_details(predictions, policy) + measure_writing(judged, page, image)
        figures = {"seconds": round(seconds, 2), "megabytes": round(page.stat().st_size / 1e6, 2)}
        figures |= measure_in_browser(page, given.axe)
    return {
        "num_images": given.num_images,
        "num_labels": given.num_labels,
        **figures,
        "bars": {"seconds": 30, "megabytes": 15, "first_paint_seconds": 2}
        | ({"axe_violations": 0} if given.axe is not None else {}),
    }


def build_predictions(num_images: int, num_labels: int) -> tuple[Predictions, DecisionPolicy]:
    """Return answers of a middling model on labels from frequent to very rare, which come in topics."""
    generator = np.random.default_rng(0)
    prevalence_L = np.geomspace(0.2, 0.0006, num_labels)
    is_same_NL = generator.integers(0, 40, num_images)[:, np.newaxis] == generator.integers(0, 40, num_labels)
    likely_NL = np.clip(prevalence_L * np.where(is_same_NL, 6, 0.6), 0, 0.9)
    truth_NL = generator.random((num_images, num_labels)) < likely_NL
    skill_L = 3 * generator.beta(3, 2, num_labels)
    logits_NL = generator.normal(0, 1, truth_NL.shape) + truth_NL * skill_L + np.log(likely_NL / (1 - likely_NL))
    probs_NL = (1 / (1 + np.exp(-logits_NL))).astype(np.float32)
    space = LabelSpace(tuple(f"label {column:04}" for column in range(num_labels)))
    half = num_images // 2
    thresholds = GOALS["f1"].choose(probs_NL[:half], truth_NL[:half], np.ones_like(truth_NL[:half]))
    images = tuple(f"images/{row:05}.jpg" for row in range(num_images))
    predictions = Predictions(images, space, probs_NL, Targets.from_dense(truth_NL), "model", "data")
    return predictions, DecisionPolicy(space, tuple(thresholds.thresholds_L.tolist()), "f1", (), "other data")


def measure_details(predictions: Predictions, policy: DecisionPolicy) -> float:
    """Return the seconds of what the page shows beside the numbers."""
    targets = predictions.targets
    assert targets is not None
    probs_NL, truth_NL, known_NL = predictions.probs_NL, targets.present_NL(), targets.known_NL()
    started = time.perf_counter()
    collect_details(predictions.images, probs_NL, policy.decide(probs_NL), policy.thresholds_L, truth_NL, known_NL)
    find_mistakes(predictions, MAX_SUSPECTS)
    return time.perf_counter() - started


def measure_writing(judged: Report, page: Path, image: Path) -> float:
    """Return the seconds of writing the page, with thumbnails of files."""
    sources = {shown.image: image for shown in (*judged.details.worst.images, *judged.suspects)}
    started = time.perf_counter()
    save_html([judged], page, title="A thousand labels", sources=sources)
    return time.perf_counter() - started


def measure_in_browser(page: Path, axe: Path | None) -> dict[str, Any]:
    """Return when the page is first seen and when it is drawn to the end, and what axe complains of."""
    program = find_browser()
    if program is None:
        raise SystemExit("there is no Chromium to open the page in")
    figures: dict[str, Any] = {}
    violations = []
    for scheme in ("light", "dark"):
        with Browser(program) as browser:
            browser.prefer(scheme)
            browser.open(page)
            figures.setdefault("first_paint_seconds", round(browser.evaluate(_FIRST_PAINT), 2))
            figures.setdefault("loaded_seconds", round(browser.evaluate(_LOADED), 2))
            if browser.problems:
                raise SystemExit(f"the page complains: {browser.problems}")
            if axe is not None:
                browser.evaluate(_OPEN_ALL)
                browser.evaluate(axe.read_text("utf-8") + ";0")
                violations += browser.evaluate(_AXE)
    if axe is not None:
        figures |= {"axe_violations": len(violations), "axe_says": violations[:5]}
    return figures


def draw_image() -> Image.Image:
    """Return a picture about as hard to compress as a photograph."""
    generator = np.random.default_rng(1)
    coarse = Image.fromarray(generator.integers(0, 255, (24, 32, 3), np.uint8))
    return coarse.resize((640, 480), Image.Resampling.BICUBIC)


if __name__ == "__main__":
    report(
        "report",
        run,
        ("--num-images", {"type": int, "default": 10_000}),
        ("--num-labels", {"type": int, "default": 1000}),
        ("--axe", {"type": Path, "help": "axe.min.js of axe-core"}),
    )
