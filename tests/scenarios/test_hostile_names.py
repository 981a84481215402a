"""Forty names that want to be markup, script or template, on every page there is: each is shown and runs nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.inference.conftest import write_bundle
from tests.scenarios.browser import PROGRAM, Page, open_browser
from tests.scenarios.serving import serve

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.findings import Finding
from manylabel.data.formats.detect import Layout
from manylabel.decisions.policy import DecisionPolicy
from manylabel.evaluation.compare import Contender, compare_predictions
from manylabel.evaluation.evaluate import evaluate_predictions
from manylabel.evaluation.report.comparison import save_comparison
from manylabel.evaluation.report.html import save_html
from manylabel.labels.predictions import Predictions
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets
from manylabel.runs.inspection import save_inspection

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.skipif(PROGRAM is None or os.name == "nt", reason="no Chromium on this machine"),
]

PAYLOADS = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<img src=x onerror=alert(4)>",
    '"><img src=x onerror=alert(5)>',
    "'><img src=x onerror=alert(6)>",
    "<svg onload=alert(7)>",
    "<svg><script>alert(8)</script></svg>",
    "<svg><animate onbegin=alert(9) attributeName=x dur=1s>",
    "<math><mtext><style><img src=x onerror=alert(10)></style></mtext></math>",
    "<iframe src=javascript:alert(11)></iframe>",
    "<iframe srcdoc='<script>alert(12)</script>'></iframe>",
    "<object data=javascript:alert(13)></object>",
    "<embed src=javascript:alert(14)>",
    "<a href=javascript:alert(15)>x</a>",
    "javascript:alert(16)",
    "data:text/html,<script>alert(17)</script>",
    "<body onload=alert(18)>",
    "<details open ontoggle=alert(19)>x</details>",
    "<input autofocus onfocus=alert(20)>",
    '" autofocus onfocus="alert(21)',
    "' onmouseover='alert(22)",
    "x onclick=alert(23) y",
    "`onerror=alert(24)`",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content=0;url=//evil.example>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "</style><style>*{display:none}</style>",
    "<style>@import url(//evil.example/x.css);</style>",
    "</title><title>taken</title>",
    "<!-- --><!--",
    "]]><x>",
    "{{7*7}}",
    "{% for x in y %}",
    "${7*7}#{7*7}<%= 7*7 %>",
    "constructor.constructor('alert(36)')()",
    "__proto__",
    "&lt;script&gt;alert(38)&lt;/script&gt;",
    "a\u202egnp.exe",
    "x" * 10_000,
)

BUILT = "iframe,object,embed,base,body svg script,main img[src=x],details[ontoggle]"
HARM = f"""[document.querySelectorAll("{BUILT}").length, getComputedStyle(document.body).display === "none",
    document.title === "taken", location.href]"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


def check(page: Page, url: str) -> None:
    """Nothing ran, nothing was loaded, nothing was refused by the policy, and the page is still the page."""
    assert page.complaints == []
    assert page.run(HARM) == [0, False, False, url]


def predict(noise: int) -> Predictions:
    generator = np.random.default_rng(noise)
    truth_NL = np.random.default_rng(0).random((60, len(PAYLOADS))) < 0.4
    probs_NL = np.clip(0.2 + 0.4 * truth_NL + generator.normal(0, 0.2, truth_NL.shape), 0, 1).astype(np.float32)
    images = tuple(f"{row} {PAYLOADS[row % 39]}.jpg" for row in range(60))
    return Predictions(images, LabelSpace(PAYLOADS), probs_NL, Targets.from_dense(truth_NL), "m", "d")


def test_there_are_forty() -> None:
    assert len(set(PAYLOADS)) == 40


def test_the_report_shows_them(page: Page, tmp_path: Path) -> None:
    predictions = predict(1)
    policy = DecisionPolicy(predictions.label_space, (0.4,) * len(PAYLOADS))
    report = evaluate_predictions(predictions, policy, num_resamples=5, skipped={PAYLOADS[3]: PAYLOADS[0]})
    path = tmp_path / "report.html"
    save_html([report], path, title=PAYLOADS[29], config={PAYLOADS[0]: PAYLOADS[1]})
    page.open(path.as_uri())
    rows: list[str] = []
    while len(rows) < len(PAYLOADS):
        shown = page.run("[...document.querySelectorAll('#labels-1 tbody tr')].map((row) => row.cells[0].textContent)")
        for place in range(len(shown)):
            page.run(f"document.querySelectorAll('button.pick')[{place}].click()")
        rows += shown
        page.run("[...document.querySelectorAll('.pages button')].find((b) => b.textContent === 'Next page').click()")
    assert sorted(rows) == sorted(name.replace("\u202e", "\\u202e") for name in PAYLOADS)
    check(page, path.as_uri())


def test_the_comparison_shows_them(page: Page, tmp_path: Path) -> None:
    sides = []
    for number in (1, 2):
        predictions = predict(number)
        policy = DecisionPolicy(predictions.label_space, (0.4,) * len(PAYLOADS))
        sides.append(Contender(PAYLOADS[number], predictions, policy))
    path = tmp_path / "compare.html"
    save_comparison(compare_predictions(*sides, num_resamples=5), path)
    page.open(path.as_uri())
    shown = page.run("document.body.textContent")
    assert [name for name in PAYLOADS if name.replace("\u202e", "\\u202e") not in shown] == []
    check(page, path.as_uri())


def test_the_inspection_shows_them(page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), (200, 10, 10)).save(tmp_path / "a.png")
    records = tuple(ImageRecord(f"{row} {name}", str(tmp_path / "a.png")) for row, name in enumerate(PAYLOADS))
    targets = Targets.from_dense(np.eye(len(PAYLOADS)) + np.eye(len(PAYLOADS), k=1))
    table = Annotations(records, targets, LabelSpace(PAYLOADS), PAYLOADS[3])
    findings = [Finding("note", name, name, (records[0].id,), name) for name in PAYLOADS]
    path = tmp_path / "inspection.html"
    save_inspection(path, table, Layout("one-hot", PAYLOADS), findings)
    page.open(path.as_uri())
    shown = page.run("document.body.textContent")
    assert [name for name in PAYLOADS if name.replace("\u202e", "\\u202e") not in shown] == []
    check(page, path.as_uri())


def test_the_served_page_shows_them_as_labels_and_as_names_of_files(page: Page, tmp_path: Path) -> None:
    model = write_bundle(tmp_path / "bundle", names=PAYLOADS, thresholds=(0.0,) * len(PAYLOADS))
    images = []
    for number, payload in enumerate(PAYLOADS[:39]):
        images.append(tmp_path / f"{number:02}{payload.replace('/', '')}.png")
        Image.new("RGB", (20, 12), (255, 0, 0)).save(images[-1])
    with serve(model) as served:
        page.open(served.url)
        for start in range(0, len(images), 13):
            page.choose_files("#files", images[start : start + 13])
            page.wait_for("document.getElementById('status').textContent.endsWith('answered.')")
        page.wait_for(f"document.querySelectorAll('article').length === {len(images)}")
        titles = page.run("[...document.querySelectorAll('h2')].map((title) => title.textContent)")
        assert sorted(titles) == sorted(path.name for path in images)
        shown = page.run("[...document.querySelectorAll('article .given')].map((list) => list.textContent).join('')")
        assert [name for name in PAYLOADS if name not in shown] == []
        check(page, f"{served.url}/")
