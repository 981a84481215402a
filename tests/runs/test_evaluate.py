"""Evaluate: what it writes stands in a folder of its own, and two that want the same one do not mix."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.inference.conftest import write_bundle

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.errors import DataError, RunError
from manylabel.inference.predictor import Predictor, load
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets
from manylabel.runs.evaluate import evaluate


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return load(write_bundle(tmp_path_factory.mktemp("model") / "bundle"), num_threads=1)


@pytest.fixture
def table(tmp_path: Path) -> Annotations:
    """Two images in the folder `photos`, one red and one black."""
    (tmp_path / "photos").mkdir()
    paths = [tmp_path / "photos" / name for name in ("a.png", "b.png")]
    for path, red in zip(paths, (250, 0), strict=True):
        Image.new("RGB", (20, 20), (red, 0, 0)).save(path)
    records = tuple(ImageRecord(path.name, str(path)) for path in paths)
    truth = np.array([[True, False, False], [False, False, False]])
    return Annotations(records, Targets.from_dense(truth), LabelSpace(("red", "green", "blue")), "table")


def at_the_first_image(act: Callable[[], None]) -> Callable[[str, Mapping[str, Any]], None]:
    """Return a listener that acts once, while the evaluation is under way."""
    told: list[str] = []

    def listen(event: str, facts: Mapping[str, Any]) -> None:  # noqa: ARG001 - the signature of a listener
        if event == "progress" and not told:
            told.append(event)
            act()

    return listen


@pytest.mark.parametrize("below", ["photos", "."])
def test_nothing_is_written_among_images_or_above_them(
    predictor: Predictor, table: Annotations, tmp_path: Path, below: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunError, match=r"the folder is not empty \(.*\)\. Choose another --out\.$"):
        evaluate(predictor, table, out=tmp_path / below)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_earlier_evaluation_is_kept(predictor: Predictor, table: Annotations, tmp_path: Path) -> None:
    (tmp_path / "judged").mkdir()
    evaluate(predictor, table, out=tmp_path / "judged")
    before = (tmp_path / "judged" / "metrics.json").read_bytes()
    assert not (tmp_path / "judged" / "run.lock").exists()
    with pytest.raises(RunError, match="the folder holds another run"):
        evaluate(predictor, table, out=tmp_path / "judged")
    assert (tmp_path / "judged" / "metrics.json").read_bytes() == before


def test_a_second_evaluation_into_a_folder_is_refused_while_the_first_is_under_way(
    predictor: Predictor, table: Annotations, tmp_path: Path
) -> None:
    refused: list[str] = []

    def start_another() -> None:
        with pytest.raises(RunError) as caught:
            evaluate(predictor, table, out=tmp_path / "judged")
        refused.append(str(caught.value))

    report = evaluate(predictor, table, out=tmp_path / "judged", on_event=at_the_first_image(start_another))
    assert f"another run works here: process {os.getpid()} on" in refused[0]
    assert report.skipped == {}
    assert (tmp_path / "judged" / "report.html").is_file()


def test_a_folder_where_an_evaluation_failed_or_was_killed_early_can_be_taken(
    predictor: Predictor, table: Annotations, tmp_path: Path
) -> None:
    gone = Annotations((ImageRecord("no.png", str(tmp_path / "no.png")),), table.select([0]).targets, table.label_space)
    with pytest.raises(DataError, match="none of its images can be used"):
        evaluate(predictor, gone, out=tmp_path / "judged")
    (tmp_path / "judged" / "run.lock").write_text("process 99999 on a machine that is gone\n")
    evaluate(predictor, table, out=tmp_path / "judged")
    assert sorted(path.name for path in (tmp_path / "judged").iterdir()) == [
        "metrics.json", "pictures", "predictions", "report.html",
    ]  # fmt: skip
