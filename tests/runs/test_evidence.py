"""Evidence for a report: maps of the worst mistakes, as many as there is time for, and a sentence on the others."""

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
from manylabel.inference.explain import count_parts
from manylabel.inference.predictor import Predictor, collect_predictions, load
from manylabel.labels.targets import Targets
from manylabel.runs.evaluate import evaluate, judge
from manylabel.runs.evidence import find_evidence


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
    evidence = find_evidence(predictor, report, table, lambda event, facts: told.append((event, facts)))
    assert [each.label for each in evidence.maps] == ["red"]
    (found,) = evidence.maps
    assert found.image == "2.png"  # the reddest
    assert found.picture_HWC.shape == (64, 128, 3)  # in its own shape
    assert found.peak[0] == pytest.approx(9 / 40, abs=0.1)
    assert any("lies outside the regions that are marked as 'red'" in doubt for doubt in found.doubts)
    assert evidence.left_out == ""
    assert "a place is hidden" in evidence.unit
    assert told[0] == ("stage", {"name": "Explaining mistakes", "total": count_parts()})
    assert len(told) == 1 + count_parts()


def test_no_mistake_needs_no_map(predictor: Predictor, tmp_path: Path) -> None:
    table = write_images(tmp_path)
    right = Annotations(table.records, Targets.from_dense(np.ones((3, 3), bool)), table.label_space, "right")
    evidence = find_evidence(predictor, report_on(predictor, right), right)
    assert (evidence.maps, evidence.left_out) == ((), "")


def test_images_that_are_gone_are_said(predictor: Predictor, tmp_path: Path) -> None:
    table = write_images(tmp_path)
    report = report_on(predictor, table)
    for path in tmp_path.glob("*.png"):
        path.unlink()
    evidence = find_evidence(predictor, report, table)
    assert evidence.maps == ()
    assert evidence.left_out == "There are no maps of what speaks for a label: the image files were not at hand."


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
    evidence = find_evidence(predictor, report_on(predictor, table), table, clock=tick(seconds))
    assert (len(evidence.maps), evidence.left_out) == (num_maps, left_out)


def test_the_page_of_an_evaluation_has_the_maps(predictor: Predictor, tmp_path: Path) -> None:
    table = write_images(tmp_path)
    evaluate(predictor, table, out=tmp_path / "judged")
    page = (tmp_path / "judged" / "report.html").read_text("utf-8")
    assert "What speaks for red: most at " in page
    assert "Doubtful maps" in page
