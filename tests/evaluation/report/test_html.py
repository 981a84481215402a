"""The page: everything in one file, numbers where they belong, and names that stay text."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from manylabel import __version__
from manylabel.data.findings import build_finding
from manylabel.decisions.policy import DecisionPolicy
from manylabel.errors import ConfigError
from manylabel.evaluation.evaluate import Report, evaluate_predictions
from manylabel.evaluation.mistake_maps import MAX_MAPS, MistakeMap, MistakeMaps, list_worst_mistakes
from manylabel.evaluation.report.definitions import DEFINITIONS
from manylabel.evaluation.report.html import render_html, save_html
from manylabel.labels.predictions import Predictions

VOID = {"meta", "img", "input", "source", "br"}


class Page(HTMLParser):
    """The tags, attributes and texts of a page; tags that do not close as they open are an error."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.script = ""
        self.data = ""
        self.is_data = False
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.is_data = tag == "script" and dict(attrs).get("type") == "application/json"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.data += data if self.is_data else ""
            self.script += "" if self.is_data else data
        elif not self.open or self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def find(self, wanted: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == wanted]


@pytest.fixture
def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2), "red").save(buffer, "PNG")
    return buffer.getvalue()


def test_the_page_holds_every_number_a_reader_needs(
    make_report: Callable[..., Report], history: list[dict[str, Any]]
) -> None:
    report = make_report(name="test", share_unknown=0.1, skipped={"broken.jpg": "truncated"})
    page = Page(render_html([report], title="My report", history=history, config={"command": "manylabel train x"}))
    assert page.text.count("My report") == 2  # the title and the heading
    for name, interval in report.metrics.items():
        assert name in page.text
        assert f"{interval.low:.3f} to {interval.high:.3f}" in page.text
        assert f"{report.baselines['prior'][name]:.3f}".replace("nan", "n/a") in page.text
        assert DEFINITIONS[name].meaning in page.text
    for row in report.labels:
        assert row["label"] in page.text
        assert f"{row['threshold']:.3f}" in page.text
        assert f"{row['average_precision']:.3f}" in page.text
        assert f"{row['f1_low']:.2f}–{row['f1_high']:.2f}" in page.text or np.isnan(row["f1"])
    assert "Thresholds chosen for the best F1 of each label on other images (data data-0)." in page.text
    assert all(suspect.image in page.text for suspect in report.suspects)
    assert report.suspects
    assert "Is the truth right?" in page.text
    assert "probability >= threshold" in page.text
    assert "broken.jpg truncated" in page.text
    assert "manylabel train x" in page.text
    assert "data-1" in page.text
    assert "model-1" in page.text
    assert __version__ in page.text


def test_hostile_names_stay_text_everywhere(
    make_report: Callable[..., Report], hostile_names: tuple[str, ...], png: bytes
) -> None:
    plain = Page(render_html([make_report(num_labels=len(hostile_names))], title="t"))
    attack = "<script>alert(1)</script>"
    report = make_report(
        name=attack,
        num_labels=len(hostile_names),
        names=hostile_names,
        share_unknown=0.2,
        skipped={attack: attack, '"><img src=x onerror=alert(1)>.jpg': "</td></table><script>"},
    )
    html = render_html([report], title=attack, config={"command": attack, attack: [attack]}, pictures={attack: png})
    page = Page(html)
    assert len(page.find("style")) == len(page.find("h1")) == 1
    assert [script.get("type") for script in page.find("script")] == ["application/json", None]
    assert page.script == plain.script
    assert [name.replace("\x1b", r"\x1b") for name in hostile_names] == json.loads(page.data)["parts"][0]["labels"]
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    for name in hostile_names:
        assert name.replace("\x1b", r"\x1b") in page.text
    assert page.text.count(attack) >= 8
    assert "\x1b" not in html


def test_the_page_loads_nothing_and_allows_only_its_own_script(
    make_report: Callable[..., Report], history: list[dict[str, Any]], png: bytes
) -> None:
    html = render_html([make_report()], title="t", history=history, pictures={"mine": png})
    page = Page(html)
    addresses = [
        attributes[key] or ""
        for tag, attributes in page.tags
        for key in ("src", "srcset", "href", "action", "data")
        if key in attributes and tag != "a"
    ]
    assert len(addresses) == 1  # the picture
    assert all(address.startswith("data:image/") for address in addresses)
    assert re.search(r"https?:(?!//www\.w3\.org/2000/svg)|fetch|import|XMLHttp", page.script) is None
    assert "url(" not in html
    assert "@import" not in html
    assert page.find("link") == page.find("iframe") == page.find("object") == []
    (policy,) = [meta["content"] for meta in page.find("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy


def test_flattering_numbers_are_called_so(make_report: Callable[..., Report]) -> None:
    assert "These numbers flatter" in Page(render_html([make_report(chosen_on="data-1")], title="t")).text
    assert "flatter" not in Page(render_html([make_report()], title="t")).text


def test_every_part_has_its_section_and_one_script_serves_all(make_report: Callable[..., Report]) -> None:
    page = Page(render_html([make_report(name="val"), make_report(name="test", seed=1)], title="t"))
    assert "Results on val" in page.text
    assert "Results on test" in page.text
    identifiers = [attributes["id"] or "" for _, attributes in page.tags if "id" in attributes]
    assert len(set(identifiers)) == len(identifiers)
    targets = [(link["href"] or "").removeprefix("#") for link in page.find("a")]
    assert {"part-1", "part-1-labels", "part-2", "words"} <= set(targets) <= set(identifiers)
    assert len(page.find("script")) == 2  # one holds the data
    assert len([fold for fold in page.find("details") if fold.get("class") == "more"]) == 1


def test_the_table_lists_all_labels_and_the_squares_the_first_25(make_report: Callable[..., Report]) -> None:
    page = Page(render_html([make_report(num_labels=30)], title="t"))
    assert len([row for row in page.find("tr") if "data-place" in row]) == 30
    assert len([figure for figure in page.find("figure") if figure.get("class") == "square"]) == 25
    assert "5 labels with fewer positives not shown" in page.text


def test_undefined_numbers_are_named_and_sort_last(make_report: Callable[..., Report]) -> None:
    page = Page(render_html([make_report(share_unknown=1.0)], title="t"))
    assert "n/a" in page.text
    assert re.search(r"\bnan\b", page.text, re.IGNORECASE) is None
    assert any(cell.get("data-sort") == "" for cell in page.find("td"))


def test_settings_are_shown_as_they_were_given(make_report: Callable[..., Report]) -> None:
    config = {"backbone": "resnet18", "epochs": 5, "versions": {"numpy": "2.4"}, "budget": None}
    text = Page(render_html([make_report()], title="t", config=config)).text
    assert "How to reproduce" in text
    assert 'backbone resnet18 epochs 5 versions {"numpy": "2.4"} budget null' in text
    assert "How to reproduce" not in Page(render_html([make_report()], title="t")).text


def test_pictures_are_embedded_as_they_are(make_report: Callable[..., Report], png: bytes) -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    page = Page(render_html([make_report()], title="t", pictures={"one": png, "two": svg}))
    sources = [image["src"] or "" for image in page.find("img")]
    assert [source.split(",")[0] for source in sources] == ["data:image/png;base64", "data:image/svg+xml;base64"]
    assert [base64.b64decode(source.split(",")[1]) for source in sources] == [png, svg]


def test_a_picture_of_another_kind_is_refused(make_report: Callable[..., Report]) -> None:
    with pytest.raises(ConfigError, match="picture 'mine': neither PNG nor SVG, got b'GIF89a'"):
        render_html([make_report()], title="t", pictures={"mine": b"GIF89a"})


def test_a_page_without_a_report_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"page: there is no report to show, expected one or more\."):
        render_html([], title="t")


def test_the_page_is_saved_even_with_names_that_are_not_text(
    make_report: Callable[..., Report], tmp_path: Path
) -> None:
    save_html([make_report(skipped={"\udce9.jpg": "cut"})], tmp_path / "report.html", title="t")
    assert r"\udce9.jpg" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_findings_versions_and_digests_are_there_when_they_are_known(make_report: Callable[..., Report]) -> None:
    finding = build_finding("rare-label", "Labels that fewer than 5 images have: <b>owl</b> (3).", ["owl"])
    page = Page(render_html([make_report()], title="t", findings=[finding], versions={"numpy": "2.4"}))
    assert "warning Labels that fewer than 5 images have: <b>owl</b> (3). rare-label Add images with them" in page.text
    assert "Versions numpy 2.4" in page.text
    assert "test : model model-1 data data-1" in page.text
    assert "Nothing to complain about" in Page(render_html([make_report()], title="t", findings=[])).text
    assert "What was found in the data" not in Page(render_html([make_report()], title="t")).text


def test_thumbnails_are_embedded_once_and_their_absence_is_told(make_report: Callable[..., Report]) -> None:
    report = make_report()
    pixels = np.full((20, 30, 3), 90, np.uint8)
    sources = {shown.image: pixels for shown in report.details.worst.images}
    page = Page(render_html([report], title="t", sources=sources))
    data = json.loads(page.data)
    assert len(data["thumbnails"]) == len(sources)
    assert all(address.startswith("data:image/jpeg;base64,") for address in data["thumbnails"])
    assert "not at hand" not in page.text
    assert "Pictures are left out: the image files were not at hand" in Page(render_html([report], title="t")).text


def test_what_the_charts_show_stands_in_tables_too(
    make_report: Callable[..., Report], history: list[dict[str, Any]]
) -> None:
    report = make_report()
    text = Page(render_html([report], title="t", history=history)).text
    pooled = report.details.reliability.pooled()
    assert f"{int(pooled.num_LB[0, 5]):,} {pooled.mean_LB[0, 5]:.3f} {pooled.share_LB[0, 5]:.3f}" in text
    assert f"1 {report.details.num_true_labels[1]} {report.details.num_given_labels[1]}" in text
    assert "4 0.2500 0.3000 0.7000" in text  # the fourth epoch


def test_whatever_can_be_scrolled_has_a_name_and_takes_the_focus(make_report: Callable[..., Report]) -> None:
    page = Page(render_html([make_report()], title="t", findings=[]))
    regions = [box for box in page.find("div") if "scroll" in (box.get("class") or "").split()]
    assert len(regions) >= 8
    assert all(box.get("tabindex") == "0" and box.get("role") == "region" and box.get("aria-label") for box in regions)


def explain_worst(report: Report, doubt: str = "It is <b>coarse</b>.") -> MistakeMaps:
    """A map for each of the worst mistakes, whose upper right speaks for the label."""
    map_HW = np.array([[0, 2], [0, -9]], np.float32)
    picture_HWC = np.full((10, 20, 3), 90, np.uint8)
    mistakes = list_worst_mistakes(report)
    maps = [MistakeMap(each.image, each.label, picture_HWC, map_HW, (0.75, 0.25), (doubt,)) for each in mistakes]
    return MistakeMaps(tuple(maps), "log-odds that\nare lost", left_out="Some are left out.")


@pytest.mark.parametrize("labels", [("dog", "cat"), ("cat", "dog"), ("cat",)])
def test_a_map_stands_under_its_own_label_only(
    make_predictions: Callable[..., Predictions], labels: tuple[str, ...]
) -> None:
    predictions = make_predictions([[0.9, 0.8], [0.6, 0.7]], [[0, 0], [0, 0]], ["dog", "cat"])  # 0.jpg is the worst
    policy = DecisionPolicy(predictions.label_space, (0.5, 0.5))
    report = evaluate_predictions(predictions, policy, name="test", num_resamples=20)
    picture_HWC, map_HW = np.full((10, 20, 3), 90, np.uint8), np.ones((2, 2), np.float32)
    peaks = {"dog": (0.75, 0.25), "cat": (0.1, 0.2)}
    maps = tuple(MistakeMap("0.jpg", label, picture_HWC, map_HW, peaks[label]) for label in labels)
    page = Page(render_html([report], title="t", mistake_maps={"test": MistakeMaps(maps, "log-odds")}))
    shown = [(row[0], row[4] and row[4]["text"]) for row in json.loads(page.data)["parts"][0]["overall"]]
    is_there = "dog" in labels
    assert shown == [(0, "What speaks for dog: most at 75% from the left, 25% from the top" if is_there else None)]
    assert ("most at 75% from the left" in page.text) is is_there
    assert "most at 10% from the left" not in page.text


def test_maps_stand_at_their_mistakes_with_a_scale_doubts_and_words(make_report: Callable[..., Report]) -> None:
    report, other = make_report(), make_report(name="val", seed=1)
    found = explain_worst(report)
    assert 0 < len(found.maps) <= MAX_MAPS
    page = Page(render_html([report, other], title="t", mistake_maps={"test": found}))
    data = json.loads(page.data)
    explained = [row[4] for row in data["parts"][0]["overall"] if row[4] is not None]
    assert len(explained) == len(found.maps)
    assert all(each["picture"].startswith("data:image/jpeg;base64,") for each in explained)
    assert explained[0]["text"].endswith(": most at 75% from the left, 25% from the top")
    assert all(row[4] is None for row in data["parts"][1]["overall"])
    assert "missed (log-odds that are lost)" in page.text
    assert page.text.count("most at 75% from the left, 25% from the top") == len(found.maps)
    assert page.text.count("It is <b>coarse</b>.") == len(found.maps)
    assert "Some are left out." in page.text
    without = Page(render_html([report], title="t")).text
    assert "What speaks for the label" not in without
    assert "Doubtful" not in without
