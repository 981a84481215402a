"""The queue of cells that look wrong."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from manylabel.errors import ConfigError, DataError
from manylabel.evaluation.mistakes import find_mistakes, save_queue
from manylabel.labels.predictions import Predictions
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets
from manylabel.metrics import resampling

SPACE = LabelSpace(("dog", "sun"))
PROBS = np.array([[0.9, 0.30], [0.8, 0.28], [0.1, 0.02], [0.2, 0.01], [0.05, 0.29], [0.97, 0.03]])
GIVEN = np.array([[1, 1], [1, 1], [0, 0], [0, 0], [1, 0], [0, 0]])


def build(probs_NL: object = PROBS, truth_NL: object = GIVEN) -> Predictions:
    targets = Targets.from_dense(np.asarray(truth_NL, np.float64))
    images = tuple(f"{row}.jpg" for row in range(len(targets)))
    return Predictions(images, SPACE, np.asarray(probs_NL), targets)


def test_a_label_is_judged_by_what_its_own_images_reach() -> None:
    found = find_mistakes(build())
    # 0.29 would be nothing for dog; for sun it is what its images have, and nobody gave it to image 4.
    assert [(each.image, each.label, each.given, each.suggestion) for each in found] == [
        ("5.jpg", "dog", "absent", "present"),
        ("4.jpg", "dog", "present", "absent"),
        ("4.jpg", "sun", "absent", "present"),
    ]
    assert found[0].probability == pytest.approx(0.97)
    assert len(find_mistakes(build(), max_mistakes=1)) == 1


def test_many_labels_are_ranked_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    truth_NL = generator.random((50, 30)) < 0.3
    probs_NL = np.round(np.clip(0.4 * truth_NL + generator.random((50, 30)) * 0.6, 0, 1), 1)  # many ties
    space = LabelSpace(tuple(f"label {column}" for column in range(30)))
    images = tuple(f"{row}.jpg" for row in range(50))
    table = Predictions(images, space, probs_NL, Targets.from_dense(truth_NL))
    whole, first = find_mistakes(table), find_mistakes(table, 7)
    monkeypatch.setattr(resampling, "CELLS_AT_ONCE", 200)  # four labels
    assert find_mistakes(table) == whole
    assert find_mistakes(table, 7) == first == whole[:7]


def test_planted_mistakes_stand_first() -> None:
    generator = np.random.default_rng(0)
    truth_NL = generator.random((500, 2)) < 0.3
    probs_NL = 1 / (1 + np.exp(-(5 * truth_NL + generator.normal(size=truth_NL.shape) - 2.5)))
    planted = {(int(row), int(row) % 2) for row in generator.choice(500, 20, replace=False)}
    spoilt_NL = truth_NL.copy()
    for cell in planted:
        spoilt_NL[cell] ^= True
    first = find_mistakes(build(probs_NL, spoilt_NL), 24)
    found = {(int(each.image.removesuffix(".jpg")), SPACE.index(each.label)) for each in first}
    assert len(found & planted) >= 18


def test_permuting_images_changes_nothing_and_unknown_cells_stand_in_no_queue() -> None:
    plain, turned = find_mistakes(build()), find_mistakes(build().select(build().images[::-1]))
    assert turned == plain
    unknown = GIVEN.astype(np.float64)
    unknown[5, 0] = np.nan
    assert "5.jpg" not in {each.image for each in find_mistakes(build(truth_NL=unknown))}


@pytest.mark.parametrize(
    "truth", [np.zeros((6, 2)), np.ones((6, 2)), np.full((6, 2), np.nan)], ids=["nowhere", "everywhere", "unknown"]
)
def test_a_label_without_two_states_has_no_queue(truth: object) -> None:
    assert find_mistakes(build(truth_NL=truth)) == []


def test_the_queue_is_a_table_that_a_person_can_shorten(tmp_path: Path) -> None:
    save_queue(find_mistakes(build()), tmp_path / "queue.csv")
    rows = list(csv.DictReader((tmp_path / "queue.csv").read_text("utf-8").splitlines()))
    assert rows[0] == {
        "image": "5.jpg", "label": "dog", "given": "absent", "probability": "0.9700", "suggestion": "present",
        "rank": "1",
    }  # fmt: skip


def test_answers_without_truth_and_an_empty_queue_are_refused() -> None:
    with pytest.raises(DataError, match="predictions: they have no truth to question"):
        find_mistakes(Predictions(("a",), SPACE, np.array([[0.5, 0.5]])))
    with pytest.raises(ConfigError, match=r"--max: too few, got 0"):
        find_mistakes(build(), 0)
