"""Study: the trials of a search on disk, from which it goes on after a kill; the one place that knows Optuna."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from manylabel.errors import RunError, build_message
from manylabel.runs.search_spaces import Knob, Range

LOCK_NAME = "lock.db"
"""A file that a search keeps open in its folder: SQLite's own lock on it ends with the process."""

_NAME = "search"
_MIN_TRIALS_FOR_IMPORTANCE = 10
"""With fewer the forest that importance is read from has seen next to nothing."""

_MEDIAN_TRIALS = 5
"""Trials before the first may be given up: their median is what a trial is compared with."""


@dataclass(frozen=True)
class Trial:
    """One set of settings that was tried.

    `state` is `finished`, `pruned` (given up as hopeless) or `failed` (`error` says why). `value` is that of the best
    epoch, None where there is none.
    """

    number: int
    state: str
    settings: Mapping[str, Any]
    value: float | None = None
    best_epoch: int = 0
    num_epochs: int = 0
    seconds: float = 0.0
    error: str = ""


class Study:
    """Trials in one SQLite file, each written when it ends; one that was under way in a kill does not count.

    The seed of what is proposed depends on how many trials count, so that a search that was interrupted proposes what
    it would have proposed anyway.
    """

    def __init__(
        self, path: Path, knobs: Mapping[str, Knob], *, is_lower_better: bool, seed: int, num_epochs: int
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.knobs = knobs
        self._is_lower_better = is_lower_better
        self._seed = seed
        self._distributions = {name: _build_distribution(knob) for name, knob in knobs.items()}
        self._study = optuna.create_study(
            storage=f"sqlite:///{path.resolve().as_posix()}",
            study_name=_NAME,
            direction="minimize" if is_lower_better else "maximize",
            pruner=optuna.pruners.MedianPruner(_MEDIAN_TRIALS, n_warmup_steps=max(1, num_epochs // 5)),
            load_if_exists=True,
        )
        for left in self._study.get_trials(states=(TrialState.RUNNING,)):
            _close(self._study, left.number, left.user_attrs.get("outcome"))

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The trials that count, in order, numbered from 1."""
        kept = [found for found in self._study.get_trials(deepcopy=False) if "outcome" in found.user_attrs]
        return tuple(
            Trial(**{**found.user_attrs["outcome"], "number": number}) for number, found in enumerate(kept, start=1)
        )

    @property
    def best(self) -> Trial | None:
        """The finished trial with the best value; the first of equals."""
        finished = [trial for trial in self.trials if trial.state == "finished" and trial.value is not None]
        sign = 1 if self._is_lower_better else -1
        return min(finished, key=lambda trial: sign * (trial.value or 0.0), default=None)

    def remember(self, key: str, value: Any) -> None:
        """Keep a JSON-able fact with the trials."""
        self._study.set_user_attr(key, value)

    def recall(self, key: str) -> Any:
        """Return a fact, None where it was never kept."""
        return self._study.user_attrs.get(key)

    def ask(self, first: Mapping[str, Any]) -> Proposal:
        """Return what to try next; `first` is tried before all others."""
        num_tried = len(self.trials)
        if num_tried == 0 and not self._study.get_trials(states=(TrialState.WAITING,)):  # one waits after a kill
            self._study.enqueue_trial(dict(first))
        self._study.sampler = optuna.samplers.TPESampler(seed=(self._seed * 1_000_003 + num_tried) % 2**32)
        asked = self._study.ask(self._distributions)
        settings = {
            name: knob.round(asked.params[name]) if isinstance(knob := self.knobs[name], Range) else asked.params[name]
            for name in self.knobs
        }
        return Proposal(self._study, asked, num_tried + 1, settings)

    def find_importance(self) -> dict[str, float]:
        """Return the share of the variance of the finished trials that each setting explains; {} with too few trials.

        Source: Hutter, Hoos and Leyton-Brown 2014, "An efficient approach for assessing hyperparameter importance"
            (functional ANOVA over a forest).
        """
        values = {trial.value for trial in self.trials if trial.state == "finished"}
        num_finished = sum(trial.state == "finished" for trial in self.trials)
        if num_finished < _MIN_TRIALS_FOR_IMPORTANCE or len(values) < 2:
            return {}
        if len(self.knobs) == 1:
            return dict.fromkeys(self.knobs, 1.0)
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self._seed)
        found = optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        return {name: float(share) for name, share in found.items() if not math.isnan(share)}


@dataclass(frozen=True)
class Proposal:
    """Settings to try; what comes of it is told epoch by epoch and at the end."""

    study: optuna.Study
    asked: optuna.Trial
    number: int
    settings: Mapping[str, Any]

    def note_epoch(self, epoch: int, best_value: float) -> bool:
        """Take the best value so far, and return whether the trial is hopeless: worse than the median at this epoch."""
        if math.isnan(best_value):
            return False
        self.asked.report(best_value, epoch)
        return self.asked.should_prune()

    def finish(self, outcome: Trial) -> None:
        """Keep what came of it."""
        self.asked.set_user_attr("outcome", asdict(outcome))
        _close(self.study, self.asked.number, asdict(outcome))

    def withdraw(self) -> None:
        """Say that it was interrupted, so that it does not count."""
        _close(self.study, self.asked.number, None)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep a second search out of a folder while this one works; the lock of a killed one is gone with it.

    Raises:
        RunError: another one works there.
    """
    with closing(sqlite3.connect(folder / LOCK_NAME, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            problem = "another search works in this folder"
            raise RunError(build_message(folder, problem, do="Wait for it, or choose another --out")) from error
        yield


def _close(study: optuna.Study, number: int, outcome: Mapping[str, Any] | None) -> None:
    """End a trial as its outcome says; one without was interrupted."""
    if outcome is None:
        study.tell(number, state=TrialState.FAIL)
    elif outcome["state"] == "finished":
        study.tell(number, outcome["value"])
    else:  # to Optuna a failure is a trial that was given up: it then looks elsewhere
        study.tell(number, state=TrialState.PRUNED)


def _build_distribution(knob: Knob) -> BaseDistribution:
    if isinstance(knob, Range):
        return FloatDistribution(knob.low, knob.high, log=knob.is_log)
    return CategoricalDistribution(knob.values)
