"""Other decisions for a model, from answers that were kept, from images, and from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manylabel.bundle.bundle import Bundle, load_bundle
from manylabel.bundle.manifest import Manifest
from manylabel.bundle.tuned import write_manifest
from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.preprocess import Preprocess
from manylabel.decisions.conformal import Abstention
from manylabel.decisions.policy import DecisionPolicy
from manylabel.decisions.rules import Rule
from manylabel.decisions.search import Choice, tune_policy
from manylabel.errors import DataError
from manylabel.labels.predictions import Predictions
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets
from manylabel.runs import tune as tune_module
from manylabel.runs.folder import RunFolder
from manylabel.runs.tune import describe_sources, describe_tuning, tune

SPACE = LabelSpace(("day", "dog", "night"))
POLICY = DecisionPolicy(
    SPACE,
    (0.0, 0.0, 0.0),
    "top_k,k=2",
    ("global",) * 3,
    "val",
    rules=(Rule("exclusive", ("day", "night")), Rule("at_most", count=2)),
    abstention=Abstention("margin", -0.1, 0.2),
)


def draw(num_images: int = 80, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    truth_NL = rng.random((num_images, 3)) < 0.4
    probs_NL = (1 / (1 + np.exp(-rng.normal(0, 1, truth_NL.shape) - 3 * truth_NL + 3))).astype(np.float32)
    return Predictions(tuple(f"{n}.jpg" for n in range(num_images)), SPACE, probs_NL, Targets.from_dense(truth_NL))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with a model of which nothing is asked, and its kept answers for two tables."""
    folder = tmp_path / "run" / "bundle"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"")
    preprocess = Preprocess(height_px=8, width_px=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    manifest = Manifest(SPACE, preprocess, POLICY, {"name": "b"}, {"name": "h"}, {}, {"model.onnx": empty})
    (folder / "manifest.json").write_text(write_manifest(manifest), "utf-8")
    return tmp_path / "run"


def test_what_is_not_given_stays_as_the_model_has_it(run: Path) -> None:
    policy = tune(run, draw()).tuning.policy
    assert (policy.goal, policy.rules) == (POLICY.goal, POLICY.rules)
    assert policy.abstention is not None
    assert (policy.abstention.by, policy.abstention.share) == ("margin", 0.2)


def test_another_goal_leaves_the_rules_of_the_old_one_behind_and_keeps_those_of_the_user(run: Path) -> None:
    assert tune(run, draw(), goal="f1").tuning.policy.rules == (Rule("exclusive", ("day", "night")),)
    assert tune(run, draw(), goal="f1", rules=()).tuning.policy.rules == ()


def test_nothing_is_written_unless_a_place_is_given(run: Path, tmp_path: Path) -> None:
    before = (run / "bundle" / "manifest.json").read_bytes()
    assert tune(run, draw(), goal="f1").model.digest == load_bundle(run).digest
    assert (run / "bundle" / "manifest.json").read_bytes() == before
    tuned = tune(run, draw(), goal="f1", out=tmp_path / "tuned")
    assert load_bundle(tmp_path / "tuned").manifest.policy == tuned.tuning.policy
    assert tuned.model == load_bundle(tmp_path / "tuned")


def test_labels_in_another_order_are_matched_by_name(run: Path) -> None:
    predictions = draw()
    assert predictions.targets is not None
    other = Predictions(
        predictions.images,
        LabelSpace(("night", "day", "dog")),
        predictions.probs_NL[:, [2, 0, 1]],
        predictions.targets.select_labels([2, 0, 1]),
    )
    assert tune(run, other, goal="f1").tuning.policy == tune(run, predictions, goal="f1").tuning.policy


def test_answers_about_other_labels_are_refused(run: Path) -> None:
    other = replace(draw(), label_space=LabelSpace(("day", "cat", "night")))
    with pytest.raises(DataError) as error:
        tune(run, other)
    assert str(error.value) == (
        "predictions: their labels are not those of the model: cat, dog stands on one side only. Take the answers of "
        "this model."
    )


def test_the_kept_answers_of_a_run_are_taken_for_its_own_images_only(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions = draw()
    assert predictions.targets is not None
    records = [ImageRecord(image, image) for image in predictions.images]
    table = Annotations(tuple(records), predictions.targets, SPACE)
    replace(predictions, data_digest=table.digest).save(RunFolder(run).predictions("val"))
    asked: list[int] = []

    def answer(_bundle: Bundle, aligned: Any, _tell: Any) -> Predictions:
        asked.append(len(aligned))
        return draw(len(aligned))

    monkeypatch.setattr(tune_module, "_predict", answer)
    kept = tune(run, table, goal="f1")
    assert asked == []
    np.testing.assert_array_equal(kept.predictions.probs_NL, predictions.probs_NL)
    tune(run, table.select(range(40)), goal="f1")
    assert asked == [40]


def test_answers_of_another_model_are_said(run: Path) -> None:
    told: list[Mapping[str, Any]] = []
    tune(run, replace(draw(), model_digest="abc"), on_event=lambda _, facts: told.append(facts))
    assert any("these answers are of model abc" in str(facts.get("message")) for facts in told)


def test_mined_rules_are_proposed_and_not_applied(run: Path) -> None:
    rng = np.random.default_rng(0)
    truth_NL = rng.random((400, 3)) < 0.5
    truth_NL[:, 2] = ~truth_NL[:, 0]
    predictions = replace(draw(400), targets=Targets.from_dense(truth_NL))
    tuned = tune(run, predictions, goal="f1", rules=(), mine=True)
    assert [str(one.rule) for one in tuned.mined] == ["day forbids night"]
    assert tuned.tuning.policy.rules == ()
    assert tuned.mined_tuning is not None
    assert tuned.mined_tuning.rule_figures["subset_accuracy"].is_better
    guaranteed = tune(run, predictions, goal="miss_rate,at_most=0.2", rules=(), mine=True)
    assert guaranteed.mined == ()  # a rule that takes labels away would break the guarantee


def test_the_outcome_is_said_in_words() -> None:
    text = describe_tuning(tune_policy(draw(400), Choice("f1", "auto")))
    assert text.startswith("Decisions for the goal f1. Worth it: f1_macro rises from 0.")
    assert "\nCross-fitted on 400 images; the gain is +0." in text
    assert "\nCalibration: " in text
    assert describe_tuning(tune_policy(draw(400), Choice("half"))) == (
        "Decisions for the goal half. Nothing was tuned."
    )
    assert describe_tuning(tune_policy(draw(3), Choice("f1"))).splitlines() == [
        "Decisions for the goal f1. Too few images to say what that brings.",
        "3 of 3 labels share one threshold (too few known positives, or no negative): day, dog, night.",
    ]
    promise = describe_tuning(tune_policy(draw(400), Choice("recall,at_least=0.9")))
    assert " Asked: recall_macro of at least 0.9; reached: 0." in promise


def test_labels_that_a_goal_cannot_serve_are_named() -> None:
    policy = DecisionPolicy(SPACE, (0.5, 1, 0), "precision,at_least=0.9", ("label", "never", "always"))
    assert describe_sources(policy) == (
        "1 of 3 labels are given to no image (no threshold keeps what the goal asks): dog.\n"
        "1 of 3 labels are given to every image (too few positives for what the goal asks): night."
    )
