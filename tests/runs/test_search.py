"""Search: what was tried is kept, what is proposed does not depend on interruptions, and luck is told."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.runs.conftest import SETTINGS, build_table, ignore

from manylabel.data.annotations import Annotations
from manylabel.errors import ConfigError, RunError
from manylabel.runs import search_spaces, trials
from manylabel.runs.search import Search, search
from manylabel.runs.search_spaces import SPACES, Choice, Range, choose_knobs
from manylabel.runs.study import Study, Trial
from manylabel.runs.train import check_names, train
from manylabel.training.config import TrainConfig, load_config

TRAIN, VAL = build_table(24), build_table(16, seed=1, name="val")
HEAD = {**SETTINGS, "monitor": "average_precision_macro", "freeze": "backbone"}


def seek(out: Path, num_trials: int | None = 4, tell: Any = ignore, val: Annotations = VAL, **given: Any) -> Search:
    """Search the heads of a frozen backbone, in seconds."""
    more = {key: given.pop(key) for key in ("space", "budget", "num_repeats", "fixed") if key in given}
    more = {"num_repeats": 0, **more}
    config = TrainConfig(**{**HEAD, **given})
    return search(TRAIN, val, config, out=out, num_trials=num_trials, on_event=tell, **more)


def without_time(found: Search) -> list[Trial]:
    return [replace(trial, seconds=0.0) for trial in found.trials]


# ---------------------------------------------------------------------------------------------------------------------
# What is searched.
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("space", "name"), [(space, name) for space in SPACES for name in SPACES[space]])
def test_every_value_of_a_space_is_a_setting_and_the_default_is_one_of_them(space: str, name: str) -> None:
    knob, default = SPACES[space][name], getattr(TrainConfig(), name)
    if isinstance(knob, Range):
        assert knob.low <= default <= knob.high
        assert knob.round(default) == default
    else:
        assert default in knob.values
    for value in (knob.low, knob.high) if isinstance(knob, Range) else knob.values:
        check_names(TrainConfig(**{name: value}))


def test_a_budget_in_the_settings_of_a_trial_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^budget: a trial has a number of epochs; a budget is for the search"):
        search(TRAIN, VAL, TrainConfig(budget="1m"), out=tmp_path / "s", on_event=ignore)


@pytest.mark.parametrize(
    ("settings", "fixed", "searched"),
    [
        pytest.param({}, (), set(SPACES["full"]), id="all of it"),
        pytest.param({"freeze": "backbone"}, (), set(SPACES["head"]), id="a frozen backbone takes the space of heads"),
        pytest.param({"lr": 0.01}, ("ema",), set(SPACES["full"]) - {"lr", "ema"}, id="what was given is not searched"),
        pytest.param({"weights": "none"}, (), set(SPACES["full"]) - {"backbone_lr_ratio"}, id="no loaded weights"),
    ],
)
def test_what_is_given_or_has_no_part_is_not_searched(
    settings: dict[str, Any], fixed: tuple[str, ...], searched: set[str]
) -> None:
    assert set(choose_knobs(TrainConfig(**settings), None, fixed)[1]) == searched


def test_a_frozen_backbone_leaves_of_whole_runs_what_a_head_has() -> None:
    _, knobs = choose_knobs(TrainConfig(freeze="backbone"), "full", ())
    assert set(knobs) == {"lr", "weight_decay", "dropout", "loss", "ema"}


@pytest.mark.parametrize(
    ("settings", "more", "message"),
    [
        pytest.param({}, {"space": "haed"}, "--space: unknown space 'haed' (did you mean 'head'?)", id="no such space"),
        pytest.param({}, {"fixed": tuple(SPACES["head"])}, "nothing of the space head is left to search", id="nothing"),
        pytest.param({"monitor": "loss"}, {}, "the values of different losses cannot be compared", id="losses"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence_before_anything_is_written(
    settings: dict[str, Any], more: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        seek(tmp_path / "s", **settings, **more)
    assert message in str(caught.value)
    assert not (tmp_path / "s").exists()


# ---------------------------------------------------------------------------------------------------------------------
# Trials.
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """A search of three trials, repeated with one more seed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANYLABEL_CACHE", str(tmp_path_factory.mktemp("cache")))
        return seek(tmp_path_factory.mktemp("search") / "s", num_trials=3, num_repeats=1)


def test_the_first_trial_has_the_settings_as_given_and_the_files_say_what_was_found(found: Search) -> None:
    assert found.trials[0].settings == {name: getattr(TrainConfig(), name) for name in SPACES["head"]}
    assert [trial.number for trial in found.trials] == [1, 2, 3]
    rows = list(csv.DictReader((found.folder / "trials.csv").open(encoding="utf-8")))
    assert [row["loss"] for row in rows] == [trial.settings["loss"] for trial in found.trials]
    assert found.best is not None
    assert found.best.value == max(trial.value or 0.0 for trial in found.trials if trial.state == "finished")
    assert len(found.repeats) == len(found.first_repeats) == 1
    facts = json.loads((found.folder / "search.json").read_text("utf-8"))
    assert facts["repeats"] == list(found.repeats)
    assert facts["best"]["settings"] == found.best.settings


def test_best_toml_gives_train_the_settings_of_the_best(found: Search) -> None:
    config = TrainConfig(**load_config(found.folder / "best.toml"))
    assert config == found.config
    assert found.best is not None
    assert found.best.settings.items() <= config.to_dict().items()
    assert config.backbone == "test_resnet"


@pytest.mark.scenario
@pytest.mark.usefixtures("_quick")
def test_the_value_of_a_trial_is_that_of_a_run_with_its_settings(found: Search, tmp_path: Path) -> None:
    tried = found.trials[1]
    run = train(TRAIN, VAL, TrainConfig(**{**HEAD, **tried.settings}), out=tmp_path / "run", on_event=ignore)
    assert max(row["val_average_precision_macro"] for row in run.history) == tried.value


@pytest.mark.scenario
def test_the_same_seed_proposes_the_same_and_another_one_other_settings(tmp_path: Path) -> None:
    first, again, other = (seek(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert without_time(first) == without_time(again)
    assert [trial.settings for trial in first.trials] != [trial.settings for trial in other.trials]


@pytest.mark.scenario
def test_a_search_goes_on_where_it_was_and_repeats_no_finished_trial(tmp_path: Path) -> None:
    whole = seek(tmp_path / "whole", num_trials=5, num_repeats=1)
    trained: list[str] = []

    def hear(event: str, facts: Mapping[str, Any]) -> None:
        if event == "note" and "best" in str(facts["message"])[:25] and len(trained) == 0:
            trained.append("first")
            raise KeyboardInterrupt  # after the first trial was kept

    with pytest.raises(KeyboardInterrupt):
        seek(tmp_path / "parts", num_trials=5, num_repeats=1, tell=hear)
    seek(tmp_path / "parts", num_trials=3)
    steps: list[int] = []

    def count(event: str, facts: Mapping[str, Any]) -> None:
        if event == "step":
            steps.append(facts["step"])

    found = seek(tmp_path / "parts", num_trials=5, num_repeats=1, tell=count)
    assert without_time(found) == without_time(whole)
    assert (found.repeats, found.first_repeats) == (whole.repeats, whole.first_repeats)
    assert steps.count(1) == 2 + len({found.best.number, 1} if found.best else {1}), "two trials, and the repeats"
    steps.clear()
    again = seek(tmp_path / "parts", num_trials=5, num_repeats=1, tell=count)
    assert steps == []
    assert again.trials == found.trials


def test_a_trial_that_was_under_way_in_a_kill_is_marked_and_not_counted(tmp_path: Path) -> None:
    def kill(event: str, facts: Mapping[str, Any]) -> None:
        del facts
        if event == "step":
            raise SystemError

    with pytest.raises(SystemError):
        seek(tmp_path / "s", tell=kill)
    found = seek(tmp_path / "s", num_trials=1)
    assert [trial.state for trial in found.trials] == ["finished"]
    with sqlite3.connect(tmp_path / "s" / "study.db") as connection:
        states = [state for (state,) in connection.execute("SELECT state FROM trials ORDER BY number")]
    assert states == ["FAIL", "COMPLETE"]


def test_a_folder_of_a_search_that_was_killed_at_its_very_start_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "lock.db").touch()
    assert len(seek(tmp_path, num_trials=1).trials) == 1


@pytest.mark.scenario
def test_ctrl_c_keeps_what_is_finished_and_the_same_call_goes_on(tmp_path: Path) -> None:
    def press(event: str, facts: Mapping[str, Any]) -> None:
        if event == "note" and str(facts["message"]).lstrip().startswith("2 "):
            os.kill(os.getpid(), signal.SIGINT)

    found = seek(tmp_path / "s", num_repeats=2, tell=press)
    assert (len(found.trials), found.exit_code, found.repeats) == (2, 130, ())
    assert (tmp_path / "s" / "best.toml").is_file()
    assert len(seek(tmp_path / "s").trials) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"epochs": 3}, "the search was started with another epochs, got '3', expected '2'", id="epochs"),
        pytest.param({"fixed": ("ema",)}, "the search was started with another choice of what is searched", id="fixed"),
        pytest.param({"val": build_table(16, seed=5)}, "the search was started with another validation", id="data"),
    ],
)
@pytest.mark.scenario
def test_another_search_never_goes_on_with_these_trials(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    seek(tmp_path / "s", num_trials=1)
    with pytest.raises(RunError) as caught:
        seek(tmp_path / "s", **change)
    assert message in str(caught.value)


def test_a_folder_of_something_else_or_of_a_search_at_work_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(RunError, match="the folder holds something else than a search"):
        seek(tmp_path)

    def hear(event: str, facts: Mapping[str, Any]) -> None:
        del facts
        if event == "step":
            with pytest.raises(RunError, match="another search works in this folder"):
                seek(tmp_path / "s")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seek(tmp_path / "s", tell=hear)


@pytest.mark.scenario
def test_a_trial_that_cannot_be_trained_is_told_with_its_reason_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {"head": Choice(("linear", "csra,num_heads=7", "mlp"))}
    monkeypatch.setattr(search_spaces, "SPACES", {"head": space})
    build = trials.build_network

    def refuse(config: TrainConfig, train: Annotations) -> Any:
        if config.head.startswith("csra"):
            raise ConfigError("head: this backbone has no positions.")
        return build(config, train)

    monkeypatch.setattr(trials, "build_network", refuse)
    notes: list[str] = []
    found = seek(
        tmp_path / "s",
        num_trials=6,
        tell=lambda event, facts: notes.append(facts.get("message", "")) if event == "note" else None,
    )
    failed = [trial for trial in found.trials if trial.state == "failed"]
    assert {trial.settings["head"] for trial in failed} == {"csra,num_heads=7"}
    assert {trial.error for trial in failed} == {"head: this backbone has no positions."}
    assert any("failed" in note and "this backbone has no positions" in note for note in notes)
    assert found.best is not None


def test_settings_that_fail_as_given_stop_the_search(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        seek(tmp_path / "s", backbone="test_resnett")


@pytest.mark.scenario
def test_what_was_tried_already_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_spaces, "SPACES", {"head": {"ema": Choice((0.0, 0.9))}})
    steps: list[int] = []
    found = seek(
        tmp_path / "s", num_trials=6, tell=lambda event, facts: steps.append(facts["step"]) if event == "step" else None
    )
    assert len(found.trials) == 6
    assert steps.count(1) == 2
    values = {trial.settings["ema"]: {trial.value} for trial in found.trials if trial.state == "finished"}
    assert all(len(value) == 1 for value in values.values())


def test_a_trial_that_falls_behind_is_given_up(tmp_path: Path) -> None:
    study = Study(tmp_path / "s.db", {"lr": Range(0.1, 1)}, is_lower_better=False, seed=0, num_epochs=10)
    for value in (0.5, 0.6, 0.7, 0.8, 0.9):
        proposal = study.ask({"lr": 0.5})
        assert not any(proposal.note_epoch(epoch, value) for epoch in range(3))
        proposal.finish(Trial(proposal.number, "finished", proposal.settings, value))
    proposal = study.ask({"lr": 0.5})
    told = [proposal.note_epoch(epoch, 0.6) for epoch in range(3)]
    assert told == [False, False, True], "below the median of 0.7, after a fifth of the epochs"
    proposal.finish(Trial(proposal.number, "pruned", proposal.settings, 0.6))
    assert [trial.state for trial in study.trials] == ["finished"] * 5 + ["pruned"]
    best = study.best
    assert best is not None
    assert best.value == 0.9


@pytest.mark.scenario
def test_importance_finds_the_setting_that_matters(tmp_path: Path) -> None:
    knobs = {"lr": Range(0.0, 1.0), "dropout": Range(0.0, 0.5)}
    study = Study(tmp_path / "s.db", knobs, is_lower_better=True, seed=0, num_epochs=1)
    for _ in range(11):
        proposal = study.ask({"lr": 0.5, "dropout": 0.0})
        value = (proposal.settings["lr"] - 0.3) ** 2
        proposal.finish(Trial(proposal.number, "finished", proposal.settings, value))
        if len(study.trials) == 9:
            assert study.find_importance() == {}, "too few to say"
    importance = study.find_importance()
    assert importance["lr"] > 0.8
    assert sum(importance.values()) == pytest.approx(1)


# ---------------------------------------------------------------------------------------------------------------------
# Luck and time.
# ---------------------------------------------------------------------------------------------------------------------


def build_found(best: float, repeats: tuple[float, ...], first: tuple[float, ...], number: int = 3) -> Search:
    trial = Trial(number, "finished", {"lr": 0.1}, best)
    return Search(Path("s"), "head", "f1_macro", 100, (trial,), trial, TrainConfig(), repeats, first, {})


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        pytest.param(
            build_found(0.5, (0.44, 0.46), (0.40, 0.42)),
            "With other seeds the best is 0.0500 worse than it was when chosen. It beats the settings as given "
            "by 0.0400, with every seed.",
            id="better",
        ),
        pytest.param(
            build_found(0.5, (0.40, 0.46), (0.41, 0.42)),
            "With other seeds the best is 0.0700 worse than it was when chosen. It beats the settings as given "
            "by 0.0150, which is within what seeds do: take it for a draw.",
            id="a draw",
        ),
        pytest.param(
            build_found(0.5, (0.4, 0.4), (0.4, 0.5)),
            "With other seeds the best is 0.1000 worse than it was when chosen. Then the settings as given are "
            "as good or better: keep them.",
            id="only luck",
        ),
        pytest.param(
            build_found(0.5, (0.5, 0.6), (0.5, 0.6), number=1),
            "With other seeds the best is 0.0500 better than it was when chosen. No trial beat the settings as "
            "given: keep them.",
            id="the settings as given",
        ),
        pytest.param(build_found(0.5, (), ()), "", id="nothing was repeated"),
    ],
)
def test_what_of_the_best_is_luck_is_said(found: Search, sentence: str) -> None:
    assert found.describe_luck() == sentence


def test_a_budget_leaves_time_for_the_repeats(tmp_path: Path) -> None:
    found = seek(tmp_path / "s", num_trials=None, budget="0.1s", num_repeats=1)
    assert len(found.trials) == 1, "the first always fits"
    runner = trials.TrialRunner(_Past((9.0, 1.0, 3.0)), TrainConfig(), None, ignore, None)  # type: ignore[arg-type]
    assert not runner.is_time_over(27.0, 3)
    assert runner.is_time_over(26.9, 3), "13 s are spent, and 6 repeats and another trial need 2 s each"


class _Past:
    """A study of finished trials that took so long."""

    knobs: Mapping[str, Any] = {}

    def __init__(self, seconds: tuple[float, ...]) -> None:
        self.trials = [Trial(number, "finished", {}, 0.5, seconds=took) for number, took in enumerate(seconds)]
