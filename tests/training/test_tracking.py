"""Trackers: told every epoch once, never in the way of a run."""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from accelerate.tracking import GeneralTracker

from manylabel.errors import ConfigError
from manylabel.training import tracking as module
from manylabel.training.tracking import TRACKERS, TrackerKind, Tracking, parse_track, start_tracking


class FakeTracker(GeneralTracker):
    """Keeps what it is told; `breaks` names the call that fails."""

    name = "fake"
    requires_logging_directory = False

    def __init__(self, breaks: str = "") -> None:
        super().__init__()
        self.breaks = breaks
        self.calls: list[tuple[Any, ...]] = []

    @property
    def tracker(self) -> None:
        return None

    def _note(self, *call: Any) -> None:
        if call[0] == self.breaks:
            raise ConnectionError("no server\nand two pages of advice")
        self.calls.append(call)

    def start(self) -> None:
        self._note("start")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self._note("config", values)

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self._note("log", step, values)

    def finish(self) -> None:
        self._note("finish")


Told = list[tuple[str, Mapping[str, Any]]]


def begin(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    tracker: FakeTracker,
    told: Told | None = None,
    history: Any = (),
    is_resumed: bool = False,
) -> Tracking:
    kind = TrackerKind(lambda *_: tracker, ("json",), "fake")
    monkeypatch.setattr(module, "TRACKERS", {"fake": kind, "other": kind})
    config = {"track": "fake", "lr": 0.1, "backbone_args": {"a": 1}}
    notes = told if told is not None else []
    return start_tracking(
        config, folder, history, lambda *event: notes.append(event), run_name="run", is_resumed=is_resumed
    )


def build_epoch(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "step": 7, "val_loss": 0.5, "val_f1": math.nan, "monitor": "loss", "is_best": True}


def test_a_tracker_hears_the_settings_every_epoch_and_the_figures_of_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tracker, told = FakeTracker(), []
    with begin(monkeypatch, tmp_path / "tracking", tracker, told) as tracking:
        tracking.tell("step", {"loss": 1.0})
        tracking.tell("epoch", build_epoch(0))
        tracking.log_final({"final_val_f1_macro": 0.25, "final_val_roc_auc_macro": math.nan}, 1)
    assert tracker.calls == [
        ("start",),
        ("config", {"track": "fake", "lr": 0.1, "backbone_args": '{"a": 1}'}),
        ("log", 1, {"step": 7, "val_loss": 0.5}),
        ("log", 1, {"final_val_f1_macro": 0.25}),
        ("finish",),
    ]
    assert told == [("step", {"loss": 1.0}), ("epoch", build_epoch(0))]


def test_a_run_that_goes_on_tells_what_was_missed_and_nothing_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with begin(monkeypatch, tmp_path, FakeTracker()) as tracking:
        tracking.tell("epoch", build_epoch(0))
    second = FakeTracker()
    history = [build_epoch(0), build_epoch(1)]  # killed after its checkpoint, before the second epoch was told
    with begin(monkeypatch, tmp_path, second, history=history, is_resumed=True) as tracking:
        tracking.tell("epoch", build_epoch(2))
    assert [(call[0], call[1]) for call in second.calls if call[0] == "log"] == [("log", 2), ("log", 3)]
    assert "config" not in {call[0] for call in second.calls}


def test_a_tracker_that_joins_later_hears_of_all_epochs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tracker = FakeTracker()
    history = [build_epoch(0), build_epoch(1)]
    begin(monkeypatch, tmp_path, tracker, history=history, is_resumed=True)
    assert [call[1] for call in tracker.calls if call[0] == "log"] == [1, 2]


def test_a_new_run_clears_what_an_abandoned_one_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with begin(monkeypatch, tmp_path / "t", FakeTracker()) as tracking:
        tracking.tell("epoch", build_epoch(0))
    tracker = FakeTracker()
    with begin(monkeypatch, tmp_path / "t", tracker) as tracking:
        tracking.tell("epoch", build_epoch(0))
    assert [call[0] for call in tracker.calls] == ["start", "config", "log", "finish"]


@pytest.mark.parametrize("call", ["log", "finish"])
def test_a_tracker_that_fails_in_mid_run_is_warned_of_once_and_dropped(
    call: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: Told = []
    with begin(monkeypatch, tmp_path, FakeTracker(breaks=call), told) as tracking:
        for epoch in range(3):
            tracking.tell("epoch", build_epoch(epoch))
        tracking.log_final({"final_val_f1_macro": 0.25}, 3)
    notes = [facts["message"] for event, facts in told if event == "note"]
    assert notes == [
        "Warning: the tracker fake failed (ConnectionError: no server) and is told nothing more. "
        "The run goes on; history.jsonl has every epoch."
    ]
    assert [event for event, _ in told if event == "epoch"] == ["epoch"] * 3


@pytest.mark.parametrize("call", ["start", "config"])
def test_a_tracker_that_does_not_start_stops_the_run_before_it_begins(
    call: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        begin(monkeypatch, tmp_path, FakeTracker(breaks=call))
    assert str(caught.value) == (
        "track: fake does not start (ConnectionError: no server). Put it right, or leave fake out."
    )


def test_trackers_that_have_started_are_ended_where_another_one_does_not_start(tmp_path: Path) -> None:
    first, other, second, third = (FakeTracker(breaks) for breaks in ("finish", "", "start", ""))
    told: Told = []
    trackers = {"first": first, "other": other, "second": second, "third": third}
    tracking = Tracking(trackers, tmp_path, lambda *event: told.append(event))
    with pytest.raises(ConfigError, match="second does not start"):
        tracking.start({}, [])
    assert [call[0] for call in other.calls] == ["start", "config", "finish"]
    assert second.calls == third.calls == []
    assert told == [], "the run does not go on"


def test_names_that_do_not_exist_are_listed_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_track("tensorbord, none")
    assert str(caught.value) == (
        "track: unknown tracker 'tensorbord' (did you mean 'tensorboard'?), expected tensorboard, mlflow, wandb.\n"
        "track: unknown tracker 'none', expected tensorboard, mlflow, wandb."
    )


def test_a_package_that_is_not_installed_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(ConfigError) as caught:
        parse_track("tensorboard,wandb")
    assert str(caught.value) == (
        "track: tensorboard needs tensorboard or tensorboardX, which is not installed. "
        "Install it with: pip install 'manylabel[track]'.\n"
        "track: wandb needs wandb, which is not installed. Install it with: pip install 'wandb'."
    )


def test_a_tracker_that_is_named_twice_is_told_once() -> None:
    assert parse_track("tensorboard, tensorboard,") == ["tensorboard"]
    assert parse_track(" , ") == []


@pytest.mark.parametrize(
    ("name", "tracker", "variable", "silent"),
    [
        ("mlflow", "MLflowTracker", "MLFLOW_DISABLE_TELEMETRY", "true"),
        ("wandb", "WandBTracker", "WANDB_ERROR_REPORTING", "false"),
    ],
)
@pytest.mark.parametrize("own_choice", [None, "whatever the user says"])
def test_a_tracker_reports_nothing_to_its_makers_unless_the_user_says_so(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    tracker: str,
    variable: str,
    silent: str,
    own_choice: str | None,
) -> None:
    seen = []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv(variable, "")  # so that what is set here is put back
    if own_choice is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, own_choice)
    monkeypatch.setattr(module, tracker, lambda *_, **__: seen.append(os.environ.get(variable)))
    TRACKERS[name].build(tmp_path, "first", None)
    assert seen == [silent if own_choice is None else own_choice]


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="mlflow is no part of the tested set")
def test_mlflow_keeps_its_run_over_a_pause_in_files_of_the_run(tmp_path: Path) -> None:
    import mlflow

    for epoch in (0, 1):
        history = [build_epoch(past) for past in range(epoch)]
        with start_tracking(
            {"track": "mlflow"}, tmp_path, history, lambda *_: None, run_name="first", is_resumed=epoch > 0
        ) as tracking:
            tracking.tell("epoch", build_epoch(epoch))
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}")
    (experiment,) = (found for found in client.search_experiments() if found.name == "manylabel")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "first"
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "val_loss")] == [1, 2]


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is no part of the tested set")
def test_wandb_writes_offline_into_the_folder_of_the_run(tmp_path: Path) -> None:
    with start_tracking(
        {"track": "wandb"}, tmp_path, [], lambda *_: None, run_name="first", is_resumed=False
    ) as tracking:
        tracking.tell("epoch", build_epoch(0))
    run_id = json.loads((tmp_path / "state.json").read_text("utf-8"))["wandb"]["run_id"]
    (log,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert log.name == f"run-{run_id}.wandb"
