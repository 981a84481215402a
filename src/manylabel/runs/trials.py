"""Trials: short trainings of which only the value on validation is kept."""

from __future__ import annotations

import math
import statistics
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from manylabel.errors import ConfigError, ManylabelError, build_message
from manylabel.runs.search_spaces import collect_values
from manylabel.runs.signals import StopRequest
from manylabel.runs.study import Proposal, Study, Trial
from manylabel.runs.tables import Tables
from manylabel.training.checkpoints import Progress
from manylabel.training.config import TrainConfig
from manylabel.training.events import OnEvent
from manylabel.training.loop import is_better, run_loop
from manylabel.training.setup import build_network, build_setup
from manylabel.training.workers import name_dead_workers


@dataclass(frozen=True)
class TrialRunner:
    """Trains what a study proposes, on one pair of tables; `request` is asked for an end between steps."""

    study: Study
    settings: TrainConfig
    tables: Tables
    tell: OnEvent
    request: StopRequest

    @property
    def first(self) -> dict[str, Any]:
        """The values that the settings as given have of what is searched."""
        return collect_values(self.settings, self.study.knobs)

    def run_one(self) -> None:
        """Try what the study proposes; what was tried already keeps its outcome."""
        proposal = self.study.ask(self.first)
        twin = next((trial for trial in self.study.trials if trial.settings == proposal.settings), None)
        outcome = replace(twin, seconds=0.0) if twin is not None else self._try(proposal)
        if outcome is None:
            proposal.withdraw()
            return
        best = self.study.best
        proposal.finish(outcome)
        now = self.study.best
        is_best = now is not None and (best is None or now.number != best.number)
        self.tell("note", {"message": _describe_trial(self.study.trials[-1], self.first, is_best)})

    def _try(self, proposal: Proposal) -> Trial | None:
        """Return what came of a proposal; None where somebody asked for an end."""
        started, is_first = time.perf_counter(), proposal.number == 1
        hopeless: list[bool] = []
        values: list[float] = []

        def hear(event: str, facts: Mapping[str, Any]) -> None:
            if event == "epoch":
                value = facts[f"val_{self.settings.monitor}"]
                if not values or is_better(value, values[-1], self.settings.monitor):
                    values.append(value)
                hopeless.append(proposal.note_epoch(facts["epoch"], values[-1]))
            elif event != "note" or is_first:
                self.tell(event, facts)

        error = ""
        progress = Progress()
        try:
            status = self._train(
                proposal.settings, self.settings.seed, progress, hear, lambda: any(hopeless) or self.request()
            )
        except ManylabelError as problem:
            if is_first or isinstance(problem.__cause__, OSError):  # then all would fail
                raise
            status, error = "failed", str(problem)
        if status == "stopped" and not any(hopeless):
            return None
        state = {"stopped": "pruned", "failed": "failed"}.get(status, "finished")
        value = None if math.isnan(progress.best_value) else progress.best_value
        if value is None and not error:
            error = f"{self.settings.monitor} is undefined"
            if is_first:
                raise ConfigError(build_message("--monitor", f"{error} on the validation images", do="Choose another"))
        return Trial(
            proposal.number, "failed" if error else state, dict(proposal.settings), value, progress.best_epoch + 1,
            len(progress.history), time.perf_counter() - started, error,
        )  # fmt: skip

    def repeat(self, values: Mapping[str, Any], seed: int) -> float | None:
        """Return the value of some settings with another seed, trained once; None where somebody asked for an end."""
        kept = self.study.recall("repeats")
        rows: list[dict[str, Any]] = [] if kept is None else list(kept)
        for row in rows:
            if row["settings"] == dict(values) and row["seed"] == seed:
                return float(row["value"])
        message = f"Once more with seed {seed}: {_describe_settings(values, self.first)}."
        self.tell("note", {"message": textwrap.fill(message, 80, subsequent_indent="  ")})
        progress = Progress()

        def hear(event: str, facts: Mapping[str, Any]) -> None:
            if event not in ("epoch", "note"):
                self.tell(event, facts)

        status = self._train(values, seed, progress, hear, self.request)
        if status == "stopped":
            return None
        self.study.remember("repeats", [*rows, {"settings": dict(values), "seed": seed, "value": progress.best_value}])
        return progress.best_value

    def is_time_over(self, budget_seconds: float, num_repeats: int) -> bool:
        """Return whether another trial, and the repeats after it, no longer fit; the first always does."""
        spent = [trial.seconds for trial in self.study.trials]
        if not spent:
            return False
        whole = [trial.seconds for trial in self.study.trials[1:] if trial.state == "finished" and trial.seconds > 0]
        one = statistics.mean(whole) if whole else spent[0]
        return sum(spent) + (2 * num_repeats + 1) * one > budget_seconds

    def _train(
        self,
        values: Mapping[str, Any],
        seed: int,
        progress: Progress,
        tell: OnEvent,
        should_stop: Callable[[], bool],
    ) -> str:
        """Train with some settings and throw the weights away; `progress` is left with what came of it."""
        config = replace(self.settings, **values, seed=seed)
        precision = self.study.recall("precision")
        if precision is not None:  # measured once for all
            config = replace(config, precision=precision)
        with tempfile.TemporaryDirectory() as folder, name_dead_workers():
            checkpoints = Path(folder) / "checkpoints"
            checkpoints.mkdir()
            network = build_network(config, self.tables.train)
            setup = build_setup(config, network, self.tables.train, self.tables.val, checkpoints, tell)
            self.study.remember("precision", setup.precision.precision)
            return run_loop(setup.parts, progress, tell, should_stop)


def _describe_trial(trial: Trial, first: Mapping[str, Any], is_best: bool) -> str:
    """Return the line of a trial: its value, its time, and where it differs from the settings as given."""
    value = "-" if trial.value is None else f"{trial.value:.4f}"
    word = "best" if is_best else "" if trial.state == "finished" else trial.state
    line = f"{trial.number:>4} {value:>8} {word:<6} {trial.seconds:>6.1f} s  "
    told = textwrap.fill(
        _describe_settings(trial.settings, first), 80, initial_indent=line, subsequent_indent=" " * len(line)
    )
    return f"{told}\n{'':>13} {trial.error}" if trial.error else told


def _describe_settings(values: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    words = [f"{name} {show_value(value)}" for name, value in values.items() if first.get(name) != value]
    return ", ".join(words) if words else "as given"


def show_value(value: Any) -> str:
    """Return a setting as a person writes it."""
    return f"{value:g}" if isinstance(value, float) else str(value)
