"""Search: many short trainings with other settings, judged on validation, and how much of the best is luck."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from manylabel import __version__
from manylabel.data.annotations import Annotations
from manylabel.errors import ConfigError, RunError, build_message
from manylabel.files import write_text_atomically
from manylabel.metrics.summary import LOWER_IS_BETTER
from manylabel.runs.progress import TerminalProgress
from manylabel.runs.search_files import save_trials, settings_to_toml
from manylabel.runs.search_spaces import choose_knobs
from manylabel.runs.signals import stop_on_signal
from manylabel.runs.study import LOCK_NAME, Study, Trial, lock_folder
from manylabel.runs.tables import Tables, prepare_tables
from manylabel.runs.train import check_names
from manylabel.runs.trials import TrialRunner
from manylabel.training.config import TrainConfig, parse_budget_seconds
from manylabel.training.events import OnEvent
from manylabel.training.processes import check_alone

DEFAULT_TRIALS = 30

_WITHOUT_PART = (
    "resume", "track", "budget", "goal", "calibrate", "workers", "image_cache", "bad_images", "max_bad_images",
    "checkpoint_minutes",
)  # fmt: skip
"""Settings that change no trial, so that a search may go on with others."""


@dataclass(frozen=True)
class Search:
    """What a search found.

    `trials` are all that were tried, the first with the settings as given. `repeats` are the values of the best
    settings with other seeds, `first_repeats` those of the settings as given with the same seeds; `importance` is the
    share of the differences between trials that each setting explains. `config` has the best settings, for `train`.
    """

    folder: Path
    space: str
    monitor: str
    num_val: int
    trials: tuple[Trial, ...]
    best: Trial | None
    config: TrainConfig
    repeats: tuple[float, ...]
    first_repeats: tuple[float, ...]
    importance: Mapping[str, float]
    exit_code: int = 0

    @property
    def is_lower_better(self) -> bool:
        """Whether a small value of the monitored metric is a good one."""
        return _is_lower_better(self.monitor)

    def describe_luck(self) -> str:
        """Return what of the best value is luck, and whether its settings are better than those given."""
        if self.best is None or self.best.value is None or not self.repeats:
            return ""
        sign = -1.0 if self.is_lower_better else 1.0
        luck = sign * (self.best.value - statistics.mean(self.repeats))
        word = "worse" if luck >= 0 else "better"
        told = f"With other seeds the best is {abs(luck):.4f} {word} than it was when chosen."
        if self.best.number == 1:
            return f"{told} No trial beat the settings as given: keep them."
        gain = sign * (statistics.mean(self.repeats) - statistics.mean(self.first_repeats))
        worst, other = min(sign * value for value in self.repeats), max(sign * value for value in self.first_repeats)
        if gain <= 0:
            return f"{told} Then the settings as given are as good or better: keep them."
        if worst > other:
            return f"{told} It beats the settings as given by {gain:.4f}, with every seed."
        return (
            f"{told} It beats the settings as given by {gain:.4f}, which is within what seeds do: take it for a draw."
        )


def search(
    train: Annotations,
    val: Annotations | None = None,
    config: TrainConfig | None = None,
    *,
    out: str | os.PathLike[str],
    space: str | None = None,
    num_trials: int | None = None,
    budget: str = "",
    num_repeats: int = 3,
    fixed: Collection[str] = (),
    on_event: OnEvent | None = None,
) -> Search:
    """Try settings of a named space, and say which are best on validation and how much of that is luck.

    What `out` holds of an earlier call with the same data and settings goes on; finished trials are never repeated.
    The first trial has the settings as given; a trial that falls behind is given up. The best and the given settings
    are then trained again with `num_repeats` other seeds each.

    Args:
        train: the images to learn from.
        val: the images that judge; None takes a stratified 15 % of `train` away. Test images have no part in a search.
        config: the settings of every trial; those that differ from the defaults are not searched.
        out: a folder for `study.db`, `trials.csv`, `search.json` and `best.toml`.
        space: a name of `SPACES`; None takes `head` for a frozen backbone, else `full`.
        num_trials: how many; None is 30, or as many as fit into `budget`.
        budget: time for all of it, such as "20m"; the repeats at the end are part of it.
        fixed: more names that are not searched.
        on_event: told what happens; None shows progress on the terminal.

    Raises:
        DataError, ConfigError, RunError: see the message.
    """
    settings = replace(config if config is not None else TrainConfig(), resume=False, track="")
    if on_event is None:
        with TerminalProgress() as progress:
            return search(
                train, val, settings, out=out, space=space, num_trials=num_trials, budget=budget,
                num_repeats=num_repeats, fixed=fixed, on_event=progress,
            )  # fmt: skip
    if settings.budget:
        problem = "a trial has a number of epochs; a budget is for the search as a whole"
        raise ConfigError(build_message("budget", problem, do="Give it to search, and --epochs to the trials"))
    check_alone("search")
    check_names(settings)
    name, knobs = choose_knobs(settings, space, fixed)
    seconds = parse_budget_seconds(budget) if budget else math.inf
    most = num_trials if num_trials is not None else DEFAULT_TRIALS if not budget else 10**9
    tables = prepare_tables(train, val, None, settings.seed, on_event)
    folder = _open_folder(Path(out))
    with lock_folder(folder), stop_on_signal(lambda: on_event("note", {"message": _STOPPING})) as request:
        study = Study(
            folder / "study.db", knobs, is_lower_better=_is_lower_better(settings.monitor), seed=settings.seed,
            num_epochs=settings.epochs,
        )  # fmt: skip
        _check_identity(study, folder, _identify(name, list(knobs), settings, tables))
        trials = TrialRunner(study, settings, tables, on_event, request)
        on_event("note", {"message": f"Space {name}: {', '.join(knobs)}. {len(study.trials)} trials are done."})
        while not request() and len(study.trials) < most and not trials.is_time_over(seconds, num_repeats):
            trials.run_one()
            save_trials(folder / "trials.csv", study.trials, list(knobs))
        found = _conclude(trials, folder, name, num_repeats)
    save_trials(folder / "trials.csv", found.trials, list(knobs))
    _save_result(found)
    return found


_STOPPING = "Stopping here; the same command goes on. Press Ctrl-C again to leave at once."


def _conclude(trials: TrialRunner, folder: Path, name: str, num_repeats: int) -> Search:
    """Repeat the best and the given settings with other seeds, and put everything together."""
    study, settings = trials.study, trials.settings
    best = study.best
    repeats: list[float] = []
    first_repeats: list[float] = []
    if best is not None and not trials.request():
        for values, kept in ((best.settings, repeats), (trials.first, first_repeats)):
            seeds = range(settings.seed + 1, settings.seed + 1 + num_repeats)
            kept.extend(value for seed in seeds if (value := trials.repeat(values, seed)) is not None)
    if len(repeats) < num_repeats or len(first_repeats) < num_repeats:  # stopped in between
        repeats, first_repeats = [], []
    return Search(
        folder, name, settings.monitor, len(trials.tables.val), study.trials, best,
        settings if best is None else replace(settings, **best.settings), tuple(repeats), tuple(first_repeats),
        study.find_importance(), trials.request.exit_code,
    )  # fmt: skip


def _is_lower_better(monitor: str) -> bool:
    return monitor == "loss" or monitor in LOWER_IS_BETTER


def _open_folder(folder: Path) -> Path:
    is_search = (folder / LOCK_NAME).is_file()  # it is there first, so also after a kill at the start
    if folder.exists() and not is_search and (not folder.is_dir() or any(folder.iterdir())):
        problem = "the folder holds something else than a search"
        raise RunError(build_message(folder, problem, do="Choose another --out, or remove it"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _identify(space: str, knobs: Sequence[str], config: TrainConfig, tables: Tables) -> dict[str, str]:
    """Return what has to be the same when a search goes on."""
    kept = {key: value for key, value in config.to_dict().items() if key not in _WITHOUT_PART}
    return {
        "space": space,
        "choice of what is searched": ", ".join(knobs),
        "training table": tables.train.digest,
        "validation table": tables.val.digest,
        **{key: json.dumps(value) for key, value in kept.items()},
    }


def _check_identity(study: Study, folder: Path, identity: Mapping[str, str]) -> None:
    """Refuse to go on with another search's trials.

    Raises:
        RunError: the folder's trials were made with other data or settings; the message says which.
    """
    saved = study.recall("identity")
    if saved is None:
        study.remember("identity", dict(identity))
        return
    for key, value in identity.items():
        if saved.get(key) != value:
            raise RunError(
                build_message(
                    folder, f"the search was started with another {key}", got=value, expected=repr(saved.get(key)),
                    do="Go on with the same data and settings, or choose another --out",
                )
            )  # fmt: skip


def _save_result(found: Search) -> None:
    """Write what was found, for programs and, as settings, for `train --config`."""
    facts = {
        "space": found.space,
        "monitor": found.monitor,
        "num_val": found.num_val,
        "num_trials": len(found.trials),
        "best": None if found.best is None else asdict(found.best),
        "repeats": found.repeats,
        "first_repeats": found.first_repeats,
        "importance": dict(found.importance),
        "config": found.config.to_dict(),
        "manylabel": __version__,
    }
    write_text_atomically(found.folder / "search.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    if found.best is not None:
        head = f"# The best of {len(found.trials)} trials: {found.monitor} {found.best.value:.4f} on validation.\n"
        write_text_atomically(found.folder / "best.toml", head + settings_to_toml(found.config, found.best.settings))
