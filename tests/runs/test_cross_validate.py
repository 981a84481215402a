"""Cross-validation: every image once, by a model that never saw it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.runs.conftest import SETTINGS, build_table

from manylabel.errors import ConfigError, RunError
from manylabel.labels.predictions import load_predictions
from manylabel.runs import cross_validate as module
from manylabel.runs.cross_validate import CrossValidation, cross_validate
from manylabel.training.config import TrainConfig
from manylabel.training.history import load_history

TABLE = build_table(24)


def start(num_folds: int = 3, out: Path | None = None, tell: Any = None, **settings: Any) -> CrossValidation:
    config = TrainConfig(**{**SETTINGS, "epochs": 1, **settings})
    return cross_validate(TABLE, config, num_folds=num_folds, out=out, on_event=tell)


def test_every_image_is_answered_once_in_the_order_of_the_table(tmp_path: Path) -> None:
    found = start(out=tmp_path / "cv")
    assert found.predictions.images == TABLE.images
    assert found.predictions.targets == TABLE.targets
    assert len(found.folds) == 3
    saved = load_predictions(tmp_path / "cv" / "predictions" / "folds.parquet")
    assert saved.images == TABLE.images
    assert np.array_equal(saved.probs_NL, found.predictions.probs_NL)
    rows = load_history(tmp_path / "cv" / "folds.jsonl")
    assert [row["fold"] for row in rows] == [0, 1, 2]
    assert rows[1]["f1_macro"] == found.folds[1]["f1_macro"]


def test_no_model_saw_what_it_answers_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    build: Callable[..., Any] = module.build_setup

    def note(config: Any, network: Any, train: Any, val: Any, *rest: Any, **more: Any) -> Any:
        assert not set(train.images) & set(val.images)
        assert set(train.images) | set(val.images) == set(TABLE.images)
        seen.extend(val.images)
        return build(config, network, train, val, *rest, **more)

    monkeypatch.setattr(module, "build_setup", note)
    start()
    assert sorted(seen) == sorted(TABLE.images)


def test_features_of_a_frozen_backbone_are_computed_once_for_all_folds() -> None:
    computed: list[int] = []

    def note(event: str, facts: Mapping[str, Any]) -> None:
        if event == "stage" and facts["name"].startswith("Features"):
            computed.append(facts["total"])

    start(freeze="backbone", tell=note)
    assert sum(computed) == len(TABLE)


def test_the_same_seed_gives_the_same_answers_and_another_one_other_folds() -> None:
    first, again, other = (start(freeze="backbone", seed=seed).predictions.probs_NL for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_mean_and_deviation_are_those_of_the_folds_that_define_a_metric() -> None:
    nan = float("nan")
    folds = ({"a": 0.2, "b": nan}, {"a": 0.4, "b": nan}, {"a": nan, "b": nan})
    summary = CrossValidation(start(freeze="backbone").predictions, folds).summarise()
    assert summary["a"]["mean"] == pytest.approx(0.3)
    assert summary["a"]["deviation"] == pytest.approx(0.2 / 2**0.5)
    assert (summary["a"]["low"], summary["a"]["high"]) == (0.2, 0.4)
    assert all(np.isnan(value) for value in summary["b"].values())


def test_too_many_folds_and_a_folder_in_use_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--folds: 24 images do not make 25 folds\. Lower --folds\.$"):
        start(num_folds=25)
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(RunError, match="the folder is not empty"):
        start(out=tmp_path)
