"""Runs, evaluations and foreign tables, compared as folders and files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from manylabel.errors import DataError
from manylabel.labels.predictions import Predictions
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets
from manylabel.runs.compare import compare

SPACE = LabelSpace(("dog", "sun"))
IMAGES = tuple(f"{row}.jpg" for row in range(40))
TRUTH = np.random.default_rng(0).random((40, 2)) < 0.4


def write_evaluation(
    folder: Path, shift: float, part: str = "test", thresholds: tuple[float, float] = (0.5, 0.5)
) -> Path:
    """What `evaluate --out` leaves, as far as a comparison reads it."""
    noise_NL = np.random.default_rng(1).random(TRUTH.shape)
    probs_NL = np.clip(0.6 * noise_NL + shift * TRUTH, 0, 1)
    Predictions(IMAGES, SPACE, probs_NL, Targets.from_dense(TRUTH)).save(folder / "predictions" / f"{part}.parquet")
    labels = [{"label": name, "threshold": cut} for name, cut in zip(SPACE, thresholds, strict=True)]
    figures = {part: {"metrics": {}, "labels": labels, "policy": {"chosen_on": ""}}}
    (folder / "metrics.json").write_text(json.dumps(figures))
    return folder


def test_two_evaluations_are_compared_with_their_own_thresholds(tmp_path: Path) -> None:
    first = write_evaluation(tmp_path / "a", 0.1, thresholds=(0.4, 0.3))
    found = compare(first, write_evaluation(tmp_path / "b", 0.4), num_resamples=50)
    assert (found.first, found.second) == ("a", "b")
    assert found.headline.difference > 0
    half = compare(first / "predictions" / "test.parquet", tmp_path / "b", num_resamples=50)
    assert half.metrics["f1_micro"].first != found.metrics["f1_micro"].first
    assert half.headline == found.headline


def test_a_table_of_another_program_is_matched_by_name(tmp_path: Path) -> None:
    rows = [f"{image},{0.1 + 0.8 * sun},{0.2 + 0.7 * dog}" for image, (dog, sun) in zip(IMAGES, TRUTH, strict=True)]
    (tmp_path / "theirs.csv").write_text("\n".join(["image,sun,dog", *rows[::-1]]) + "\n")
    found = compare(write_evaluation(tmp_path / "a", 0.1), tmp_path / "theirs.csv", num_resamples=50)
    assert found.second == "theirs.csv"
    assert found.metrics["f1_micro"].second == 1.0


def test_the_only_part_is_taken_and_another_one_has_to_be_there(tmp_path: Path) -> None:
    first, second = (write_evaluation(tmp_path / name, 0.2, part="val") for name in "ab")
    assert compare(first, second, num_resamples=10).num_images == 40
    with pytest.raises(DataError, match=r"no predictions of a part 'vall' \(did you mean 'val'\?\), expected one"):
        compare(first, second, part="vall")
    with pytest.raises(DataError, match=r"expected predictions/test\.parquet"):
        compare(tmp_path, second)


def test_the_table_of_a_run_says_what_it_saw_and_what_belongs_together(tmp_path: Path) -> None:
    first, second = write_evaluation(tmp_path / "a", 0.1), write_evaluation(tmp_path / "b", 0.4)
    plain = compare(first, second, num_resamples=50)
    rows = [f"{image},dog,{row // 10},{'train' if row < 3 else 'test'}" for row, image in enumerate(IMAGES)]
    (second / "data.csv").write_text("\n".join(["image,labels,group,part", *rows]) + "\n")
    found = compare(first, second, num_resamples=50)
    assert found.warnings == ["b was trained or tuned on 3 of these 40 images: it looks better here than it is."]
    assert found.headline.difference == plain.headline.difference
    assert found.headline.low != plain.headline.low
