"""The page of an inspection: one file, names that stay text, pictures of what is meant."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.findings import Finding, build_finding
from manylabel.data.formats.detect import Layout
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets
from manylabel.runs.inspection import MAX_HEAT_LABELS, PICTURES_PER_FINDING, render_inspection, save_inspection

LAYOUT = Layout("one-hot", ("3 rows", "<b>bold</b>"))


@pytest.fixture
def table(tmp_path: Path) -> Annotations:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (300, 200), (200, 10, 10)).save(tmp_path / name)
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    states = np.array([[1, 0, 1], [1, -1, 0], [0, 1, 0]])
    records = tuple(ImageRecord(name, str(tmp_path / name)) for name in ("a.png", "b.png", "cut.png"))
    space = LabelSpace(("dog", "<script>alert(1)</script>", "\x1b[2J"))
    return Annotations(records, Targets.from_dense(states), space, str(tmp_path / "labels.csv"))


def read_text(html: str) -> str:
    return " ".join(re.sub(r"<(style|script)>.*?</\1>|<[^>]*>", " ", html, flags=re.DOTALL).split())


def test_the_page_loads_nothing_and_runs_no_script_but_its_own(table: Annotations) -> None:
    html = render_inspection(table, LAYOUT, [])
    (script,) = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'" in html
    addresses = re.findall(r'(?:src|href|srcset|action)="([^"]*)"', html)
    assert len(addresses) == 2  # a.png and b.png
    assert {address.split(",")[0] for address in addresses} == {"data:image/jpeg;base64"}
    assert "http" not in html.replace("http-equiv", "")


def test_names_from_outside_stay_text(table: Annotations) -> None:
    html = render_inspection(table, LAYOUT, [Finding("note", "<i>", "<img src=x>", ("a.png",), "<u>")])
    assert "<script>alert" not in html
    assert "\x1b" not in html
    for text in ("&lt;b&gt;bold", "&lt;img src=x&gt;", "&lt;script&gt;alert(1)", "\\x1b[2J", "&lt;i&gt;", "&lt;u&gt;"):
        assert text in html


def test_a_label_is_counted_in_its_three_states(table: Annotations) -> None:
    html = render_inspection(table, LAYOUT, [])
    row = re.search(r'<tr><th scope="row" class="name">dog</th>.*?</tr>', html, flags=re.DOTALL)
    assert row is not None
    assert re.findall(r'data-sort="([^"]*)"', row[0]) == ["2", "1", "0", "0.666667"]
    assert re.findall(r'class="(\w+)" style="width:([\d.]+)%"', row[0]) == [
        ("present", "66.67"),
        ("absent", "33.33"),
        ("unknown", "0.00"),
    ]


def test_pairs_are_shares_of_the_label_on_the_left(table: Annotations) -> None:
    html = render_inspection(table, LAYOUT, [])
    titles = re.findall(r'<td[^>]*title="([^"]*)">', html)
    assert titles[1] == "dog and &lt;script&gt;alert(1)&lt;/script&gt;: 0 images of 2"
    assert titles[2] == "dog and \\x1b[2J: 1 image of 2"  # worked by hand: a.png of a.png and b.png
    assert re.findall(r"<td[^>]*>(\d*|·)</td>", html.split("<h2>Labels together")[1])[1:] == [
        "·",
        "",
        "50",
        "",
        "·",
        "",
        "100",
        "",
        "·",
    ]


def test_a_finding_shows_its_images_and_says_which_have_no_picture(table: Annotations) -> None:
    finding = build_finding("image-broken", "Images that cannot be opened: cut.png.", ["cut.png", "gone.png"])
    part = render_inspection(table, LAYOUT, [finding]).split('id="findings"')[1].split("<h2>Labels")[0]
    assert 'class="badge error">error' in part
    assert part.count("<figure>") == 1
    assert "no picture" in part
    assert "Copy the files again, or remove the rows." in part


def test_a_warning_about_labels_shows_images_that_have_them(table: Annotations) -> None:
    part = render_inspection(table, LAYOUT, [build_finding("rare-label", "dog is rare.", ["dog"])])
    part = part.split('id="findings"')[1].split("<h2>Labels")[0]
    assert re.findall(r'title="([^"]*)"', part) == ["a.png", "b.png"]
    noted = render_inspection(table, LAYOUT, [build_finding("unknown-cells", "Some.", ["dog"])])
    assert "<figure>" not in noted.split('id="findings"')[1].split("<h2>Labels")[0]


def test_many_images_and_labels_are_cut_and_the_rest_counted() -> None:
    names = tuple(f"label {place:02d}" for place in range(MAX_HEAT_LABELS + 3))
    pixels = np.zeros((4, 4), np.uint8)
    records = tuple(ImageRecord(f"{row}", pixels=pixels) for row in range(PICTURES_PER_FINDING + 5))
    columns = [list(range(len(names))) for _ in records]
    table = Annotations(records, Targets.from_columns(columns, len(names)), LabelSpace(names))
    finding = build_finding("image-tiny", "Tiny.", table.images)
    text = read_text(render_inspection(table, LAYOUT, [finding]))
    assert "and 5 more" in text
    assert "The 20 most frequent labels; 3 more are not shown." in text


def test_the_file_is_the_page(tmp_path: Path, table: Annotations) -> None:
    save_inspection(tmp_path / "out" / "page.html", table, LAYOUT, [])
    text = read_text((tmp_path / "out" / "page.html").read_text(encoding="utf-8"))
    assert "3 images with 3 labels, 1.33 labels per image." in text
    assert "labels.csv Inspected" in text
    assert str(tmp_path) not in text
    assert "Nothing to complain about." in text
