"""Mistake maps of a report: maps of the worst mistakes, as many as there is time for, and a sentence on the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.inference.conftest import write_bundle

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.regions import Region
from manylabel.evaluation.evaluate import Report
from manylabel.evaluation.report.html import render_html
from manylabel.inference.explain import count_parts
from manylabel.inference.predictor import Predictor, collect_predictions, load
from manylabel.labels.targets import Targets
from manylabel.runs.evaluate import evaluate, judge
from manylabel.runs.mistake_maps import explain_mistakes


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A model of colours that wants little of them."""
    folder = write_bundle(tmp_path_factory.mktemp("model") / "sharp", thresholds=(0.2, 0.2, 0.2), std=0.04)
    return load(folder, num_threads=1)


def write_images(folder: Path, num_images: int = 3) -> Annotations:
    """Images, 40 wide and 20 high, with red on the left, which the table calls green."""
    records, truth = [], []
    for number in range(num_images):
        pixels = np.full((20, 40, 3), 126, np.uint8)
        pixels[4:16, 2:16] = (200 + number, 126, 126)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        region = Region("red", box_px=(24.0, 2.0, 12.0, 12.0))
        records.append(ImageRecord(f"{number}.png", str(folder / f"{number}.png"), regions=(region,)))
        truth.append([0, 1, 1])
    space = load_space()
    return Annotations(tuple(records), Targets.from_dense(np.array(truth, bool)), space, "table")


def load_space() -> Any:
    from manylabel.labels.space import LabelSpace

    return LabelSpace(("red", "green", "blue"))


def report_on(predictor: Predictor, table: Annotations) -> Report:
    predictions, skipped = collect_predictions(predictor, table)
    return judge(predictions, predictor.policy, {}, "test", skipped)


def test_the_wrong_label_is_explained_beside_those_that_are_there(predictor: Predictor, tmp_path: Path) -> None:
    table = write_images(tmp_path)
    report = report_on(predictor, table)
    told: list[tuple[str, Mapping[str, Any]]] = []
    found = explain_mistakes(predictor, report, table, lambda event, facts: told.append((event, facts)))
    assert [each.label for each in found.maps] == ["red"]
    (red,) = found.maps
    assert red.image == "2.png"  # the reddest
    assert red.picture_HWC.shape == (64, 128, 3)  # in its own shape
    assert red.peak[0] == pytest.approx(9 / 40, abs=0.1)
    assert any("lies outside the regions that are marked as 'red'" in doubt for doubt in red.doubts)
    assert found.left_out == ""
    assert "a place is hidden" in found.unit
    assert told[0] == ("stage", {"name": "Explaining mistakes", "total": count_parts()})
    assert len(told) == 1 + count_parts()


def test_an_image_that_is_the_worst_of_several_labels_is_explained_once(predictor: Predictor, tmp_path: Path) -> None:
    records = []
    for number in range(2):
        pixels = np.full((20, 40, 3), 126, np.uint8)
        pixels[4:16, 2:16, 0], pixels[4:16, 24:38, 1] = 200 + number, 180 + number
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        records.append(ImageRecord(f"{number}.png", str(tmp_path / f"{number}.png")))
    truth = Targets.from_dense(np.array([[0, 0, 1]] * 2, bool))
    table = Annotations(tuple(records), truth, load_space(), "table")
    report = report_on(predictor, table)
    worst = report.details.worst
    assert [worst.images[worst.wrongly_given[column][0].place].image for column in (0, 1)] == ["1.png", "1.png"]
    told: list[str] = []
    found = explain_mistakes(predictor, report, table, lambda event, _: told.append(event))
    assert [(each.image, each.label) for each in found.maps] == [("1.png", "red")]
    assert told.count("progress") == count_parts()  # nothing is explained that is not shown
    page = render_html([report], title="t", mistake_maps={report.name: found})
    assert "What speaks for red: most at " in page
    assert "What speaks for green" not in page


def test_no_mistake_needs_no_map(predictor: Predictor, tmp_path: Path) -> None:
    table = write_images(tmp_path)
    right = Annotations(table.records, Targets.from_dense(np.ones((3, 3), bool)), table.label_space, "right")
    found = explain_mistakes(predictor, report_on(predictor, right), right)
    assert (found.maps, found.left_out) == ((), "")


def test_images_that_are_gone_are_said(predictor: Predictor, tmp_path: Path) -> None:
    table = write_images(tmp_path)
    report = report_on(predictor, table)
    for path in tmp_path.glob("*.png"):
        path.unlink()
    found = explain_mistakes(predictor, report, table)
    assert found.maps == ()
    assert found.left_out == "There are no maps of what speaks for a label: the image files were not at hand."


def tick(seconds: float) -> Callable[[], float]:
    """A clock on which so many seconds pass between two looks."""
    times: Iterator[float] = (seconds * number for number in count())
    return lambda: next(times)


@pytest.mark.parametrize(
    ("seconds", "num_maps", "left_out"),
    [
        pytest.param(0.01, 1, "", id="there is time"),
        pytest.param(
            1.0,
            0,
            "1 of the 1 mistakes that maps were meant for have none: one map takes 82.0 s, and all together may take "
            "20 s. 'manylabel explain' draws them.",
            id="one answer takes a second",
        ),
    ],
)
def test_maps_take_no_longer_than_they_may(
    predictor: Predictor, tmp_path: Path, seconds: float, num_maps: int, left_out: str
) -> None:
    table = write_images(tmp_path)
    found = explain_mistakes(predictor, report_on(predictor, table), table, clock=tick(seconds))
    assert (len(found.maps), found.left_out) == (num_maps, left_out)


def test_the_page_of_an_evaluation_has_the_maps(predictor: Predictor, tmp_path: Path) -> None:
    table = write_images(tmp_path)
    evaluate(predictor, table, out=tmp_path / "judged")
    page = (tmp_path / "judged" / "report.html").read_text("utf-8")
    assert "What speaks for red: most at " in page
    assert "Doubtful maps" in page
