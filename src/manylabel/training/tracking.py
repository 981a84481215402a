"""Trackers: what a run tells, passed on to TensorBoard, MLflow or Weights & Biases by Accelerate's tracker classes."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from accelerate import PartialState
from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker, WandBTracker

from manylabel.errors import ConfigError, build_message, join_names, join_problems, suggest_name
from manylabel.files import write_text_atomically
from manylabel.training.events import OnEvent

PROJECT = "manylabel"
"""What MLflow calls the experiment and Weights & Biases the project."""


@dataclass(frozen=True)
class TrackerKind:
    """How a tracker is built, which modules it can write with, and what installs one of them.

    `build` is given the tracker's folder, the name of the run, and the identity that an earlier part of this run had.
    """

    build: Callable[[Path, str, str | None], GeneralTracker]
    modules: tuple[str, ...]
    install: str


def _build_tensorboard(folder: Path, _: str, __: str | None) -> GeneralTracker:
    return TensorBoardTracker(folder.name, folder.parent)  # a folder is a run: more files in it go on with its curves


def _build_mlflow(folder: Path, run_name: str, run_id: str | None) -> GeneralTracker:
    # Left alone, importing it asks a server of its makers what to report, and reports it.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if "MLFLOW_TRACKING_URI" in os.environ:  # a server of the user's own
        return MLflowTracker(PROJECT, run_id=run_id, run_name=run_name)
    import mlflow

    folder.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').as_posix()}")
    return MLflowTracker(PROJECT, (folder / "artifacts").as_uri(), run_id=run_id, run_name=run_name)


def _build_wandb(folder: Path, run_name: str, run_id: str | None) -> GeneralTracker:
    # Left alone, it looks for a place to report its errors to, offline too.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    folder.mkdir(parents=True, exist_ok=True)
    return WandBTracker(
        os.environ.get("WANDB_PROJECT", PROJECT), name=run_name, id=run_id, dir=str(folder.parent),
        mode=os.environ.get("WANDB_MODE", "offline"), resume=None if run_id is None else "allow",
        settings={"console": "off", "silent": True},
    )  # fmt: skip


TRACKERS: Mapping[str, TrackerKind] = {
    "tensorboard": TrackerKind(_build_tensorboard, ("tensorboard", "tensorboardX"), "manylabel[track]"),
    "mlflow": TrackerKind(_build_mlflow, ("mlflow",), "mlflow"),
    "wandb": TrackerKind(_build_wandb, ("wandb",), "wandb"),
}


def parse_track(text: str) -> list[str]:
    """Read `tensorboard,mlflow`: the trackers to tell, each once; an empty text is none.

    Raises:
        ConfigError: no such tracker, or its package is not installed; all such are listed.

    Example:
        >>> parse_track("")
        []
    """
    names = list(dict.fromkeys(filter(None, (piece.strip() for piece in text.split(",")))))
    problems = []
    for name in names:
        if name not in TRACKERS:
            problem = f"unknown tracker {name!r}{suggest_name(name, TRACKERS)}"
            problems.append(build_message("track", problem, expected=join_names(list(TRACKERS))))
        elif not any(find_spec(module) for module in TRACKERS[name].modules):
            problem = f"{name} needs {' or '.join(TRACKERS[name].modules)}, which is not installed"
            problems.append(
                build_message("track", problem, do=f"Install it with: pip install '{TRACKERS[name].install}'")
            )
    if problems:
        raise ConfigError(join_problems(problems))
    return names


class Tracking:
    """The trackers of one run: a context manager whose `tell` is an `on_event` that they hear too.

    They change nothing: one that fails is told nothing more, and the run goes on. What each was told is kept beside its
    files, so that a run that goes on continues the same curves without a gap.
    """

    def __init__(self, trackers: Mapping[str, GeneralTracker], folder: Path, pass_on: OnEvent) -> None:
        self._trackers = dict(trackers)
        self._pass_on = pass_on
        self._state_path = folder / "state.json"
        self._states = _load_states(self._state_path)

    def __enter__(self) -> Tracking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._for_each(lambda _, tracker: tracker.finish())

    def tell(self, event: str, facts: Mapping[str, Any]) -> None:
        """Pass an event on, and an epoch to the trackers too."""
        self._pass_on(event, facts)
        if event == "epoch":
            self._for_each(lambda name, tracker: self._log_epochs(name, tracker, [facts]))

    def start(self, config: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> None:
        """Start every tracker, give it the settings, and the epochs that it was not told in an earlier part of the run.

        Raises:
            ConfigError: a tracker does not start.
        """
        started: list[GeneralTracker] = []
        for name, tracker in self._trackers.items():
            try:
                tracker.start()
                started.append(tracker)
                if name not in self._states:
                    tracker.store_init_configuration({key: _as_setting(value) for key, value in config.items()})
                    self._states[name] = {"run_id": _find_run_id(tracker), "num_epochs": 0}
                self._log_epochs(name, tracker, history[self._states[name]["num_epochs"] :])
            except Exception as error:
                for other in started:
                    with contextlib.suppress(Exception):
                        other.finish()
                problem = f"{name} does not start ({_describe(error)})"
                raise ConfigError(build_message("track", problem, do=f"Put it right, or leave {name} out")) from error
        self._save_states()

    def log_final(self, metrics: Mapping[str, float], num_epochs: int) -> None:
        """Give the trackers the figures of the whole run."""
        self._for_each(lambda _, tracker: tracker.log(_choose_numbers(metrics), step=num_epochs))

    def _log_epochs(self, name: str, tracker: GeneralTracker, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            if row["epoch"] < self._states[name]["num_epochs"]:
                continue  # told before: the run fell back to an older checkpoint
            tracker.log(_choose_numbers(row), step=row["epoch"] + 1)
            self._states[name]["num_epochs"] = row["epoch"] + 1
        self._save_states()

    def _for_each(self, act: Callable[[str, GeneralTracker], object]) -> None:
        """Do something with every tracker; one that fails is dropped with a warning, whatever went wrong in it."""
        for name, tracker in list(self._trackers.items()):
            try:
                act(name, tracker)
            except Exception as error:
                del self._trackers[name]
                message = f"Warning: the tracker {name} failed ({_describe(error)}) and is told nothing more."
                self._pass_on("note", {"message": f"{message} The run goes on; history.jsonl has every epoch."})

    def _save_states(self) -> None:
        if self._states:
            write_text_atomically(self._state_path, json.dumps(self._states, indent=2) + "\n")


def start_tracking(
    config: Mapping[str, Any],
    folder: Path,
    history: Sequence[Mapping[str, Any]],
    tell: OnEvent,
    *,
    run_name: str,
    is_resumed: bool,
) -> Tracking:
    """Return the trackers that the settings name, started, in the one process that writes.

    Args:
        config: all settings; `track` says which.
        folder: where everything of the trackers goes.
        history: the epochs so far.
        tell: who else is told.

    Raises:
        ConfigError: a tracker does not exist, is not installed or does not start.
    """
    place = folder.resolve()
    names = parse_track(config["track"]) if PartialState().is_main_process else []
    if names and not is_resumed:
        shutil.rmtree(place, ignore_errors=True)  # of a run that failed before its first checkpoint
    states = _load_states(place / "state.json")
    trackers = {
        name: TRACKERS[name].build(place / name, run_name, states.get(name, {}).get("run_id")) for name in names
    }
    tracking = Tracking(trackers, place, tell)
    tracking.start(config, history)
    return tracking


def _load_states(path: Path) -> dict[str, dict[str, Any]]:
    """Return what each tracker was told in an earlier part of the run; nothing where that cannot be read."""
    try:
        states = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return states if isinstance(states, dict) else {}


def _find_run_id(tracker: GeneralTracker) -> str | None:
    if isinstance(tracker, MLflowTracker):
        return str(tracker.tracker.info.run_id)
    return str(tracker.tracker.id) if isinstance(tracker, WandBTracker) else None


def _choose_numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what can be drawn as a curve: no texts, no flags, nothing undefined."""
    return {
        key: value
        for key, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and key != "epoch"
    }


def _as_setting(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)


def _describe(error: Exception) -> str:
    """Return an error in one line, without the pages that some libraries write."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
